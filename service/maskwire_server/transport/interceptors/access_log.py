"""Writes one log line for every call."""

from __future__ import annotations

from typing import Any

import grpc
import structlog

from ..calls import Call
from .pipeline import Interceptor, Proceed

_log = structlog.get_logger(__name__)

# What operators should see without asking; the caller's own mistakes are not among it.
_NOTABLE = frozenset(
    {
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
    }
)


class AccessLogInterceptor(Interceptor):
    """Logs method, status, duration and peer: at info where the server is at issue, else debug."""

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        """Log the call when it has ended."""
        outcome: BaseException | None = None
        try:
            return await proceed()
        except BaseException as error:
            outcome = error
            raise
        finally:
            code = call.final_code(outcome)
            write = _log.info if code in _NOTABLE else _log.debug
            write(
                "call",
                method=call.method.path,
                code=code.name,
                duration_ms=round(call.elapsed_s() * 1e3, 3),
                peer=call.context.peer(),
            )
