"""A grpc.aio server on a free port for tests of the transport, with a channel to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from maskwire_server.transport.interceptors.pipeline import CallPipeline, Interceptor


@asynccontextmanager
async def serving(
    interceptors: Sequence[Interceptor],
    *services: tuple[Callable[..., None], object],
    **limits: float,
) -> AsyncIterator[grpc.aio.Channel]:
    """Serve `(add_X_to_server, servicer)` pairs behind the interceptors; yield a channel."""
    server = grpc.aio.server(
        interceptors=[CallPipeline(interceptors, **limits)], options=[("grpc.so_reuseport", 0)]
    )
    for add_to_server, servicer in services:
        add_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(0)


def detail(error: Any, kind: type[Message]) -> Any:
    """Return the detail of one type that a failed call carries; fail where there is none."""
    status = rpc_status.from_call(error)
    assert status is not None
    for packed in status.details:
        message = kind()
        if packed.Unpack(message):
            return message
    raise AssertionError(f"no {kind.__name__} in {status}")


def reason(error: Any) -> str:
    """Return the machine-readable reason of a failed call."""
    return str(detail(error, error_details_pb2.ErrorInfo).reason)
