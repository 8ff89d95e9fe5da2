"""Translates failed gRPC calls, of either kind of channel, into the exceptions of `errors`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar, cast

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from . import errors
from .errors import FieldViolation, MaskwireError, QuotaViolation

_DetailT = TypeVar("_DetailT", bound=Message)

_BY_STATUS: Mapping[grpc.StatusCode, type[MaskwireError]] = {
    grpc.StatusCode.CANCELLED: errors.Cancelled,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidArgument,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidArgument,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExists,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.ResourceExhausted,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPrecondition,
    grpc.StatusCode.DATA_LOSS: errors.DataLoss,
    grpc.StatusCode.UNIMPLEMENTED: errors.Unimplemented,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
}

# A reason refines the class that its status gives; it never replaces it by an unrelated one.
_BY_REASON: Mapping[str, type[MaskwireError]] = {
    "IMAGE_NOT_FOUND": errors.ImageNotFound,
    "MODEL_NOT_FOUND": errors.ModelNotFound,
    "FILE_NOT_FOUND": errors.StoredFileNotFound,
    "JOB_NOT_FOUND": errors.JobNotFound,
    "UNSUPPORTED_BY_MODEL": errors.UnsupportedByModel,
    "OVERLOADED": errors.Overloaded,
    "QUOTA_EXCEEDED": errors.QuotaExceeded,
    "PAYLOAD_TOO_LARGE": errors.PayloadTooLarge,
}


class _FailedCall(Protocol):
    """What `grpc.RpcError` of the sync channel and `grpc.aio.AioRpcError` have in common."""

    def code(self) -> grpc.StatusCode: ...

    def details(self) -> str | None: ...


def error_from_rpc(error: grpc.RpcError, request_id: str = "") -> MaskwireError:
    """Return the exception for a failed call.

    Args:
        error: What the call raised; a finished call of the sync or the asyncio channel.
        request_id: Identifier that the call was sent with.
    """
    call = cast(_FailedCall, error)
    rich = _rich_status(error)
    details = rich if rich is not None else status_pb2.Status()
    message = details.message or call.details() or call.code().name
    return _error(call.code(), message, details, request_id)


def error_from_status(status: status_pb2.Status, request_id: str = "") -> MaskwireError:
    """Return the exception for a status that came within an answer.

    Args:
        status: What the server says.
        request_id: Identifier that the call was sent with.
    """
    by_number = {code.value[0]: code for code in grpc.StatusCode}
    code = by_number.get(status.code, grpc.StatusCode.UNKNOWN)
    return _error(code, status.message or code.name, status, request_id)


def _error(
    code: grpc.StatusCode, message: str, details: status_pb2.Status, request_id: str
) -> MaskwireError:
    info = _detail(details, error_details_pb2.ErrorInfo())
    retry = _detail(details, error_details_pb2.RetryInfo())
    resource = _detail(details, error_details_pb2.ResourceInfo())
    request = _detail(details, error_details_pb2.BadRequest())
    used_up = _detail(details, error_details_pb2.QuotaFailure())
    return _class_for(code, info.reason if info else "")(
        message,
        status=code.name,
        reason=info.reason if info else "",
        request_id=request_id,
        violations=tuple(
            FieldViolation(field=violation.field, rule=violation.description)
            for violation in (request.field_violations if request else ())
        ),
        retry_after=retry.retry_delay.ToTimedelta() if retry else None,
        resource=resource.resource_name if resource else "",
        quota=_quota(used_up) if used_up else None,
    )


def _quota(failure: error_details_pb2.QuotaFailure) -> QuotaViolation | None:
    if not failure.violations:
        return None
    first = failure.violations[0]
    most = first.quota_value or None
    return QuotaViolation(limit=first.quota_id, subject=first.subject, most=most)


def _class_for(code: grpc.StatusCode, reason: str) -> type[MaskwireError]:
    general = _BY_STATUS.get(code, errors.InternalError)
    special = _BY_REASON.get(reason, general)
    return special if issubclass(special, general) else general


def _rich_status(error: grpc.RpcError) -> status_pb2.Status | None:
    """Return the `google.rpc.Status` of the trailers, or None where there is none that fits."""
    try:
        return cast("status_pb2.Status | None", rpc_status.from_call(cast(grpc.Call, error)))
    except ValueError:  # code or message differ from the call's own: not to be trusted
        return None


def _detail(status: status_pb2.Status, message: _DetailT) -> _DetailT | None:
    """Return the first detail of the message's type, read into it, or None."""
    for detail in status.details:
        if detail.Unpack(message):
            return message
    return None
