"""Spans of the client's calls, in the traces of an application that uses OpenTelemetry.

An application that does has imported OpenTelemetry itself: until then nothing happens here, and
nothing of it is imported or needed. Every call goes through a channel, so the spans are made there:
one for each attempt that this client makes (those of gRPC itself look like one), with the status
that it ends with. The metadata of the call tells the server which trace it belongs to.
"""

from __future__ import annotations

import abc
import sys
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import grpc

from ._configuration import REQUEST_ID_KEY
from ._first_status import at_once

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]

_attempts: ContextVar[list[int] | None] = ContextVar("attempts", default=None)


def traced(channel: grpc.Channel) -> grpc.Channel:
    """Return a channel whose calls are traced."""
    return cast(grpc.Channel, _TracedChannel(channel, _BlockingMethod, _StreamingMethod))


def traced_async(channel: grpc.aio.Channel) -> grpc.aio.Channel:
    """Return an asyncio channel whose calls are traced."""
    return cast(grpc.aio.Channel, _TracedChannel(channel, _AsyncMethod, _AsyncMethod))


@contextmanager
def numbered_attempts() -> Iterator[None]:
    """Number the attempts within it, which are attempts at the same call; a decorator as well."""
    before = _attempts.set([0])
    try:
        yield
    finally:
        _attempts.reset(before)


@asynccontextmanager
async def numbered_attempts_async() -> AsyncIterator[None]:
    """Number the attempts of a coroutine, as its decorator."""
    with numbered_attempts():
        yield


def in_this_context(function: Callable[[], None]) -> Callable[[], None]:
    """Return a function that a thread may run as if it were called here, in the same trace."""
    return partial(copy_context().run, function)


class _Method(abc.ABC):
    """A method of a channel, to be called as gRPC's own."""

    def __init__(self, path: str, method: Callable[..., Any]) -> None:
        self._path = path
        self._method = method

    def __getattr__(self, name: str) -> Any:
        """Leave everything else as it is."""
        return getattr(self._method, name)

    def __call__(self, *requests: Any, metadata: _Metadata | None = None, **options: Any) -> Any:
        """Begin a call, in a span if the application traces.

        Args:
            requests: The request or the stream of them; nothing where a stream is written later.
            metadata: The call's metadata.
            options: What else the channel's own method takes.
        """
        if "opentelemetry.trace" not in sys.modules:
            return self._method(*requests, metadata=metadata, **options)
        span, names = _begin(self._path, metadata or ())

        def call() -> Any:
            return self._method(*requests, metadata=(*(metadata or ()), *names), **options)

        return self._carry_out(call, span)

    @abc.abstractmethod
    def _carry_out(self, call: Callable[[], Any], span: Span) -> Any:
        """Begin the call, and end the span with it."""


class _BlockingMethod(_Method):
    """A method that returns its response."""

    def _carry_out(self, call: Callable[[], Any], span: Span) -> Any:
        code = grpc.StatusCode.UNKNOWN
        try:
            response = call()
            code = grpc.StatusCode.OK
        except grpc.RpcError as error:
            code = cast(grpc.Call, error).code()
            raise
        finally:
            _end(span, code)
        return response


class _StreamingMethod(_Method):
    """A method that returns a call, which is iterated for its responses."""

    def _carry_out(self, call: Callable[[], Any], span: Span) -> Any:
        begun = call()
        # Not the call itself: one that nobody holds any more is to be cancelled.
        known = weakref.ref(begun)

        def done() -> None:
            held = known()
            _end(span, grpc.StatusCode.CANCELLED if held is None else held.code())

        if not begun.add_callback(done):
            done()
        return begun


class _AsyncMethod(_Method):
    """A method of an asyncio channel, of any kind."""

    def _carry_out(self, call: Callable[[], Any], span: Span) -> Any:
        begun = call()
        begun.add_done_callback(lambda done: _end(span, at_once(done.code())))
        return begun


class _TracedChannel:
    """A channel of either kind, seen from generated stubs and from whoever closes it."""

    def __init__(self, channel: Any, to_one: type[_Method], to_stream: type[_Method]) -> None:
        self._channel = channel
        self._to_one = to_one
        self._to_stream = to_stream

    def __getattr__(self, name: str) -> Any:
        """Leave everything else as it is."""
        return getattr(self._channel, name)

    def unary_unary(self, path: str, *arguments: Any, **options: Any) -> _Method:
        """Return a method with one request and one response."""
        return self._to_one(path, self._channel.unary_unary(path, *arguments, **options))

    def stream_unary(self, path: str, *arguments: Any, **options: Any) -> _Method:
        """Return a method with a stream of requests and one response."""
        return self._to_one(path, self._channel.stream_unary(path, *arguments, **options))

    def unary_stream(self, path: str, *arguments: Any, **options: Any) -> _Method:
        """Return a method with one request and a stream of responses."""
        return self._to_stream(path, self._channel.unary_stream(path, *arguments, **options))

    def stream_stream(self, path: str, *arguments: Any, **options: Any) -> _Method:
        """Return a method with streams of both."""
        return self._to_stream(path, self._channel.stream_stream(path, *arguments, **options))


def _begin(path: str, metadata: _Metadata) -> tuple[Span, tuple[tuple[str, str], ...]]:
    """Return the span of an attempt, and the metadata that names it."""
    # The application has imported it already, or this is not reached.
    from opentelemetry import propagate, trace

    _, service, method = path.split("/")
    attributes: dict[str, str | int] = {
        "rpc.system": "grpc",
        "rpc.service": service,
        "rpc.method": method,
    }
    for key, value in metadata:
        if key == REQUEST_ID_KEY and isinstance(value, str):
            attributes["maskwire.request_id"] = value
    attempts = _attempts.get()
    if attempts is not None:
        attempts[0] += 1
        attributes["maskwire.attempt"] = attempts[0]
    span = trace.get_tracer("maskwire_client").start_span(
        f"{service}/{method}", kind=trace.SpanKind.CLIENT, attributes=attributes
    )
    names: dict[str, str] = {}
    propagate.inject(names, trace.set_span_in_context(span))
    return span, tuple((key.lower(), value) for key, value in names.items())


def _end(span: Span, code: grpc.StatusCode) -> None:
    """End a span with the status of its call: to who called, every one but OK is an error."""
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("rpc.grpc.status_code", code.value[0])
    if code is not grpc.StatusCode.OK:
        span.set_attribute("error.type", code.name)
        span.set_status(Status(StatusCode.ERROR, code.name))
    span.end()
