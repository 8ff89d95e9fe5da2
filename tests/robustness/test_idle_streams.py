"""A thousand streams of each kind that say nothing: what they take, and that it is given back.

`make robustness PYTEST_ARGS="-k idle -s"` prints the figures.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from maskwire.v1 import job_service_pb2, job_service_pb2_grpc, realtime_pb2, realtime_pb2_grpc
from maskwire_client import Client, Point
from maskwire_client.jobs import SegmentCall
from tests.support.metrics_page import scraped
from tests.support.process_memory import resident_mib
from tests.support.server_process import ServerProcess, server_process

STREAMS = 1000
CHANNELS = 10
HELD_S = 20.0
MOST_KIB_PER_STREAM = 256.0
"""Buffers of HTTP/2 and gRPC, the tasks of a call, a session's state before its first frame."""
MOST_GROWTH_MIB = 8.0
"""While nothing happens; what the allocator and the metrics page make of it."""
IMAGE = np.random.default_rng(6).integers(0, 255, (48, 64, 3), np.uint8)

Open = Callable[[grpc.aio.Channel], Any]


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server for each kind: memory that another kind gave back would hide what this one takes."""
    settings: dict[str, Any] = {
        "limits": {"max_in_flight_calls": 2 * STREAMS},
        "sessions": {
            "max_sessions": STREAMS,
            "max_sessions_per_tenant": STREAMS,
            "idle_timeout_s": 600,
        },
        "jobs": {"max_watchers": STREAMS, "workers": 0},
        "models": {"cpu_threads": 1},
    }
    with server_process(tmp_path_factory.mktemp("idle"), **settings) as process:
        yield process


async def _session(channel: grpc.aio.Channel) -> grpc.aio.Call:
    stub: Any = realtime_pb2_grpc.RealtimeServiceStub(channel)
    call: Any = stub.RunSession()
    config = realtime_pb2.SessionConfig()
    await call.write(realtime_pb2.RunSessionRequest(sequence=1, config=config))
    answer = await call.read()
    assert answer.HasField("started"), answer
    return call


async def _health(channel: grpc.aio.Channel) -> grpc.aio.Call:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    call: Any = stub.Watch(health_pb2.HealthCheckRequest())
    answer = await call.read()
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    return call


def _watching(job: str) -> Open:
    async def watch(channel: grpc.aio.Channel) -> grpc.aio.Call:
        stub = job_service_pb2_grpc.JobServiceStub(channel)
        call = stub.WatchJob(job_service_pb2.WatchJobRequest(name=job))
        answer = await call.read()
        assert answer is not grpc.aio.EOF
        return call

    return watch


@asynccontextmanager
async def _streams(address: str, begin: Open) -> AsyncIterator[None]:
    """Hold the streams open; each has had its first answer."""
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(
                grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
            )
            for _ in range(CHANNELS)
        ]
        calls = []
        for first in range(0, STREAMS, CHANNELS):
            assert first + CHANNELS <= STREAMS
            calls += await asyncio.gather(*(begin(channel) for channel in channels))
        assert len(calls) == STREAMS
        assert not any(call.done() for call in calls)
        yield
        # Those that the server ended meanwhile were not idle streams, but refused ones.
        assert not any(call.done() for call in calls)
        for call in calls:
            call.cancel()


async def _until_served_alone(server: ServerProcess) -> None:
    def in_flight() -> float:
        started = scraped(server.metrics_port, "grpc_server_started_total")
        return started - scraped(server.metrics_port, "grpc_server_handled_total")

    while await asyncio.to_thread(in_flight) > 0:
        pass


@pytest.mark.robustness
@pytest.mark.parametrize("kind", ["session", "job", "health"])
async def test_idle_streams_take_a_bounded_memory(server: ServerProcess, kind: str) -> None:
    pid = server.process.pid
    with Client(server.address) as client:
        job = client.submit_job(SegmentCall(IMAGE, points=[Point(20, 20)]))
        begin = {"session": _session, "job": _watching(job.name), "health": _health}[kind]
        before = resident_mib(pid)
        began = time.perf_counter()
        async with _streams(server.address, begin):
            opened_s = time.perf_counter() - began
            opened = resident_mib(pid)
            await asyncio.sleep(HELD_S)  # the time that is tested
            held = resident_mib(pid)
            # Others are served meanwhile.
            began = time.perf_counter()
            assert await asyncio.to_thread(client.models)
            answered_ms = (time.perf_counter() - began) * 1e3
        await _until_served_alone(server)
        async with _streams(server.address, begin):
            again = resident_mib(pid)
        await _until_served_alone(server)
    per_stream = (opened - before) * 1024 / STREAMS
    print(
        f"\n{STREAMS} idle {kind} streams: opened in {opened_s:.1f} s, {before:.0f} MiB before, "
        f"{opened:.0f} open ({per_stream:.0f} KiB each), {held:.0f} after {HELD_S:.0f} s, "
        f"{again:.0f} open a second time; another call took {answered_ms:.0f} ms"
    )
    assert per_stream < MOST_KIB_PER_STREAM
    assert held - opened < MOST_GROWTH_MIB
    # What the first thousand took serves the second, but for what the allocator keeps in between.
    assert again - held < 2 * MOST_GROWTH_MIB
