"""Shows on standard error how far a job is; on Ctrl-C it leaves the job and says how to go on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from .._job_watch import JobWatch
from ..errors import MaskwireError
from ..jobs import JobEvent, JobState
from .connection import Connection
from .console import messages

__all__ = ["detachable", "follow_job", "stage_text"]


def follow_job(watch: JobWatch[Any], connection: Connection) -> None:
    """Show a job's events as a bar until it is done.

    Args:
        watch: The job's events.
        connection: Where the job is, for what to type to go on.

    Raises:
        MaskwireError: The job is not known, or no server answers for too long.
        KeyboardInterrupt: Ctrl-C; the job goes on.
    """
    with detachable(watch, connection), _bar() as progress:
        task = progress.add_task("accepted", total=1.0)
        for event in watch:
            _show(progress, task, event)


@contextmanager
def detachable(watch: JobWatch[Any], connection: Connection) -> Iterator[None]:
    """Say how to go on with a job, where the watching ends before the job does."""
    try:
        yield
    except (KeyboardInterrupt, MaskwireError):
        if not watch.state.is_done:
            _say_how_to_go_on(watch, connection)
        raise


def stage_text(event: JobEvent) -> str:
    """Return what a job does, in a few words."""
    if event.state is JobState.QUEUED:
        waits = f", {event.queue_position} before it" if event.queue_position else ""
        return f"queued{waits}"
    attempt = f" (attempt {event.attempt})" if event.attempt > 1 else ""
    running = event.stage or event.state.value
    return (running if event.state is JobState.RUNNING else event.state.value) + attempt


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=messages(),
        transient=True,
    )


def _show(progress: Progress, task: TaskID, event: JobEvent) -> None:
    progress.update(task, description=stage_text(event), completed=event.fraction)
    if event.log_line:
        progress.console.print(event.log_line, highlight=False)


def _say_how_to_go_on(watch: JobWatch[Any], connection: Connection) -> None:
    console = messages()
    if connection.is_local:
        text = f"{watch.job_name} waits until a service with these settings runs again."
    else:
        text = f"{watch.job_name} goes on without this program."
    console.print(text, highlight=False, soft_wrap=True)
    commands = [
        f"maskwire jobs watch {watch.job_name} --after {watch.last_sequence}",
        f"maskwire jobs result {watch.job_name} --out DIR",
        f"maskwire jobs cancel {watch.job_name}",
    ]
    for command in commands:
        line = f"  {command}{connection.arguments}"
        console.print(line, highlight=False, soft_wrap=True)
