"""Records of jobs and events as JSON, the same in every backend.

Writing loses nothing. Reading is lenient, because servers of two versions may share a backend: a
field that is not there has its default, one that is not known is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ..domain.errors import ErrorCode
from ..domain.jobs.job import (
    ContentReference,
    Job,
    JobEvent,
    JobFailure,
    JobKey,
    JobState,
    WebhookDelivery,
    WebhookState,
)

JsonObject = dict[str, Any]
"""What `json.dumps` takes: strings, numbers, booleans, None and objects of them."""


def job_to_json(job: Job) -> JsonObject:
    """Return a job's record as JSON."""
    return {
        "tenant": job.key.tenant,
        "job_id": job.key.job_id,
        "method": job.method,
        "queue": job.queue,
        "request_id": job.request_id,
        "request_digest": job.request_digest,
        "payload": _reference_to_json(job.payload),
        "state": job.state.value,
        "create_time": _time_to_json(job.create_time),
        "start_time": _time_to_json(job.start_time),
        "end_time": _time_to_json(job.end_time),
        "expire_time": _time_to_json(job.expire_time),
        "attempt": job.attempt,
        "handed_back": job.handed_back,
        "stage": job.stage,
        "fraction": job.fraction,
        "last_event_sequence": job.last_event_sequence,
        "failure": _failure_to_json(job.failure),
        "is_cancel_requested": job.is_cancel_requested,
        "result": _reference_to_json(job.result),
        "webhook": _webhook_to_json(job.webhook),
        "trace_context": job.trace_context,
    }


def job_from_json(record: Mapping[str, Any]) -> Job:
    """Return the job of a record.

    Raises:
        KeyError: A field is missing that every record has had.
        ValueError: A field has no value that was ever written there.
    """
    return Job(
        key=JobKey(record["tenant"], record["job_id"]),
        method=record["method"],
        queue=record["queue"],
        request_id=record["request_id"],
        request_digest=record["request_digest"],
        payload=_reference_of(record["payload"]),
        state=JobState(record["state"]),
        create_time=_time_of(record["create_time"]),
        start_time=_optional_time(record.get("start_time")),
        end_time=_optional_time(record.get("end_time")),
        expire_time=_optional_time(record.get("expire_time")),
        attempt=record.get("attempt", 0),
        handed_back=record.get("handed_back", 0),
        stage=record.get("stage", ""),
        fraction=record.get("fraction", 0.0),
        last_event_sequence=record.get("last_event_sequence", 0),
        failure=_failure_of(record.get("failure")),
        is_cancel_requested=record.get("is_cancel_requested", False),
        result=_optional_reference(record.get("result")),
        webhook=_webhook_of(record.get("webhook")),
        trace_context=record.get("trace_context", ""),
    )


def event_to_json(event: JobEvent) -> JsonObject:
    """Return an event as JSON."""
    return {
        "sequence": event.sequence,
        "attempt": event.attempt,
        "time": _time_to_json(event.time),
        "state": event.state.value,
        "queue_position": event.queue_position,
        "stage": event.stage,
        "fraction": event.fraction,
        "log_line": event.log_line,
        "elapsed_s": event.elapsed_s,
    }


def event_from_json(record: Mapping[str, Any]) -> JobEvent:
    """Return the event of a record; errors as `job_from_json`."""
    return JobEvent(
        sequence=record["sequence"],
        attempt=record["attempt"],
        time=_time_of(record["time"]),
        state=JobState(record["state"]),
        queue_position=record.get("queue_position", 0),
        stage=record.get("stage", ""),
        fraction=record.get("fraction", 0.0),
        log_line=record.get("log_line", ""),
        elapsed_s=record.get("elapsed_s", 0.0),
    )


def _reference_to_json(reference: ContentReference | None) -> JsonObject | None:
    if reference is None:
        return None
    return {
        "key": reference.key,
        "size_bytes": reference.size_bytes,
        "digest": reference.digest,
    }


def _reference_of(record: Mapping[str, Any]) -> ContentReference:
    return ContentReference(record["key"], record["size_bytes"], record["digest"])


def _optional_reference(record: Mapping[str, Any] | None) -> ContentReference | None:
    return None if record is None else _reference_of(record)


def _failure_to_json(failure: JobFailure | None) -> JsonObject | None:
    return None if failure is None else {"code": failure.code.name, "message": failure.message}


def _failure_of(record: Mapping[str, Any] | None) -> JobFailure | None:
    if record is None:
        return None
    # A code of a newer version is a failure that this one did not foresee.
    code = ErrorCode.__members__.get(record["code"], ErrorCode.INTERNAL)
    return JobFailure(code, record["message"])


def _webhook_to_json(webhook: WebhookDelivery | None) -> JsonObject | None:
    if webhook is None:
        return None
    return {
        "url": webhook.url,
        "state": webhook.state.value,
        "attempts": webhook.attempts,
        "last_http_status": webhook.last_http_status,
        "next_attempt_time": _time_to_json(webhook.next_attempt_time),
    }


def _webhook_of(record: Mapping[str, Any] | None) -> WebhookDelivery | None:
    if record is None:
        return None
    return WebhookDelivery(
        url=record["url"],
        state=WebhookState(record.get("state", WebhookState.PENDING.value)),
        attempts=record.get("attempts", 0),
        last_http_status=record.get("last_http_status", 0),
        next_attempt_time=_optional_time(record.get("next_attempt_time")),
    )


def _time_to_json(time: datetime | None) -> str | None:
    """Return a time in UTC to the microsecond; texts of equal length, in the order of the times."""
    return None if time is None else time.astimezone(UTC).isoformat(timespec="microseconds")


def _time_of(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _optional_time(text: str | None) -> datetime | None:
    return None if text is None else _time_of(text)
