"""The base of all interceptors, and the pipeline that runs them around the handlers of every RPC.

Two properties matter. First, every handler is given to gRPC as one that reads a stream of raw
requests, whatever its kind (on the wire there is no difference): so interceptors run before the
request is read and parsed, refusing is cheap, and a request that is no protobuf message is the
caller's mistake. Second, responses are written from one coroutine, not through nested generators:
so a cancelled call ends each part of it at once, in its own task and in the right order.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError, Message

from ...domain.errors import ErrorCode, MaskwireError
from ..calls import UNKNOWN_METHOD, Call, Method, ServicerContext, is_infrastructure
from ..draining import drain_requests, look_at_failure

Proceed = Callable[[], Awaitable[Any]]
"""Runs what is further in; gives the response of a unary one, None for a stream."""

_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # generic in the stubs only
_FindHandler: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]]"


class Interceptor:
    """One layer around every call; subclasses override what they need."""

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        """Run the call: do something before or after `proceed()`, or raise instead."""
        return await proceed()

    def request_received(self, call: Call, request: Message, size_bytes: int) -> None:
        """Look at a request message before the servicer gets it; may raise `MaskwireError`."""

    def response_made(self, call: Call, response: Message) -> None:
        """Look at a response message before it is sent."""


@dataclass(frozen=True, slots=True)
class _Target:
    """A method's servicer and how to read its requests."""

    method: Method
    behaviour: Callable[[Any, ServicerContext], Any] | None
    parse: Callable[[bytes], Message]


class CallPipeline(grpc.aio.ServerInterceptor):
    """Runs interceptors around every call but those of gRPC's own services."""

    def __init__(
        self,
        interceptors: Sequence[Interceptor],
        *,
        max_stall_s: float = 60.0,
        max_request_s: float = 120.0,
    ) -> None:
        """Take the interceptors, the outermost first.

        Args:
            interceptors: What runs around every call.
            max_stall_s: A stream whose client takes no message for so long is ended.
            max_request_s: A call with one request whose message takes longer to come is ended.
        """
        self._max_stall_s = max_stall_s
        self._max_request_s = max_request_s
        self._around = [one for one in interceptors if _overrides(one, "intercept")]
        self._on_request = [one for one in interceptors if _overrides(one, "request_received")]
        self._on_response = [one for one in interceptors if _overrides(one, "response_made")]
        self._handlers: dict[str, _Handler] = {}
        self._unknown = self._wrap(_Target(UNKNOWN_METHOD, None, _refuse_to_parse), None)

    async def intercept_service(
        self, continuation: _FindHandler, handler_call_details: grpc.HandlerCallDetails
    ) -> _Handler | None:
        """Return the wrapped handler of a method; made once for each method."""
        path = handler_call_details.method
        known = self._handlers.get(path)
        if known is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is None:
            return self._unknown
        if is_infrastructure(path):
            return handler
        wrapped = self._wrap(_target_of(path, handler), handler.response_serializer)
        self._handlers[path] = wrapped
        return wrapped

    def _wrap(self, target: _Target, serializer: Callable[[Any], bytes] | None) -> _Handler:
        async def respond_once(_: object, context: ServicerContext) -> Any:
            call = Call(target.method, context)
            return await self._run(0, call, partial(self._answer, call, target))

        async def respond_with_stream(_: object, context: ServicerContext) -> None:
            call = Call(target.method, context)
            await self._run(0, call, partial(self._answer_with_stream, call, target))

        if target.method.streams_responses:
            return grpc.stream_stream_rpc_method_handler(
                respond_with_stream,
                response_serializer=serializer,
            )
        return grpc.stream_unary_rpc_method_handler(
            respond_once,
            response_serializer=serializer,
        )

    async def _run(self, depth: int, call: Call, innermost: Proceed) -> Any:
        if depth == len(self._around):
            return await innermost()
        proceed = partial(self._run, depth + 1, call, innermost)
        return await self._around[depth].intercept(call, proceed)

    async def _answer(self, call: Call, target: _Target) -> Any:
        behaviour = _served(target)
        request = await self._requests(call, target)
        response = await behaviour(request, call.context)
        if target.method.streams_requests:
            await drain_requests(call)
        for interceptor in self._on_response:
            interceptor.response_made(call, response)
        return response

    async def _answer_with_stream(self, call: Call, target: _Target) -> None:
        behaviour = _served(target)
        request = await self._requests(call, target)
        responses: AsyncGenerator[Message, None] = behaviour(request, call.context)
        async with aclosing(responses):
            async for response in responses:
                for interceptor in self._on_response:
                    interceptor.response_made(call, response)
                await self._write(call, response)

    async def _write(self, call: Call, response: Message) -> None:
        """Send a message; flow control makes this wait for a client that does not read."""
        timeout = asyncio.timeout(self._max_stall_s)
        try:
            async with timeout:
                await call.context.write(response)
        except TimeoutError as error:
            if not timeout.expired():
                raise
            raise MaskwireError(
                ErrorCode.DEADLINE_EXCEEDED,
                f"the client took no message for {self._max_stall_s:g} s",
            ) from error

    async def _requests(self, call: Call, target: _Target) -> Message | AsyncIterator[Message]:
        if target.method.streams_requests:
            return self._read_stream(call, target)
        raw = await self._read_once(call)
        if raw is grpc.aio.EOF:
            await _let_cancellation_arrive()
            raise MaskwireError(ErrorCode.INVALID_ARGUMENT, "the request message is missing")
        return self._parse(call, target, raw)

    async def _read_once(self, call: Call) -> Any:
        """Return the message of a call that has one, if it comes in time.

        A client that announces a call and sends nothing, or a byte at a time, would keep its place
        for as long as it likes. Deadlines that are shorter end it as well, and cost less.
        """
        limit_s = self._max_request_s
        # Typed as a number in the stubs, None where the client set no deadline.
        remaining_s: float | None = call.context.time_remaining()
        if call.method.kind == "unary" and (remaining_s is None or remaining_s <= limit_s):
            return await call.context.read()
        # The read is left alone when it does not end in time: one that is cancelled leaks.
        reading = asyncio.ensure_future(call.context.read())
        reading.add_done_callback(look_at_failure)
        done, _ = await asyncio.wait((reading,), timeout=limit_s)
        if not done:
            raise MaskwireError(
                ErrorCode.DEADLINE_EXCEEDED,
                f"the request did not come within {limit_s:g} s (grpc.max_request_s)",
            )
        return reading.result()

    async def _read_stream(self, call: Call, target: _Target) -> AsyncIterator[Message]:
        while (raw := await call.context.read()) is not grpc.aio.EOF:
            yield self._parse(call, target, raw)
        await _let_cancellation_arrive()

    def _parse(self, call: Call, target: _Target, raw: bytes) -> Message:
        try:
            request = target.parse(raw)
        except DecodeError as error:
            raise MaskwireError(
                ErrorCode.INVALID_ARGUMENT, "the request is not a protobuf message of its type"
            ) from error
        for interceptor in self._on_request:
            interceptor.request_received(call, request, len(raw))
        return request


