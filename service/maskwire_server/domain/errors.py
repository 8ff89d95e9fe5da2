"""The errors that the domain raises, each with a code that says what kind of failure it is.

Codes are independent of any transport: `transport/errors.py` holds the one table that maps them to
gRPC statuses. The public message of an error is written for the caller; private detail belongs in
the log, not here.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import timedelta


class ErrorCode(enum.Enum):
    """What kind of failure it is, independent of the transport that reports it."""

    INVALID_ARGUMENT = enum.auto()
    """The request breaks a rule whatever the state of the server: the field and rule are named."""
    IMAGE_NOT_FOUND = enum.auto()
    """The image digest is unknown here (or no longer held): send the bytes again."""
    MODEL_NOT_FOUND = enum.auto()
    """No model of that name is served."""
    FILE_NOT_FOUND = enum.auto()
    """No stored file of that name belongs to the caller."""
    OUT_OF_RANGE = enum.auto()
    """A position lies past the end of what is there."""
    QUOTA_EXCEEDED = enum.auto()
    """The tenant has used up what it may have; the message names the limit."""
    STORAGE_UNAVAILABLE = enum.auto()
    """The file store failed; try again later."""
    OBJECT_NOT_FOUND = enum.auto()
    """The session has no object of that id."""
    FRAME_NOT_HELD = enum.auto()
    """The session does not hold the frame (any more) that prompts are about."""
    SESSION_STATE = enum.auto()
    """The request is valid, but not at this point of the session; the message says what is due."""
    SEED_REFUSED = enum.auto()
    """The seed does not fit this server, this model or this caller; begin a new session."""
    JOB_NOT_FOUND = enum.auto()
    """No job of that name belongs to the caller."""
    JOB_NOT_DONE = enum.auto()
    """The job has no result (yet): it waits, runs, failed or was cancelled."""
    JOB_CANCELLED = enum.auto()
    """The job was cancelled while its submitter waited for the result."""
    REQUEST_ID_REUSED = enum.auto()
    """The request identifier was used with another request."""
    JOBS_UNAVAILABLE = enum.auto()
    """The job backend failed or cannot be reached; try again later."""
    WORKER_LOST = enum.auto()
    """The workers of a job died or froze in all attempts."""
    UNAUTHENTICATED = enum.auto()
    """The call brought no credentials where some are needed, or ones that are not valid."""
    PERMISSION_DENIED = enum.auto()
    """The caller's credentials do not allow this; the message names the scope."""
    INTERNAL = enum.auto()
    """A job failed for a reason that nobody foresaw; the worker's log has it."""
    SESSION_OVER = enum.auto()
    """The session's time is up: resume it from its seed, here or elsewhere."""
    DATA_LOSS = enum.auto()
    """A file is broken or cut off: what was readable is answered, the rest cannot be."""
    UNSUPPORTED_BY_MODEL = enum.auto()
    """The request is valid, but the chosen model cannot serve it; the message says what could."""
    SOURCE_DISABLED = enum.auto()
    """The server's settings do not allow this kind of source or destination."""
    SOURCE_FORBIDDEN = enum.auto()
    """The server fetches this kind of source, but not from this host, port or bucket."""
    SOURCE_UNAVAILABLE = enum.auto()
    """A source could not be fetched; the message tells nothing about the server's network."""
    PAYLOAD_TOO_LARGE = enum.auto()
    """A configured limit on bytes or pixels is exceeded."""
    OVERLOADED = enum.auto()
    """A bounded queue is full; try again after `retry_after`."""
    DEADLINE_EXCEEDED = enum.auto()
    """The caller's deadline passed before the work was done."""
    SHUTTING_DOWN = enum.auto()
    """The server is draining and takes no new work; another replica may serve the call."""
    MODEL_UNAVAILABLE = enum.auto()
    """A model could not be loaded or its device failed."""
    UNIMPLEMENTED = enum.auto()
    """The contract has it, this version of the server does not serve it; the message names it."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One broken rule: `field` is the path in the request (`prompts[2].box.x_max`)."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class QuotaViolation:
    """A limit that a tenant has reached: the setting that has it, and what it allows."""

    limit: str
    tenant: str
    most: int


class MaskwireError(Exception):
    """Base of every error that the domain raises on purpose.

    Attributes:
        code: The kind of failure.
        message: Text for the caller.
        violations: The broken rules, for `INVALID_ARGUMENT`.
        retry_after: When trying again makes sense, for `OVERLOADED` and `QUOTA_EXCEEDED`.
        resource: Name of what was not found or not available, e.g. a digest or a model name.
        quota: The limit, for `QUOTA_EXCEEDED`; `quotas.quota_exceeded` makes such errors.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        violations: tuple[FieldViolation, ...] = (),
        retry_after: timedelta | None = None,
        resource: str = "",
        quota: QuotaViolation | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.violations = violations
        self.retry_after = retry_after
        self.resource = resource
        self.quota = quota


def invalid_field(field: str, rule: str) -> MaskwireError:
    """Make the error for one broken rule; `field` is the path of the field in the request."""
    return MaskwireError(
        ErrorCode.INVALID_ARGUMENT,
        f"{field}: {rule}",
        violations=(FieldViolation(field=field, description=rule),),
    )


def too_large(field: str, rule: str) -> MaskwireError:
    """Make the error for a configured limit that a field exceeds; arguments as `invalid_field`."""
    return MaskwireError(
        ErrorCode.PAYLOAD_TOO_LARGE,
        f"{field}: {rule}",
        violations=(FieldViolation(field=field, description=rule),),
    )
