"""What the commands about jobs print and leave: tables, lines of events, the files of results."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from .. import coco
from .._client import Client
from .._job_results import BodiesResult, JobResult, ObjectsResult, TrackedVideoResult
from ..jobs import Job, JobEvent, JobState
from ..results import SegmentationResult
from .job_progress import stage_text
from .tracking_record import TrackingRecord, document

__all__ = ["event_line", "event_to_json", "job_table", "job_to_json", "jobs_table", "save_result"]


def jobs_table(jobs: Sequence[Job]) -> Table:
    """Return a table with a row for each job."""
    table = Table("job", "call", "state", "accepted", "took s")
    table.columns[0].no_wrap = True
    table.columns[-1].justify = "right"
    for job in jobs:
        table.add_row(job.name, _call(job), _standing(job), _time_text(job), _seconds(job))
    return table


def job_table(job: Job) -> Table:
    """Return how a job stands, a line for each thing that is known."""
    table = Table.grid(padding=(0, 2))
    for key, value in job_to_json(job).items():
        if isinstance(value, dict):
            text = ", ".join(f"{name} {part}" for name, part in value.items() if part is not None)
        else:
            text = "" if value is None else str(value)
        if text:
            table.add_row(key.replace("_", " "), text)
    return table


def job_to_json(job: Job) -> dict[str, Any]:
    """Return a job as JSON values; times in ISO 8601."""
    values = {field.name: getattr(job, field.name) for field in dataclasses.fields(job)}
    values["state"] = job.state.value
    for name in ("create_time", "start_time", "end_time", "expire_time"):
        values[name] = _iso(values[name])
    if job.error is not None:
        values["error"] = {"status": job.error.status, "message": job.error.message}
    if job.webhook is not None:
        values["webhook"] = {
            "state": job.webhook.state.value,
            "attempts": job.webhook.attempts,
            "last_http_status": job.webhook.last_http_status,
            "next_attempt_time": _iso(job.webhook.next_attempt_time),
        }
    return values


def event_line(event: JobEvent) -> str:
    """Return an event as one line."""
    elapsed = f"{event.elapsed.total_seconds():.1f} s"
    line = f"{event.sequence:>4}  {elapsed:>8}  {event.fraction:>4.0%}  {stage_text(event)}"
    return f"{line}  {event.log_line}" if event.log_line else line


def event_to_json(event: JobEvent) -> dict[str, Any]:
    """Return an event as JSON values."""
    values = dataclasses.asdict(event)
    values["state"] = event.state.value
    values["time"] = _iso(event.time)
    values["elapsed_s"] = values.pop("elapsed").total_seconds()
    return values


def save_result(client: Client, result: JobResult, name: str, folder: Path) -> list[Path]:
    """Write what a job made into a folder; return the files.

    Args:
        client: Of the server that holds the files.
        result: What the job made.
        name: What to call the image or video that it is about.
        folder: The folder; it is made where it is missing.

    Raises:
        MaskwireError: A file cannot be fetched.
        OSError: A file cannot be written.
    """
    if isinstance(result, ObjectsResult | BodiesResult):
        return result.save(folder)
    folder.mkdir(parents=True, exist_ok=True)
    masks = folder / "masks.json"
    if isinstance(result, TrackedVideoResult):
        record = TrackingRecord(result.video, result.summary)
        for frame in result.frames():
            record.frames.setdefault(frame.frame_index, frame)
        masks.write_text(json.dumps(document(record, name)) + "\n", encoding="utf-8")
        return [masks, *_overlay(client, result, folder)]
    masks.write_text(json.dumps(coco.document({name: result})) + "\n", encoding="utf-8")
    return [masks, *_pictures(client, result, folder)]


def _pictures(client: Client, result: SegmentationResult, folder: Path) -> list[Path]:
    written = []
    for picture in result.pictures:
        path = folder / Path(picture.file_name).name
        if picture.file is not None:
            client.download(picture.file, path)
        else:
            picture.save(path)
        written.append(path)
    return written


def _overlay(client: Client, result: TrackedVideoResult, folder: Path) -> list[Path]:
    overlay = result.summary.overlay
    if overlay is None:
        return []
    path = folder / "overlay.mp4"
    if overlay.file is not None:
        client.download(overlay.file, path)
    else:
        overlay.save(path)
    return [path]


def _call(job: Job) -> str:
    return job.method.rpartition("/")[2]


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat(timespec="milliseconds")


def _standing(job: Job) -> str:
    if job.state is JobState.QUEUED and job.queue_position:
        return f"queued, {job.queue_position} before it"
    if job.state is JobState.RUNNING:
        return f"running {job.stage} {job.fraction:.0%}"
    state: str = job.state.value
    return state


def _time_text(job: Job) -> str:
    return "" if job.create_time is None else f"{job.create_time.astimezone():%Y-%m-%d %H:%M:%S}"


def _seconds(job: Job) -> str:
    if job.start_time is None or job.end_time is None:
        return ""
    return f"{(job.end_time - job.start_time).total_seconds():.1f}"
