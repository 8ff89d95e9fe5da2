"""Jobs, their events and the filters that list them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from maskwire.v1 import job_pb2, job_service_pb2, reconstruction_pb2

from ...domain.errors import MaskwireError
from ...domain.jobs.job import (
    Job,
    JobEvent,
    JobFilter,
    JobState,
    WebhookDelivery,
    WebhookState,
)
from ...domain.jobs.service import JobMessage, JobStatus
from ..errors import status_from_error
from .files import timestamp_to_proto
from .processing import duration_to_proto

DEFAULT_PAGE_SIZE = 100
"""Jobs in a page where the request does not say."""

_STATES: Mapping[JobState, job_pb2.JobState.ValueType] = {
    JobState.QUEUED: job_pb2.JOB_STATE_QUEUED,
    JobState.RUNNING: job_pb2.JOB_STATE_RUNNING,
    JobState.SUCCEEDED: job_pb2.JOB_STATE_SUCCEEDED,
    JobState.FAILED: job_pb2.JOB_STATE_FAILED,
    JobState.CANCELLED: job_pb2.JOB_STATE_CANCELLED,
}
_STATES_READ = {value: state for state, value in _STATES.items()}
_WEBHOOK_STATES: Mapping[WebhookState, job_pb2.WebhookState.ValueType] = {
    WebhookState.PENDING: job_pb2.WEBHOOK_STATE_PENDING,
    WebhookState.DELIVERED: job_pb2.WEBHOOK_STATE_DELIVERED,
    WebhookState.FAILED: job_pb2.WEBHOOK_STATE_FAILED,
}


def job_to_proto(status: JobStatus) -> job_pb2.Job:
    """Write how a job stands."""
    job = status.job
    failure = job.failure if job.state is JobState.FAILED else None
    return job_pb2.Job(
        name=job.key.name,
        method=job.method,
        state=_STATES[job.state],
        request_id=job.request_id,
        create_time=timestamp_to_proto(job.create_time),
        start_time=_optional_time(job.start_time),
        end_time=_optional_time(job.end_time),
        attempt=job.attempt,
        queue_position=status.queue_position,
        stage=job.stage,
        fraction=job.fraction,
        last_event_sequence=job.last_event_sequence,
        error=None
        if failure is None
        else status_from_error(MaskwireError(failure.code, failure.message), job.request_id),
        webhook=None if job.webhook is None else _webhook_to_proto(job.webhook),
        expire_time=_optional_time(job.expire_time),
    )


def job_event_to_proto(event: JobEvent) -> job_pb2.JobEvent:
    """Write something that happened to a job."""
    return job_pb2.JobEvent(
        sequence=event.sequence,
        attempt=event.attempt,
        time=timestamp_to_proto(event.time),
        state=_STATES[event.state],
        queue_position=event.queue_position,
        stage=event.stage,
        fraction=event.fraction,
        log_line=event.log_line,
        elapsed=duration_to_proto(event.elapsed_s),
    )


def watch_message_to_proto(message: JobEvent | Job) -> job_service_pb2.WatchJobResponse:
    """Write what a watcher of a job is told."""
    if isinstance(message, JobEvent):
        return job_service_pb2.WatchJobResponse(event=job_event_to_proto(message))
    return job_service_pb2.WatchJobResponse(job=job_to_proto(JobStatus(message, 0)))


def objects_message_to_proto(
    message: JobMessage,
) -> reconstruction_pb2.ReconstructObjectsResponse:
    """Write what the submitter of a reconstruction of objects is told."""
    response = reconstruction_pb2.ReconstructObjectsResponse
    match message:
        case str():
            return response(job=message)
        case JobEvent():
            return response(event=job_event_to_proto(message))
        case _:
            return response(result=_result(message).reconstruct_objects)


def bodies_message_to_proto(message: JobMessage) -> reconstruction_pb2.ReconstructBodiesResponse:
    """Write what the submitter of a reconstruction of bodies is told."""
    response = reconstruction_pb2.ReconstructBodiesResponse
    match message:
        case str():
            return response(job=message)
        case JobEvent():
            return response(event=job_event_to_proto(message))
        case _:
            return response(result=_result(message).reconstruct_bodies)


def job_filter_from_proto(request: job_service_pb2.ListJobsRequest) -> JobFilter:
    """Read which jobs to list; states that say nothing are passed over."""
    states = frozenset(_STATES_READ[state] for state in request.states if state in _STATES_READ)
    return JobFilter(states, request.method)


def _result(data: bytes) -> job_service_pb2.GetJobResultResponse:
    return job_service_pb2.GetJobResultResponse.FromString(data)


def _webhook_to_proto(webhook: WebhookDelivery) -> job_pb2.WebhookDelivery:
    return job_pb2.WebhookDelivery(
        state=_WEBHOOK_STATES[webhook.state],
        attempts=webhook.attempts,
        last_http_status=webhook.last_http_status,
        next_attempt_time=_optional_time(webhook.next_attempt_time),
    )


def _optional_time(time: datetime | None) -> Timestamp | None:
    return None if time is None else timestamp_to_proto(time)
