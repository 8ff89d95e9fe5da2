"""What the transport knows about a call: which method it is, who makes it, and how it ended.

Interceptors hand a `Call` from one to the next; servicers read `current_caller`.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import grpc

from ..domain.errors import ErrorCode
from ..domain.segmentation import Caller

ServicerContext = grpc.aio.ServicerContext[Any, Any]

_INFRASTRUCTURE_PREFIX = "/grpc."

# A client whose time is over cancels the call, often before it is over for the server: on the wire
# it is rounded up, to 10 ms from a second on, to 100 ms from ten, to a second from a hundred.
_ROUNDED_UP = 0.01
_TIMERS_DIFFER_S = 0.01

current_caller: ContextVar[Caller] = ContextVar("current_caller")
"""Who makes the call that runs in this context; set for every call of `maskwire.v1`."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method of the contract, or `UNKNOWN_METHOD` for every other path.

    Attributes:
        service: Full name of the service, e.g. `maskwire.v1.SegmentationService`.
        name: Name of the method, e.g. `SegmentImage`.
        streams_requests: Whether the client sends a stream.
        streams_responses: Whether the server sends a stream.
    """

    service: str
    name: str
    streams_requests: bool
    streams_responses: bool

    @property
    def path(self) -> str:
        """The path on the wire."""
        return f"/{self.service}/{self.name}"

    @property
    def kind(self) -> str:
        """The kind of call in the words of the field's metrics."""
        if self.streams_requests:
            return "bidi_stream" if self.streams_responses else "client_stream"
        return "server_stream" if self.streams_responses else "unary"


UNKNOWN_METHOD = Method("unknown", "unknown", streams_requests=False, streams_responses=False)
"""Stands for every path that no service has, so that logs and metrics stay bounded."""


@dataclass(slots=True)
class Call:
    """One call on its way through the interceptors.

    Attributes:
        method: Which method is called.
        context: gRPC's own side of the call.
        request_id: Identifier of the call; the request-id interceptor sets it.
        error: Kind of the error of ours that ended it; the error interceptor sets it.
        quota: The tenant's limit that ended it, as `QuotaLimit` has it; set likewise.
        started_s: When the server began with it, on `time.perf_counter`'s clock.
    """

    method: Method
    context: ServicerContext
    request_id: str = ""
    error: ErrorCode | None = None
    quota: str = ""
    started_s: float = field(default_factory=time.perf_counter)
    _given_s: float | None = field(init=False)

    def __post_init__(self) -> None:
        """Note how long the caller waits; typed as a number in the stubs, None without a limit."""
        self._given_s = self.context.time_remaining()

    def elapsed_s(self) -> float:
        """Return the seconds since the server began with the call."""
        return time.perf_counter() - self.started_s

    def metadata(self, key: str) -> str | None:
        """Return the first value of a text metadata key that the client sent, or None."""
        for name, value in self.context.invocation_metadata() or ():
            if name == key and isinstance(value, str):
                return value
        return None

    def final_code(self, error: BaseException | None) -> grpc.StatusCode:
        """Return the status that the call ends with.

        Args:
            error: What left the inner interceptors, or None.
        """
        # A call may be cancelled while its status is on its way: then that status is the end of it.
        if error is None or isinstance(error, grpc.aio.AbortError) or self.context.done():
            # None, whatever the stubs say, until somebody sets or aborts with a code.
            code: grpc.StatusCode | None = self.context.code()
            return code if code is not None else grpc.StatusCode.OK
        # Everything else was translated further in; what is left is the end of the connection or
        # of the caller's patience.
        if self._is_out_of_time():
            return grpc.StatusCode.DEADLINE_EXCEEDED
        return grpc.StatusCode.CANCELLED

    def _is_out_of_time(self) -> bool:
        remaining_s: float | None = self.context.time_remaining()
        if remaining_s is None or self._given_s is None:
            return False
        return remaining_s <= self._given_s * _ROUNDED_UP + _TIMERS_DIFFER_S


def is_infrastructure(path: str) -> bool:
    """Whether a path belongs to gRPC's own services (health, reflection, channelz)."""
    return path.startswith(_INFRASTRUCTURE_PREFIX)
