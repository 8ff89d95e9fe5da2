"""The health of a whole worker, as a container's check and a balancer see it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from maskwire_server.app import WorkerApplication
from maskwire_server.composition import jobs
from maskwire_server.domain.jobs.job import JobState
from maskwire_server.settings import JobSettings, MetricsSettings, Settings, StorageSettings
from tests.support.job_worker_child import CHILD_ARGV, script
from tests.support.job_worker_world import QUEUE, World, appeared


def settings_for(world: World, health_port: int | None) -> Settings:
    return Settings(
        jobs=JobSettings(
            database=Path(world.place.address), queues=(QUEUE,), workers=1, health_port=health_port
        ),
        storage=StorageSettings(folder=world.folder / "contents"),
        metrics=MetricsSettings(enabled=False),
    )


async def test_a_worker_says_that_it_drains_while_its_last_job_is_finished(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_CHILD_ARGV", CHILD_ARGV)
    began, go = world.folder / "began", world.folder / "go"
    application = await WorkerApplication.start(settings_for(world, health_port=0))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{application.health_port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING

        job = await world.submit(script({"do": "until", "began": str(began), "file": str(go)}))
        await appeared(began)
        stopping = asyncio.ensure_future(application.stop())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert not stopping.done()
        assert (await world.ledger.get(job.key)).state is JobState.RUNNING

        go.touch()
        assert await watch.read() is grpc.aio.EOF, "it answers until its work is done"
        await stopping
    assert (await world.ledger.get(job.key)).state is JobState.SUCCEEDED


async def test_without_a_port_a_worker_serves_nothing(world: World) -> None:
    application = await WorkerApplication.start(settings_for(world, health_port=None))
    assert application.health_port is None
    await application.stop()
