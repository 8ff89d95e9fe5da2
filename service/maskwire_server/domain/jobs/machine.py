"""How a job changes: pure functions from a record to the next record and the event that says so.

The ledger applies them with compare-and-set; nothing here knows where records are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from .job import ContentReference, Job, JobEvent, JobFailure, JobState, WebhookDelivery


@dataclass(frozen=True, slots=True)
class Transition:
    """A record after a change, the event that tells of it, and whether the job ends with it."""

    job: Job
    event: JobEvent
    is_end: bool = False


def submitted(job: Job) -> Transition:
    """Return the first record of a new job and its first event."""
    return _changed(job, job.create_time)


def claimed(job: Job, now: datetime) -> Transition:
    """Return a job that a worker begins a new attempt at."""
    return _changed(
        job,
        now,
        state=JobState.RUNNING,
        attempt=job.attempt + 1,
        start_time=job.start_time or now,
        stage="",
        fraction=0.0,
    )


def progressed(job: Job, now: datetime, stage: str, fraction: float, log_line: str) -> Transition:
    """Return a running job that is further on."""
    return _changed(job, now, log_line, stage=stage, fraction=min(max(fraction, 0.0), 1.0))


def requeued(job: Job, now: datetime, failure: JobFailure) -> Transition:
    """Return a job whose attempt failed and that will be tried again."""
    line = f"attempt {job.attempt} failed: {failure.message}"
    return _changed(job, now, line, state=JobState.QUEUED, failure=failure, stage="", fraction=0.0)


def handed_back(job: Job, now: datetime) -> Transition:
    """Return a job whose worker stopped before it was done; the attempt does not count."""
    line = f"attempt {job.attempt} was handed back: its worker stops"
    back = job.handed_back + 1
    return _changed(job, now, line, state=JobState.QUEUED, handed_back=back, stage="", fraction=0.0)


def succeeded(
    job: Job, now: datetime, result: ContentReference, retention: timedelta
) -> Transition:
    """Return a job whose result is committed."""
    return _done(
        job,
        now,
        retention,
        state=JobState.SUCCEEDED,
        fraction=1.0,
        result=result,
        failure=None,
    )


def failed(job: Job, now: datetime, failure: JobFailure, retention: timedelta) -> Transition:
    """Return a job that failed for good."""
    return _done(job, now, retention, failure.message, state=JobState.FAILED, failure=failure)


def cancelled(job: Job, now: datetime, retention: timedelta) -> Transition:
    """Return a job that was cancelled."""
    return _done(job, now, retention, state=JobState.CANCELLED, is_cancel_requested=True)


def cancel_requested(job: Job, now: datetime) -> Transition:
    """Return a running job whose worker is to stop."""
    return _changed(job, now, "cancellation was asked for", is_cancel_requested=True)


def webhook_tried(job: Job, now: datetime, delivery: WebhookDelivery, log_line: str) -> Transition:
    """Return a job after an attempt to report its end."""
    return _changed(job, now, log_line, webhook=delivery)


def _done(
    job: Job, now: datetime, retention: timedelta, log_line: str = "", **changes: Any
) -> Transition:
    if job.webhook is not None:
        changes["webhook"] = replace(job.webhook, next_attempt_time=now)
    change = _changed(job, now, log_line, end_time=now, expire_time=now + retention, **changes)
    return replace(change, is_end=True)


def _changed(job: Job, now: datetime, log_line: str = "", **changes: Any) -> Transition:
    changed = replace(job, last_event_sequence=job.last_event_sequence + 1, **changes)
    began = changed.start_time
    event = JobEvent(
        sequence=changed.last_event_sequence,
        attempt=changed.attempt,
        time=now,
        state=changed.state,
        stage=changed.stage,
        fraction=changed.fraction,
        log_line=log_line,
        elapsed_s=0.0 if began is None else max((now - began).total_seconds(), 0.0),
    )
    return Transition(changed, event)
