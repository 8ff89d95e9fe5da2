"""`maskwire doctor`: examines the installation or a reconstruction engine, and says what it saw."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image
from rich.table import Table
from rich.text import Text

from .connection import ConfigOption, read_settings, server_module
from .console import messages, print_json, results
from .exit_codes import ExitCode
from .failures import CommandFailure

__all__ = ["doctor"]

_ALL = "all"
_STYLES = {"PASSED": "green", "FAILED": "bold red"}
_MASK_THRESHOLD = 127


def doctor(
    engine: Annotated[
        str | None,
        typer.Argument(
            metavar="[ENGINE]",
            help="Reconstruction engine to run, such as inflate, sam3d-objects or sam3d-body; all "
            "runs every installed one. Without it the installation is examined.",
        ),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(
            "--image", metavar="FILE", help="Picture to run; without it one of scikit-image's."
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            "--mask",
            metavar="FILE",
            help="Grey picture of the same size, light where the object or person is; without it "
            "the object is the whole picture, and people are to be found.",
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Examine the installation, or load a reconstruction engine, run it and check the result.

    Nothing is downloaded and no server is called. The exit code is 5 where a check failed.
    """
    settings = read_settings(config)
    picture = _picture(image, mask, engine)
    # What goes wrong is a finding; standard output is for those.
    quiet = settings.logging.model_copy(update={"level": "error"})
    server_module("observability.logging").configure_logging(quiet, messages().file)
    reports: dict[str, list[Any]] = {}
    for title, findings in _examinations(settings, engine, picture):
        reports[title] = []
        with messages().status(f"examining {title}") as status:
            for finding in findings:
                reports[title].append(finding)
                status.update(Text(f"examining {title}; last: {finding.subject}"))
    if as_json:
        print_json({title: [_plain(one) for one in found] for title, found in reports.items()})
    else:
        for title, found in reports.items():
            results().print(_table(title, found))
    failed = [one for found in reports.values() for one in found if one.verdict.name == "FAILED"]
    if failed:
        names = ", ".join(one.subject for one in failed)
        raise CommandFailure(f"not everything is well: {names}", ExitCode.UNAVAILABLE)


def _examinations(
    settings: Any, engine: str | None, picture: Any
) -> Iterable[tuple[str, Iterable[Any]]]:
    if engine is None:
        examine = server_module("composition.doctor").examine_environment
        yield "the installation", _drained(examine(settings))
        return
    installed = server_module("engines.reconstruction_registry").reconstruction_engine_names()
    if engine != _ALL and engine not in installed:
        raise CommandFailure(
            f"no reconstruction engine {engine!r} is installed",
            ExitCode.USAGE,
            f"installed: {', '.join(installed)}",
        )
    examine = server_module("composition.engine_doctor").examine_engine
    for name in installed if engine == _ALL else (engine,):
        yield name, examine(settings, name, picture)


def _drained(findings: Any) -> Iterable[Any]:
    """Yield what an asynchronous generator yields, on an event loop of its own."""
    with asyncio.Runner() as runner:
        while True:
            try:
                yield runner.run(anext(findings))
            except StopAsyncIteration:
                return


def _picture(image: Path | None, mask: Path | None, engine: str | None) -> Any:
    if image is None and mask is None:
        return None
    if image is None or engine is None:
        raise CommandFailure(
            "--image needs an engine to run, and --mask an --image", ExitCode.USAGE
        )
    pixels = np.asarray(_opened(image).convert("RGB"))
    drawn = None
    if mask is not None:
        drawn = np.asarray(_opened(mask).convert("L")) > _MASK_THRESHOLD
        if drawn.shape != pixels.shape[:2] or not drawn.any():
            raise CommandFailure(
                f"{mask} must have the size of {image} and a light region", ExitCode.USAGE
            )
    picture_type = server_module("composition.engine_doctor").Picture
    return picture_type(image.name, pixels, mask=drawn)


def _opened(file: Path) -> Image.Image:
    try:
        return Image.open(file)
    except OSError as error:
        raise CommandFailure(f"{file} cannot be read: {error}", ExitCode.USAGE) from error


def _plain(finding: Any) -> dict[str, str]:
    return {
        "subject": finding.subject,
        "verdict": finding.verdict.name.lower(),
        "detail": finding.detail,
    }


def _table(title: str, findings: Iterable[Any]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None)
    table.add_column("check", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("what was seen", overflow="fold")
    for finding in findings:
        name = finding.verdict.name
        verdict = Text(name.lower(), style=_STYLES.get(name, "yellow"))
        table.add_row(finding.subject, verdict, finding.detail)
    return table
