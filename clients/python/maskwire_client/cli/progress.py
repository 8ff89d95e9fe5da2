"""Progress bars on standard error, which vanish when the work is done."""

from __future__ import annotations

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from .console import messages

__all__ = ["work_progress"]


class _SpeedColumn(ProgressColumn):
    """How fast the work goes lately."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Return the speed of a task; empty until it is known."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} {self._unit}" if speed else "", style="progress.data.speed")


def work_progress(unit: str) -> Progress:
    """Return a progress bar with what is done, how fast, and how long it will still take.

    Args:
        unit: Of the speed, for example `frames/s`.
    """
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _SpeedColumn(unit),
        TimeRemainingColumn(),
        console=messages(),
        transient=True,
    )
