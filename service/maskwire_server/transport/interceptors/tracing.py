"""Traces calls; what becomes of that is the tracer's business."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from ..calls import Call
from .pipeline import Interceptor, Proceed

_TRACE_KEYS = frozenset({"traceparent", "tracestate"})


class CallOutcome(Protocol):
    """Hears how a traced call ended."""

    def ended(self, status: str, number: int, error: str | None) -> None:
        """Record gRPC's status by name and number, and our own word for the error."""


class CallTracer(Protocol):
    """Traces calls."""

    def call(
        self, service: str, method: str, request_id: str, *, lasts: bool, headers: Mapping[str, str]
    ) -> AbstractContextManager[CallOutcome]:
        """Return what a call is traced in; `headers` name the caller's trace.

        A call that `lasts` is a live session, whose requests are traced on their own.
        """


class TracingInterceptor(Interceptor):
    """Has a tracer trace every call, with the status that it ends with."""

    def __init__(self, tracer: CallTracer) -> None:
        self._tracer = tracer

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        """Trace the call, whatever its end is."""
        method = call.method
        lasts = method.kind == "bidi_stream"
        with self._tracer.call(
            method.service, method.name, call.request_id, lasts=lasts, headers=_headers(call)
        ) as traced:
            outcome: BaseException | None = None
            try:
                return await proceed()
            except BaseException as error:
                outcome = error
                raise
            finally:
                code = call.final_code(outcome)
                error_name = None if call.error is None else call.error.name
                traced.ended(code.name, code.value[0], error_name)


def _headers(call: Call) -> Mapping[str, str]:
    sent = call.context.invocation_metadata() or ()
    return {key: value for key, value in sent if key in _TRACE_KEYS and isinstance(value, str)}
