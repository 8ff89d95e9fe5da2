"""The one table that maps the domain's error codes to gRPC statuses, and the details beside them.

Every status carries `google.rpc.ErrorInfo` with the domain's code as its reason and
`google.rpc.RequestInfo`; violations, retry delays and missing resources have details of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from ..domain.errors import ErrorCode, MaskwireError
from ..domain.identity import ANONYMOUS

ERROR_DOMAIN = "maskwire.v1"
"""`ErrorInfo.domain` of every error."""

INTERNAL_REASON = "INTERNAL"
"""`ErrorInfo.reason` of errors that nobody expected."""

INTERNAL_MESSAGE = "internal error; the server's log has the details under the request id"
"""All that a caller learns about an error that nobody expected."""

STATUS_OF_CODE: Mapping[ErrorCode, grpc.StatusCode] = {
    ErrorCode.INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.IMAGE_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    ErrorCode.MODEL_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    ErrorCode.FILE_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    ErrorCode.OUT_OF_RANGE: grpc.StatusCode.OUT_OF_RANGE,
    ErrorCode.QUOTA_EXCEEDED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.STORAGE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    ErrorCode.OBJECT_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    ErrorCode.FRAME_NOT_HELD: grpc.StatusCode.NOT_FOUND,
    ErrorCode.SESSION_STATE: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.SEED_REFUSED: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.JOB_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    ErrorCode.JOB_NOT_DONE: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.JOB_CANCELLED: grpc.StatusCode.ABORTED,
    ErrorCode.REQUEST_ID_REUSED: grpc.StatusCode.ALREADY_EXISTS,
    ErrorCode.JOBS_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    ErrorCode.WORKER_LOST: grpc.StatusCode.INTERNAL,
    ErrorCode.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    ErrorCode.PERMISSION_DENIED: grpc.StatusCode.PERMISSION_DENIED,
    ErrorCode.INTERNAL: grpc.StatusCode.INTERNAL,
    ErrorCode.SESSION_OVER: grpc.StatusCode.UNAVAILABLE,
    ErrorCode.DATA_LOSS: grpc.StatusCode.DATA_LOSS,
    ErrorCode.UNSUPPORTED_BY_MODEL: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.SOURCE_DISABLED: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.SOURCE_FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    # Not UNAVAILABLE: trying again at once, as clients then do, would not help.
    ErrorCode.SOURCE_UNAVAILABLE: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.PAYLOAD_TOO_LARGE: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
    ErrorCode.SHUTTING_DOWN: grpc.StatusCode.UNAVAILABLE,
    ErrorCode.MODEL_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    ErrorCode.UNIMPLEMENTED: grpc.StatusCode.UNIMPLEMENTED,
}

_RESOURCE_TYPES: Mapping[ErrorCode, str] = {
    ErrorCode.IMAGE_NOT_FOUND: "image",
    ErrorCode.MODEL_NOT_FOUND: "model",
    ErrorCode.MODEL_UNAVAILABLE: "model",
    ErrorCode.UNSUPPORTED_BY_MODEL: "model",
    ErrorCode.FILE_NOT_FOUND: "file",
    ErrorCode.OBJECT_NOT_FOUND: "object",
    ErrorCode.FRAME_NOT_HELD: "frame",
    ErrorCode.JOB_NOT_FOUND: "job",
    ErrorCode.REQUEST_ID_REUSED: "job",
}

# A status travels in trailers, of which clients take 8 KiB (gRPC's soft limit) in all: the message
# twice, once with every byte that is not ASCII tripled, and the details in base 64. These bounds
# keep within that whatever text of the caller's is quoted.
_MAX_TEXT_BYTES = 512
_MAX_VIOLATION_TEXT_BYTES = 192
_MAX_VIOLATIONS = 8


def status_from_error(error: MaskwireError, request_id: str) -> status_pb2.Status:
    """Return the status with all details for an error that the domain raised."""
    return _status(
        STATUS_OF_CODE[error.code],
        error.message,
        _details(error, request_id),
    )


def internal_status(request_id: str) -> status_pb2.Status:
    """Return the status for an error that nobody expected; it tells nothing about it."""
    return _status(
        grpc.StatusCode.INTERNAL,
        INTERNAL_MESSAGE,
        (
            error_details_pb2.ErrorInfo(domain=ERROR_DOMAIN, reason=INTERNAL_REASON),
            error_details_pb2.RequestInfo(request_id=request_id),
        ),
    )


def to_grpc_status(status: status_pb2.Status) -> grpc.Status:
    """Return the form of a status that `abort_with_status` takes."""
    converted: grpc.Status = rpc_status.to_status(status)
    return converted


def _details(error: MaskwireError, request_id: str) -> Iterator[Message]:
    yield error_details_pb2.ErrorInfo(domain=ERROR_DOMAIN, reason=error.code.name)
    yield error_details_pb2.RequestInfo(request_id=request_id)
    if error.violations:
        yield error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(
                    field=_shortened(violation.field, _MAX_VIOLATION_TEXT_BYTES),
                    description=_shortened(violation.description, _MAX_VIOLATION_TEXT_BYTES),
                )
                for violation in error.violations[:_MAX_VIOLATIONS]
            ]
        )
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromTimedelta(error.retry_after)
        yield retry
    if error.quota is not None:
        yield error_details_pb2.QuotaFailure(
            violations=[
                error_details_pb2.QuotaFailure.Violation(
                    subject=f"tenant:{error.quota.tenant or ANONYMOUS.name}",
                    description=_shortened(error.message, _MAX_VIOLATION_TEXT_BYTES),
                    quota_id=error.quota.limit,
                    quota_value=error.quota.most,
                )
            ]
        )
    if error.resource and error.code in _RESOURCE_TYPES:
        yield error_details_pb2.ResourceInfo(
            resource_type=_RESOURCE_TYPES[error.code], resource_name=_shortened(error.resource)
        )


def _status(
    code: grpc.StatusCode, message: str, details: Iterator[Message] | tuple[Message, ...]
) -> status_pb2.Status:
    status = status_pb2.Status(
        code=code_pb2.Code.Value(code.name),
        message=_shortened(message),
    )
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _shortened(text: str, max_bytes: int = _MAX_TEXT_BYTES) -> str:
    encoded = text.encode(errors="replace")
    if len(encoded) <= max_bytes:
        return text
    return encoded[: max_bytes - 3].decode(errors="ignore") + "..."
