"""`maskwire bench`: loads a running service and shows what its callers would have felt."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from ..load import (
    Capacity,
    CapacityGoal,
    LoadPlan,
    LoadResult,
    PicturePool,
    check_installed,
    moving_frames,
    pool_of_folder,
    report,
    synthetic_pool,
)
from .bench_options import LoadOptions, parse_size
from .bench_output import capacity_tables, capacity_to_json, result_tables, write_files
from .bench_run import measure, search
from .console import print_json, results
from .exit_codes import ExitCode
from .failures import CommandFailure

__all__ = ["EPILOG", "application"]

EXAMPLES = """\
maskwire bench load --server localhost:50051 --rate 20 --duration 60
maskwire bench load --server localhost:50051 --mix segment=8,auto=1,job=1 --repeat-share 0.9
maskwire bench load --server localhost:50051 --mix '' --cameras 8 --fps 15
maskwire bench load --server localhost:50051 --find-capacity --goal-p99 0.2 --out bench-output
"""
EPILOG = f"Examples\n\n```text\n{EXAMPLES}\n```"
_CAMERA_FRAMES = 32

application = typer.Typer(
    name="bench", help="Load a running service and measure it.", no_args_is_help=True
)


@application.callback()
def bench() -> None:
    """Load a running service and measure it."""


@application.command("load", epilog=EPILOG)
def load(**values: Any) -> None:
    """Make calls at random instants, a Poisson process, whether or not the service keeps up.

    Latency runs from the instant at which a call was due. New pictures are ones that no server has
    seen. Percentiles are of the calls that succeeded; the others are counted by their status.
    """
    options = LoadOptions(**values)
    with _told_as_usage():
        check_installed()
        plan = options.plan()
        scenes = _Scenes(plan, options.images, parse_size(options.size), options.pictures)
    if options.find_capacity:
        searching = search(plan, options.goal, options.growth, scenes.pool, scenes.frames)
        capacity = asyncio.run(searching)
        _show_capacity(capacity, options.goal, options.out, as_json=options.as_json)
    else:
        result = asyncio.run(measure(plan, scenes.pool, scenes.frames))
        _show_result(result, options.out, as_json=options.as_json)
        _judge(result, options.max_failures)


# The parser takes its options from the signature: they are the fields, written down once.
load.__signature__ = inspect.signature(LoadOptions, eval_str=True)  # type: ignore[attr-defined]


@contextmanager
def _told_as_usage() -> Iterator[None]:
    """Turn what speaks against a plan into a failure of the command."""
    try:
        yield
    except (ModuleNotFoundError, OSError, ValueError) as error:
        raise CommandFailure(str(error), ExitCode.USAGE) from error


class _Scenes:
    """What calls and cameras show.

    Raises:
        OSError: The folder cannot be read.
        ValueError: It holds no images.
    """

    def __init__(
        self, plan: LoadPlan, images: Path | None, size: tuple[int, int], count: int
    ) -> None:
        width_px, height_px = size
        self.pool: PicturePool = (
            synthetic_pool(count, width_px, height_px, plan.seed)
            if images is None
            else pool_of_folder(images)
        )
        self.frames = moving_frames(_CAMERA_FRAMES, width_px, height_px, plan.seed)


def _show_result(result: LoadResult, out: Path | None, *, as_json: bool) -> None:
    written = write_files(result, out) if out is not None else []
    if as_json:
        print_json({**report(result), "files": [str(path) for path in written]})
    else:
        results().print(result_tables(result, written))


def _show_capacity(
    capacity: Capacity, goal: CapacityGoal, out: Path | None, *, as_json: bool
) -> None:
    written: Sequence[Path] = ()
    kept = [step for step in capacity.steps if step.is_kept]
    if out is not None and capacity.steps:
        shown = max(kept, key=lambda step: step.rate_per_s) if kept else capacity.steps[0]
        written = write_files(shown.result, out, capacity_to_json(capacity, goal))
    if as_json:
        document = capacity_to_json(capacity, goal)
        print_json({**document, "files": [str(path) for path in written]})
    else:
        results().print(capacity_tables(capacity, goal, written))
    if not kept:
        raise CommandFailure("no rate that was tried kept the goal", ExitCode.OVERLOADED)


def _judge(result: LoadResult, max_failures: int) -> None:
    """Fail where more went wrong than was to be accepted.

    Raises:
        CommandFailure: It did.
    """
    recorder = result.recorder
    failures = recorder.failed + recorder.shed + result.sessions.unaccounted
    if failures > max_failures:
        raise CommandFailure(
            f"{failures:,} calls or frames failed or were shed; {max_failures:,} are accepted",
            ExitCode.UNEXPECTED,
            *[f"the first: {one.code} {one.message}" for one in recorder.kept_failures[:1]],
        )
