"""The exceptions that calls raise, each made from a gRPC status and its `google.rpc` details.

    MaskwireError
     ├─ InvalidArgument            the request breaks a rule: `violations` names fields and rules
     │   └─ PayloadTooLarge        the image is over a limit in bytes or pixels
     ├─ NotFound                   `resource` is not held or not served
     │   ├─ ImageNotFound          an image digest; `segment` sends the bytes then by itself
     │   ├─ ModelNotFound          a model name
     │   ├─ StoredFileNotFound     a stored file
     │   └─ JobNotFound            a job
     ├─ AlreadyExists              the request's identifier was used with another request
     ├─ FailedPrecondition         valid, but not here: the message says what would help
     │   └─ UnsupportedByModel     the model cannot serve such prompts
     ├─ ResourceExhausted          a limit is reached: `retry_after` where waiting helps
     │   ├─ Overloaded             a queue of the server is full
     │   └─ QuotaExceeded          the tenant has what it may have: `quota` names the limit
     ├─ Unavailable                no server answered, or it is shutting down
     │   └─ ConnectionLost         a session's connection broke before this request was answered
     ├─ DeadlineExceeded           the time allowed passed first
     ├─ Cancelled                  the call was cancelled
     ├─ FrameDropped               a session's frame has no answer of its own
     ├─ DataLoss                   a file is broken in the middle
     ├─ JobFailed                  a job failed for good: `job_name`, and `cause` says why
     ├─ JobCancelled               a job was cancelled: `job_name`
     ├─ Unauthenticated            no valid credentials
     ├─ PermissionDenied           the credentials do not allow it
     ├─ Unimplemented              the server does not serve this call (yet)
     └─ InternalError              the server failed, or answered what the contract excludes

What the arguments themselves get wrong before anything is sent (an unreadable file, an array of
the wrong shape) raises Python's own `OSError`, `TypeError` or `ValueError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

__all__ = [
    "AlreadyExists",
    "Cancelled",
    "ConnectionLost",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "FieldViolation",
    "FrameDropped",
    "ImageNotFound",
    "InternalError",
    "InvalidArgument",
    "JobCancelled",
    "JobFailed",
    "JobNotFound",
    "MaskwireError",
    "ModelNotFound",
    "NotFound",
    "Overloaded",
    "PayloadTooLarge",
    "PermissionDenied",
    "QuotaExceeded",
    "QuotaViolation",
    "ResourceExhausted",
    "StoredFileNotFound",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "UnsupportedByModel",
]


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One broken rule: `field` is the path in the request (`prompts[2].box.x_max`)."""

    field: str
    rule: str


@dataclass(frozen=True, slots=True)
class QuotaViolation:
    """A limit that is reached: the server's setting, whose it is (`tenant:acme`), what it allows.

    `most` is None where the server does not say.
    """

    limit: str
    subject: str
    most: int | None = None


class MaskwireError(Exception):
    """Base of every error that a call raises.

    Attributes:
        message: What the server, or gRPC, says about it.
        status: Name of the gRPC status, for example `NOT_FOUND`.
        reason: The server's own code for the failure, for example `IMAGE_NOT_FOUND`; empty where
            the error did not come from a Maskwire server.
        request_id: Identifier of the call, as in the server's logs.
        violations: The broken rules, for `InvalidArgument`.
        retry_after: When trying again makes sense, where the server says so.
        resource: Name of what was not found, where the server says so.
        quota: The limit that is reached, for `QuotaExceeded`.
        sequence: The request of a session that failed; 0 where it is none.
        frame_id: Its frame's number at the source, where it is a frame.
    """

    def __init__(
        self,
        message: str,
        *,
        status: str = "UNKNOWN",
        reason: str = "",
        request_id: str = "",
        violations: tuple[FieldViolation, ...] = (),
        retry_after: timedelta | None = None,
        resource: str = "",
        quota: QuotaViolation | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.reason = reason
        self.request_id = request_id
        self.violations = violations
        self.retry_after = retry_after
        self.resource = resource
        self.quota = quota
        self.sequence = 0
        self.frame_id: int | None = None


class InvalidArgument(MaskwireError):
    """The request breaks a rule whatever the state of the server; `violations` says which."""


class PayloadTooLarge(InvalidArgument):
    """The image is over a limit in bytes or pixels, which the message names with what was sent."""


class NotFound(MaskwireError):
    """`resource` is not held or not served."""


class ImageNotFound(NotFound):
    """The server does not hold the image of this digest (any more): send its bytes."""


class ModelNotFound(NotFound):
    """No model of this name is served."""


class StoredFileNotFound(NotFound):
    """No stored file of this name belongs to the caller."""


class JobNotFound(NotFound):
    """No job of this name belongs to the caller, or it has expired."""


class AlreadyExists(MaskwireError):
    """The identifier of the request was used with another request before."""


class FailedPrecondition(MaskwireError):
    """The request is valid, but this server cannot serve it; the message says what would help."""


class UnsupportedByModel(FailedPrecondition):
    """The model cannot serve such prompts; the message says which model could."""


class ResourceExhausted(MaskwireError):
    """A limit is reached; `retry_after` is set where waiting helps."""


class Overloaded(ResourceExhausted):
    """A queue of the server is full; it refused the call without working on it."""


class QuotaExceeded(ResourceExhausted):
    """The caller's tenant has used up what it may have; `quota` names the limit.

    `retry_after` is set where waiting helps; then calls wait and try again as for `Overloaded`.
    """


class Unavailable(MaskwireError):
    """No server answered, or the one that did is shutting down; retries did not help."""


class ConnectionLost(Unavailable):
    """A session's connection broke before this request was answered; it may have been carried out.

    A session that reconnects lives on.
    """


class DeadlineExceeded(MaskwireError):
    """The time allowed for the call passed before the answer came."""


class Cancelled(MaskwireError):
    """The call was cancelled."""


class FrameDropped(MaskwireError):
    """A frame of a session has no answer of its own: dropped, or left out by the sampling."""


class DataLoss(MaskwireError):
    """A file is broken in the middle; what came before the error is good."""


class JobFailed(MaskwireError):
    """A job failed for good, in all its attempts; message, status and reason are its cause's.

    Attributes:
        job_name: The job, `jobs/...`.
        cause: What the call itself would have raised, had it not been queued.
    """

    def __init__(self, job_name: str, cause: MaskwireError) -> None:
        super().__init__(
            cause.message,
            status=cause.status,
            reason=cause.reason,
            request_id=cause.request_id,
            violations=cause.violations,
            resource=cause.resource,
            quota=cause.quota,
        )
        self.job_name = job_name
        self.cause = cause


class JobCancelled(MaskwireError):
    """A job was cancelled, so it has no result.

    Attributes:
        job_name: The job, `jobs/...`.
    """

    def __init__(self, job_name: str) -> None:
        super().__init__(f"{job_name} was cancelled", status="CANCELLED", resource=job_name)
        self.job_name = job_name


class Unauthenticated(MaskwireError):
    """The call carries no valid credentials."""


class PermissionDenied(MaskwireError):
    """The credentials do not allow this call."""


class Unimplemented(MaskwireError):
    """The server does not serve this call."""


class InternalError(MaskwireError):
    """The server failed, or answered with something that the contract excludes."""
