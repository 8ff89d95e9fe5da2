"""Turns every error into the status that `transport/errors.py` says, for all four kinds of RPC."""

from __future__ import annotations

from typing import Any, Never

import grpc
import structlog
from google.rpc import code_pb2, status_pb2

from ...domain.errors import ErrorCode, MaskwireError
from ..calls import Call
from ..draining import drain_requests
from ..errors import internal_status, status_from_error, to_grpc_status
from .pipeline import Interceptor, Proceed

_log = structlog.get_logger(__name__)


class ErrorInterceptor(Interceptor):
    """Ends failed calls with a status that the table knows; logs what nobody expected."""

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        """Translate what `proceed` raises; cancellation and aborted calls pass as they are."""
        try:
            return await proceed()
        # An InternalError is gRPC's own: the connection went away under a read or a write.
        except (grpc.aio.AbortError, grpc.aio.InternalError):
            raise
        except Exception as error:
            status = _translated(error, call)
        # Whoever stands still is in the middle of no write, and the read that waits is not ended.
        if call.method.kind == "client_stream" and status.code != code_pb2.DEADLINE_EXCEEDED:
            await drain_requests(call)
        return await _abort(call, status)


async def _abort(call: Call, status: status_pb2.Status) -> Never:
    grpc_status = to_grpc_status(status)
    metadata = (*call.context.trailing_metadata(), *grpc_status.trailing_metadata)
    await call.context.abort(grpc_status.code, grpc_status.details, metadata)


def _translated(error: Exception, call: Call) -> status_pb2.Status:
    if isinstance(error, MaskwireError):
        call.error = error.code
        call.quota = "" if error.quota is None else error.quota.limit
        return status_from_error(error, call.request_id)
    if isinstance(error, NotImplementedError):
        call.error = ErrorCode.UNIMPLEMENTED
        message = f"{call.method.path} is not implemented in this version of the server"
        return status_from_error(MaskwireError(ErrorCode.UNIMPLEMENTED, message), call.request_id)
    call.error = ErrorCode.INTERNAL
    _log.error("unexpected error", method=call.method.path, exc_info=error)
    return internal_status(call.request_id)
