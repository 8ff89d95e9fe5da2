"""Timing calls in turn and reporting percentiles and ratios."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Median and 99th percentile of a series, in milliseconds."""

    p50_ms: float
    p99_ms: float
    count: int


def measure_in_turn(
    calls: Mapping[str, Callable[[int], object]], *, rounds: int, warm_up: int
) -> dict[str, Percentiles]:
    """Run every call once per round, so that drift of the machine's speed meets all alike.

    Args:
        calls: What to time, by name; each gets the number of the round.
        rounds: Rounds that count.
        warm_up: Rounds before them that do not.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(warm_up + rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            call(number)
            elapsed = time.perf_counter() - started
            if number >= warm_up:
                seconds[name].append(elapsed)
    return {name: summarize(series) for name, series in seconds.items()}


def summarize(seconds: Sequence[float]) -> Percentiles:
    """Return the percentiles of a series of seconds."""
    p50, p99 = np.percentile(np.array(seconds) * 1000, [50, 99])
    return Percentiles(float(p50), float(p99), len(seconds))


def report(title: str, rows: Mapping[str, Percentiles], notes: Mapping[str, str]) -> None:
    """Print a table of the series, then the figures drawn from them."""
    table = Table("what", "p50 ms", "p99 ms", "calls", title=title, title_justify="left")
    for name, row in rows.items():
        table.add_row(name, f"{row.p50_ms:.2f}", f"{row.p99_ms:.2f}", str(row.count))
    console = Console(width=110, highlight=False)
    console.print()
    console.print(table)
    for name, value in notes.items():
        console.print(f"  {name}: [bold]{value}[/bold]")
