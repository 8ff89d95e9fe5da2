"""What a job and its events are.

A job is a record that only ever changes together with an event: the record after event n says
`last_event_sequence == n`, so that the event's number is also the record's version.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass
from datetime import datetime

from ..errors import ErrorCode

JOB_NAME_PREFIX = "jobs/"
"""How the resource name of every job begins."""

_ID_DIGITS = 32
_MAX_HANDED_BACK = 16


class JobState(enum.Enum):
    """How a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_done(self) -> bool:
        """Whether it never changes again, except for the report of its end."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class WebhookState(enum.Enum):
    """How the report of a job's end stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class JobKey:
    """Which job: its tenant and its identifier, 32 hexadecimal digits."""

    tenant: str
    job_id: str

    @classmethod
    def of_request(cls, tenant: str, request_id: str) -> JobKey:
        """Return the key of the job that a tenant's request identifier makes.

        The same request gives the same job on any replica, without a table of identifiers.
        """
        content = f"{len(tenant)}:{tenant}{request_id.lower()}".encode()
        return cls(tenant, hashlib.sha256(content).hexdigest()[:_ID_DIGITS])

    @property
    def name(self) -> str:
        """Resource name."""
        return JOB_NAME_PREFIX + self.job_id


@dataclass(frozen=True, slots=True)
class JobFailure:
    """Why a job failed: the domain's code and a message for the caller."""

    code: ErrorCode
    message: str


@dataclass(frozen=True, slots=True)
class ContentReference:
    """Bytes in the job content store: key within the job, size, `sha256:` digest."""

    key: str
    size_bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """The report of a job's end to a URL.

    Attributes:
        url: Where to.
        state: How it stands.
        attempts: Attempts so far.
        last_http_status: Status of the last attempt; 0 where there was no answer.
        next_attempt_time: When the next attempt is due (UTC), while it is pending and known.
    """

    url: str
    state: WebhookState = WebhookState.PENDING
    attempts: int = 0
    last_http_status: int = 0
    next_attempt_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """The record of a job. Times are in UTC.

    Attributes:
        key: Which job.
        method: The call that it runs, e.g. `maskwire.v1.VideoService/TrackVideo`.
        queue: The queue whose workers can run it, e.g. `segmentation` or `inflate`.
        request_id: The caller's identifier of the request, a UUID.
        request_digest: `sha256:` digest of the request as it was sent: tells another request under
            the same identifier.
        payload: The request as workers read it.
        state: How it stands.
        create_time: When it was accepted.
        start_time: When a worker first had it.
        end_time: When it was done.
        expire_time: When it and its result are deleted; known once it is done.
        attempt: Which attempt runs or ran last, from 1; 0 before the first.
        handed_back: Attempts that ended only because their workers stopped.
        stage: Stage that runs; empty before the first.
        fraction: How much of the work is done, 0 to 1.
        last_event_sequence: Sequence of its latest event, which is the record's version.
        failure: Why it failed, or why its last attempt did.
        is_cancel_requested: Whether its worker must stop.
        result: What it made, once it succeeded.
        webhook: The report of its end, where one was asked for.
        trace_context: Name of its submitter's trace, W3C's `traceparent`; empty where none was.
    """

    key: JobKey
    method: str
    queue: str
    request_id: str
    request_digest: str
    payload: ContentReference
    state: JobState
    create_time: datetime
    start_time: datetime | None = None
    end_time: datetime | None = None
    expire_time: datetime | None = None
    attempt: int = 0
    handed_back: int = 0
    stage: str = ""
    fraction: float = 0.0
    last_event_sequence: int = 0
    failure: JobFailure | None = None
    is_cancel_requested: bool = False
    result: ContentReference | None = None
    webhook: WebhookDelivery | None = None
    trace_context: str = ""

    @property
    def tries(self) -> int:
        """Attempts that count: those that were handed back do not, unless there were too many."""
        return self.attempt - min(self.handed_back, _MAX_HANDED_BACK)


@dataclass(frozen=True, slots=True)
class JobEvent:
    """Something that happened to a job.

    Attributes:
        sequence: Number of the event, from 1 without gaps.
        attempt: The attempt that it belongs to; 0 before the first.
        time: When it happened, in UTC.
        state: How the job stands after it.
        queue_position: Jobs before it in the queue when it was queued.
        stage: Stage that runs.
        fraction: How much of the work is done, 0 to 1.
        log_line: A line for people; may be empty.
        elapsed_s: Seconds since a worker first had it; 0 before.
    """

    sequence: int
    attempt: int
    time: datetime
    state: JobState
    queue_position: int = 0
    stage: str = ""
    fraction: float = 0.0
    log_line: str = ""
    elapsed_s: float = 0.0


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list: of these states and this method; empty means all."""

    states: frozenset[JobState] = frozenset()
    method: str = ""

    def takes(self, job: Job) -> bool:
        """Return whether a job is listed."""
        return (not self.states or job.state in self.states) and self.method in ("", job.method)


@dataclass(frozen=True, slots=True)
class JobPage:
    """A page of jobs, newest first, and the token of the next page, empty at the end."""

    jobs: tuple[Job, ...]
    next_page_token: str
