"""Messages of jobs: calls to be queued, and what the server says about them; pure, no channel."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from maskwire.v1 import job_pb2, job_service_pb2

from ._auto_messages import auto_segment_request
from ._enums import from_wire
from ._errors import error_from_status
from ._maps import MapSource, map_source
from ._reconstruction_messages import reconstruct_bodies_request, reconstruct_objects_request
from ._requests import image_source, segment_request
from ._video_messages import track_video_request
from .images import load_image
from .jobs import (
    AutoSegmentCall,
    Job,
    JobCall,
    JobEvent,
    JobState,
    SegmentCall,
    TrackVideoCall,
    WebhookDelivery,
    WebhookState,
)
from .reconstruction import ReconstructBodiesCall, ReconstructObjectsCall


def map_of(call: JobCall) -> MapSource | None:
    """Return the point map or depth map of a call, still where it was; None where it has none.

    Raises:
        OSError: The file cannot be read.
        TypeError: The map is of a kind that is not taken.
        ValueError: It is empty, or an array of another shape or dtype.
    """
    if isinstance(call, ReconstructObjectsCall | ReconstructBodiesCall):
        if call.point_map is not None:
            return map_source(call.point_map, 3)
        if isinstance(call, ReconstructObjectsCall) and call.depth_map is not None:
            return map_source(call.depth_map, 2)
    return None


def queued_call(
    call: JobCall, source: MapSource | None, request_id: str
) -> job_service_pb2.QueuedCall:
    """Return the message of a call; files are read here.

    Args:
        call: The call.
        source: Its map, small or uploaded.
        request_id: Identifier of the request.

    Raises:
        OSError: A file cannot be read.
        TypeError: An argument is of a kind that is not taken.
        ValueError: An array has the wrong shape, or a number cannot be sent.
    """
    queued = job_service_pb2.QueuedCall()
    match call:
        case SegmentCall():
            queued.segment_image.CopyFrom(segment_request(call))
            queued.segment_image.image.CopyFrom(image_source(load_image(call.image)))
        case AutoSegmentCall():
            queued.auto_segment.CopyFrom(auto_segment_request(call))
            queued.auto_segment.image.CopyFrom(image_source(load_image(call.image)))
        case TrackVideoCall():
            queued.track_video.CopyFrom(track_video_request(call.video, call))
        case ReconstructObjectsCall():
            image = load_image(call.image)
            queued.reconstruct_objects.CopyFrom(
                reconstruct_objects_request(call, image, source, request_id)
            )
        case ReconstructBodiesCall():
            image = load_image(call.image)
            queued.reconstruct_bodies.CopyFrom(
                reconstruct_bodies_request(call, image, source, request_id)
            )
        case _:
            raise TypeError(f"{type(call).__name__} is no call that can be queued")
    return queued


def submit_request(
    call: JobCall, source: MapSource | None, request_id: str, webhook_url: str | None
) -> job_service_pb2.SubmitJobRequest:
    """Return the request that queues a call; errors as `queued_call`."""
    request = job_service_pb2.SubmitJobRequest(
        request_id=request_id, call=queued_call(call, source, request_id)
    )
    if webhook_url is not None:
        request.webhook.url = webhook_url
    return request


def job_description(message: job_pb2.Job) -> Job:
    """Return how a job stands."""
    return Job(
        name=message.name,
        method=message.method,
        state=_state(message.state),
        request_id=message.request_id,
        create_time=_time(message.create_time),
        start_time=_time(message.start_time),
        end_time=_time(message.end_time),
        attempt=message.attempt,
        queue_position=message.queue_position,
        stage=message.stage,
        fraction=message.fraction,
        last_event_sequence=message.last_event_sequence,
        error=(
            error_from_status(message.error, message.request_id)
            if message.HasField("error")
            else None
        ),
        webhook=_webhook(message.webhook) if message.HasField("webhook") else None,
        expire_time=_time(message.expire_time),
    )


def job_event(message: job_pb2.JobEvent) -> JobEvent:
    """Return something that happened to a job."""
    return JobEvent(
        sequence=message.sequence,
        attempt=message.attempt,
        time=_time(message.time),
        state=_state(message.state),
        queue_position=message.queue_position,
        stage=message.stage,
        fraction=message.fraction,
        log_line=message.log_line,
        elapsed=message.elapsed.ToTimedelta(),
    )


def _webhook(message: job_pb2.WebhookDelivery) -> WebhookDelivery:
    state = from_wire(job_pb2.WebhookState.DESCRIPTOR, WebhookState, message.state)
    return WebhookDelivery(
        state=state or WebhookState.UNSPECIFIED,
        attempts=message.attempts,
        last_http_status=message.last_http_status,
        next_attempt_time=_time(message.next_attempt_time),
    )


def _state(number: int) -> JobState:
    return from_wire(job_pb2.JobState.DESCRIPTOR, JobState, number) or JobState.UNSPECIFIED


def _time(stamp: Timestamp) -> datetime | None:
    """Return a time; None for one that is not set: nothing here happened in 1970."""
    return stamp.ToDatetime(UTC) if stamp.ByteSize() else None
