"""What `maskwire bench load` shows and leaves behind: tables, JSON, plots, a latency log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from ..load import (
    Capacity,
    CapacityGoal,
    CapacityStep,
    KindFigures,
    LatencyHistogram,
    LoadPlan,
    LoadResult,
    Recorder,
    report,
    write_log,
)
from ..load.report import PERCENTS
from .bench_plots import latency_over_time, percentile_plot
from .reports import files_table

__all__ = [
    "capacity_tables",
    "capacity_to_json",
    "progress_table",
    "result_tables",
    "write_files",
]


def progress_table(recorder: Recorder, plan: LoadPlan, elapsed_s: float) -> RenderableType:
    """Return the figures so far."""
    phase = "warm-up" if elapsed_s < plan.warmup_s else "measuring"
    if elapsed_s > plan.length_s:
        phase = "waiting for the last calls"
    line = (
        f"{phase}: {elapsed_s:.0f} of {plan.length_s:.0f} s, {recorder.in_flight} in flight, "
        f"{recorder.failed} failed, {recorder.shed} shed"
    )
    table = _figures_table("kind", "sent", "ok", "p50 ms", "p99 ms")
    for kind, figures in recorder.kinds.items():
        values = [_ms(figures.latency.percentile_s(percent)) for percent in (50.0, 99.0)]
        table.add_row(kind.value, f"{figures.sent:,}", f"{figures.ok:,}", *values)
    return Group(line, table)


def result_tables(result: LoadResult, written: Sequence[Path] = ()) -> RenderableType:
    """Return all figures of a run as tables, each narrow enough for 80 columns."""
    counts = _figures_table("kind", "sent", "ok", "retries", "shed", "ok/s", "by status")
    counts.columns[-1].justify = "left"
    columns = [*(f"p{percent:g} ms" for percent in PERCENTS), "max ms"]
    latencies = _figures_table("kind", *columns)
    for kind, figures in result.recorder.kinds.items():
        counts.add_row(kind.value, *_counts(figures, result.achieved_per_s(figures)))
        latencies.add_row(kind.value, *_latencies(figures))
    return Group(counts, latencies, _facts(result), files_table(written))


def capacity_tables(
    capacity: Capacity, goal: CapacityGoal, written: Sequence[Path] = ()
) -> RenderableType:
    """Return the rates that were tried and the knee, as tables."""
    table = Table("rate/s", "ok/s", "p99 ms", "failed", "verdict")
    for column in table.columns[:4]:
        column.justify = "right"
    for step in capacity.steps:
        table.add_row(
            f"{step.rate_per_s:.2f}",
            f"{step.achieved_per_s:.2f}",
            _ms(step.p99_s),
            f"{step.failed_share:.1%}",
            step.broken or "kept",
        )
    bound = "" if capacity.broken_per_s is None else f", not {capacity.broken_per_s:.2f}"
    line = (
        f"capacity: {capacity.rate_per_s:.2f} a second{bound} "
        f"(p99 up to {goal.p99_s * 1e3:.0f} ms, errors up to {goal.max_failed_share:.1%})"
    )
    return Group(table, line, files_table(written))


def capacity_to_json(capacity: Capacity, goal: CapacityGoal) -> dict[str, Any]:
    """Return the search as `--json` prints it."""
    return {
        "capacity_per_s": round(capacity.rate_per_s, 3),
        "broken_per_s": capacity.broken_per_s,
        "goal": {"p99_ms": goal.p99_s * 1e3, "max_failed_share": goal.max_failed_share},
        "steps": [_step(step) for step in capacity.steps],
    }


def write_files(
    result: LoadResult, folder: Path, document: dict[str, Any] | None = None
) -> list[Path]:
    """Write report.json, the plots and the log of latencies; return their paths.

    Args:
        result: The run.
        folder: Where to.
        document: What to write as report.json instead of the run's own report.

    Raises:
        OSError: They cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / "report.json"]
    content = json.dumps(document or report(result), indent=2)
    files[0].write_text(content + "\n", encoding="utf-8")
    figures = {
        kind.value: figures
        for kind, figures in result.recorder.kinds.items()
        if figures.latency.count
    }
    if not figures:
        return files
    files += [folder / "latency-percentiles.png", folder / "latency-over-time.png"]
    latencies: dict[str, LatencyHistogram] = {name: one.latency for name, one in figures.items()}
    percentile_plot(latencies).save(files[1])
    bins = {name: one.bins for name, one in figures.items()}
    latency_over_time(bins, result.recorder.bin_s, result.plan.duration_s).save(files[2])
    files.append(folder / "latencies.hlog")
    with files[3].open("w", encoding="ascii") as log:
        write_log(log, latencies, result.plan.duration_s)
    return files


def _figures_table(*columns: str) -> Table:
    """Return a table of names and figures, which are never cut."""
    table = Table(*columns)
    for column in table.columns:
        column.no_wrap = column.header != "by status"
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _counts(figures: KindFigures, achieved_per_s: float) -> list[str]:
    codes = ", ".join(f"{code} {count:,}" for code, count in figures.codes.most_common())
    return [
        f"{figures.sent:,}",
        f"{figures.ok:,}",
        f"{figures.overload_retries:,}",
        f"{figures.shed:,}",
        f"{achieved_per_s:.2f}",
        codes,
    ]


def _latencies(figures: KindFigures) -> list[str]:
    seconds = [figures.latency.percentile_s(percent) for percent in PERCENTS]
    return [_ms(one) for one in (*seconds, figures.latency.max_s)]


def _facts(result: LoadResult) -> Table:
    table = Table.grid(padding=(0, 2))
    plan, overhead = result.plan, result.overhead
    table.add_row(
        "asked for",
        f"{plan.rate_per_s:g} arrivals/s for {plan.duration_s:g} s after {plan.warmup_s:g} s",
    )
    if plan.cameras.count:
        counts = result.sessions
        table.add_row(
            "sessions",
            f"{counts.opened:,} opened, {counts.failed:,} failed, {counts.reconnects:,} reconnects",
        )
        table.add_row(
            "frames",
            f"{counts.offered:,} offered = {counts.shed:,} shed + {counts.answered:,} answered + "
            f"{counts.dropped:,} dropped + {counts.frames_failed:,} failed + {counts.lost:,} lost"
            + (f"; {counts.unaccounted:,} UNACCOUNTED" if counts.unaccounted else ""),
        )
    lag, late = overhead.loop_lag, result.start_lateness
    begun = f", calls begun late by p99 {_ms(late.percentile_s(99.0))} ms" if late.count else ""
    table.add_row(
        "generator",
        f"loop lag p99 {_ms(lag.percentile_s(99.0))} ms{begun}, {overhead.cpu_share:.0%} of a core",
    )
    if result.recorder.warmup_failures:
        table.add_row("warm-up", f"{result.recorder.warmup_failures:,} failed")
    for outcome in result.recorder.kept_failures[:3]:
        table.add_row("failed", f"{outcome.kind.value}: {outcome.code} {outcome.message}")
    return table


def _step(step: CapacityStep) -> dict[str, Any]:
    return {
        "rate_per_s": round(step.rate_per_s, 3),
        "achieved_per_s": round(step.achieved_per_s, 3),
        "p99_ms": None if step.p99_s is None else round(step.p99_s * 1e3, 3),
        "failed_share": round(step.failed_share, 5),
        "verdict": step.broken or "kept",
        "report": report(step.result),
    }


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:,.1f}"