def _overrides(interceptor: Interceptor, hook: str) -> bool:
    return getattr(type(interceptor), hook) is not getattr(Interceptor, hook)


def _target_of(path: str, handler: _Handler) -> _Target:
    _, service, name = path.split("/")
    method = Method(service, name, handler.request_streaming, handler.response_streaming)
    behaviour: Any = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    # What the generated base servicers answer with is a plain function that only raises.
    is_implemented = inspect.iscoroutinefunction(behaviour) or inspect.isasyncgenfunction(behaviour)
    if handler.request_deserializer is None:
        raise TypeError(f"{path} has no request type")
    return _Target(method, behaviour if is_implemented else None, handler.request_deserializer)


def _served(target: _Target) -> Callable[[Any, ServicerContext], Any]:
    if target.behaviour is None:
        what = (
            "this method is unknown to"
            if target.method is UNKNOWN_METHOD
            else (f"{target.method.path} is not implemented in this version of")
        )
        raise MaskwireError(ErrorCode.UNIMPLEMENTED, f"{what} the server")
    return target.behaviour


def _refuse_to_parse(_: bytes) -> Message:
    raise DecodeError("a method that is unknown has no request type")


async def _let_cancellation_arrive() -> None:
    # grpc.aio ends the requests of a cancelled call as if the client had closed its half, and tells
    # of the cancellation right after it: in the next turn of the event loop, but where its thread
    # is held up in between (3 of 100 calls on two cores that were taken away for milliseconds all
    # the time). So no method may do anything at the end of its requests that a client who cancelled
    # would mind: an upload ends where all bytes are there that were announced, and not else.
    await asyncio.sleep(0)
