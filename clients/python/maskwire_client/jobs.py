"""Durable jobs: what they are, what happens to them, and the calls that can be queued as one.

`submit_job` of the clients queues a call; `reconstruct_objects` and `reconstruct_bodies` are jobs
always. A job outlives the server, its worker and the client; `watch_job` goes on with it from
anywhere.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias

from ._auto_messages import AutoSegmentArguments
from ._requests import SegmentArguments
from ._video_messages import VideoArguments
from .errors import MaskwireError
from .images import ImageInput
from .reconstruction import ReconstructBodiesCall, ReconstructObjectsCall
from .sessions import Reconnect
from .videos import VideoInput

__all__ = [
    "JOB_RECONNECT",
    "AutoSegmentCall",
    "Job",
    "JobCall",
    "JobEvent",
    "JobState",
    "SegmentCall",
    "TrackVideoCall",
    "WebhookDelivery",
    "WebhookState",
]

JOB_RECONNECT = Reconnect(max_attempts=40)
"""How watches of jobs go on unless they are told otherwise: for about two minutes without any
answer, which a server has time to be started again in."""


class JobState(enum.Enum):
    """How a job stands."""

    UNSPECIFIED = "unspecified"
    QUEUED = "queued"
    """It waits for a worker."""
    RUNNING = "running"
    """A worker has it."""
    SUCCEEDED = "succeeded"
    """It is done and has its result."""
    FAILED = "failed"
    """It failed for good."""
    CANCELLED = "cancelled"
    """It was cancelled."""

    @property
    def is_done(self) -> bool:
        """Whether it stays so."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class WebhookState(enum.Enum):
    """How the report of a job's end stands."""

    UNSPECIFIED = "unspecified"
    """There is no webhook."""
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """How the report of a job's end went.

    Attributes:
        state: How it stands.
        attempts: Attempts so far.
        last_http_status: HTTP status of the last attempt; 0 where there was no answer.
        next_attempt_time: When the next attempt is due, while it is pending, with time zone.
    """

    state: WebhookState
    attempts: int
    last_http_status: int
    next_attempt_time: datetime | None


@dataclass(frozen=True, slots=True)
class Job:
    """How a job stood when the server was asked.

    Attributes:
        name: Resource name, `jobs/...`.
        method: The call, for example `maskwire.v1.ReconstructionService/ReconstructObjects`.
        state: How it stands.
        request_id: Identifier of the request that made it.
        create_time: When it was accepted, with time zone, as all times here.
        start_time: When a worker first had it; None before.
        end_time: When it was done; None before.
        attempt: Which attempt runs or ran last, from 1; 0 before the first.
        queue_position: Jobs before it in the queue, while it waits.
        stage: Stage that runs or ran last.
        fraction: How much of the work is done, 0 to 1.
        last_event_sequence: Number of its latest event.
        error: Why it failed, as the call itself would have raised it; None where it did not.
        webhook: How the report of its end stands; None where there is no webhook.
        expire_time: When it and its result will be deleted; None while that is not known.
    """

    name: str
    method: str
    state: JobState
    request_id: str
    create_time: datetime | None
    start_time: datetime | None
    end_time: datetime | None
    attempt: int
    queue_position: int
    stage: str
    fraction: float
    last_event_sequence: int
    error: MaskwireError | None
    webhook: WebhookDelivery | None
    expire_time: datetime | None


@dataclass(frozen=True, slots=True)
class JobEvent:
    """Something that happened to a job.

    Attributes:
        sequence: Number of the event, from 1 without gaps.
        attempt: The attempt that it belongs to; 0 before the first.
        time: When it happened, with time zone.
        state: How the job stands.
        queue_position: Jobs before it in the queue, while it waits.
        stage: Stage that runs, for example `mesh`.
        fraction: How much of the work is done, 0 to 1.
        log_line: A line of the worker's log, for people; may be empty.
        elapsed: Time since a worker first had it.
    """

    sequence: int
    attempt: int
    time: datetime | None
    state: JobState
    queue_position: int
    stage: str
    fraction: float
    log_line: str
    elapsed: timedelta


@dataclass(frozen=True, slots=True)
class SegmentCall(SegmentArguments):
    """`Client.segment` to be queued: the same arguments, `SegmentCall("a.jpg", points=[...])`."""

    image: ImageInput = field(repr=False)


@dataclass(frozen=True, slots=True)
class AutoSegmentCall(AutoSegmentArguments):
    """`Client.auto_segment` to be queued: the same arguments."""

    image: ImageInput = field(repr=False)


@dataclass(frozen=True, slots=True)
class TrackVideoCall(VideoArguments):
    """`Client.track_video` to be queued: the same arguments."""

    video: VideoInput = field(repr=False)


JobCall: TypeAlias = (
    SegmentCall | AutoSegmentCall | TrackVideoCall | ReconstructObjectsCall | ReconstructBodiesCall
)
"""A call that can be queued as a job."""
