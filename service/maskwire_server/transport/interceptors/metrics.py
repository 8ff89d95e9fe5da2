"""Counts calls and messages; what becomes of the counts is the recorder's business."""

from __future__ import annotations

from typing import Any, Protocol

from google.protobuf.message import Message

from ..calls import Call
from .pipeline import Interceptor, Proceed


class CallRecorder(Protocol):
    """Receives measurements of calls; every method is cheap and never raises."""

    def call_started(self, kind: str, service: str, method: str) -> None:
        """Count a call that begins."""

    def call_finished(
        self, kind: str, service: str, method: str, code: str, seconds: float
    ) -> None:
        """Count a call that ends, with its status and how long it took."""

    def error_answered(self, code: str) -> None:
        """Count an error of the service that a call ended with, by the domain's code."""

    def quota_refused(self, limit: str) -> None:
        """Count a call that ended because its tenant has reached a limit, by the limit's name."""

    def message_received(self, kind: str, service: str, method: str) -> None:
        """Count a request message."""

    def message_sent(self, kind: str, service: str, method: str) -> None:
        """Count a response message."""


class MetricsInterceptor(Interceptor):
    """Reports every call to a recorder."""

    def __init__(self, recorder: CallRecorder) -> None:
        self._recorder = recorder

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        """Report the beginning and the end, whatever the end is."""
        method = call.method
        self._recorder.call_started(method.kind, method.service, method.name)
        outcome: BaseException | None = None
        try:
            return await proceed()
        except BaseException as error:
            outcome = error
            raise
        finally:
            code = call.final_code(outcome).name
            self._recorder.call_finished(
                method.kind, method.service, method.name, code, call.elapsed_s()
            )
            if call.error is not None:
                self._recorder.error_answered(call.error.name.lower())
            if call.quota:
                self._recorder.quota_refused(call.quota)

    def request_received(self, call: Call, request: Message, size_bytes: int) -> None:
        """Report a request."""
        method = call.method
        self._recorder.message_received(method.kind, method.service, method.name)

    def response_made(self, call: Call, response: Message) -> None:
        """Report a response."""
        method = call.method
        self._recorder.message_sent(method.kind, method.service, method.name)
