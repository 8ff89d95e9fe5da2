from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from maskwire_server.transport.health import HealthServer

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
async def server() -> AsyncIterator[HealthServer]:
    server = HealthServer("127.0.0.1", 0)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def stub(server: HealthServer) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield health_pb2_grpc.HealthStub(channel)


async def test_it_serves_until_it_drains(server, stub):
    request = health_pb2.HealthCheckRequest()
    assert (await stub.Check(request)).status == SERVING
    await server.begin_drain()
    assert (await stub.Check(request)).status == NOT_SERVING


async def test_watches_hear_of_the_drain_and_end_with_the_server(server, stub):
    watch = stub.Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == SERVING
    await server.begin_drain()
    assert (await watch.read()).status == NOT_SERVING
    stopping = asyncio.ensure_future(server.stop())
    assert await watch.read() is grpc.aio.EOF
    await stopping


async def test_it_speaks_for_the_process_alone(stub):
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.Check(health_pb2.HealthCheckRequest(service="maskwire.v1.JobService"))
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_taken_port_is_an_error(server):
    with pytest.raises(OSError, match=f"127.0.0.1:{server.port}"):
        await HealthServer("127.0.0.1", server.port).start()
