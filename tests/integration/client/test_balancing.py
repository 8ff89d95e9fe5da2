"""Both clients and several servers behind one name: a draining server is left alone."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import grpc
import pytest
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_health.v1.health_pb2 import HealthCheckResponse

from maskwire.v1 import mask_pb2, segmentation_pb2_grpc
from maskwire_client import AsyncClient, Client
from tests.support.scripted_server import Response, Script, returning

SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING


async def start(stack: AsyncExitStack, object_id: int):
    """Start a server that answers with this object, and return its port, script and health."""
    script = Script([returning(Response(masks=[mask_pb2.Mask(object_id=object_id)]))])
    condition = health.HealthServicer()
    await condition.set("", SERVING)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    segmentation_pb2_grpc.add_SegmentationServiceServicer_to_server(script, server)
    health_pb2_grpc.add_HealthServicer_to_server(condition, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stack.push_async_callback(server.stop, None)
    return port, script, condition


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_a_server_that_drains_gets_no_more_calls(kind) -> None:
    async with AsyncExitStack() as stack:
        first_port, first, condition = await start(stack, 1)
        second_port, second, _ = await start(stack, 2)
        target = f"ipv4:127.0.0.1:{first_port},127.0.0.1:{second_port}"
        client = kind(target)

        async def answer() -> int:
            if kind is AsyncClient:
                result = await client.segment(b"image", points=[(1, 1)])
            else:
                result = await asyncio.to_thread(client.segment, b"image", points=[(1, 1)])
            return result.masks[0].object_id

        async with asyncio.timeout(60):
            # Both take part once both connections stand.
            while {await answer() for _ in range(4)} != {1, 2}:
                pass
            await condition.set("", NOT_SERVING)
            # The client learns of it from the health stream, a moment later.
            while {await answer() for _ in range(4)} != {2}:
                pass
        calls = len(first.requests)
        assert {await answer() for _ in range(20)} == {2}
        assert len(first.requests) == calls
        assert len(second.requests) >= 20
        if kind is AsyncClient:
            await client.close()
        else:
            client.close()
