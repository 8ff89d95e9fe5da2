"""The end of a job reaches the URL of its request, signed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from maskwire.v1 import (
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    reconstruction_pb2,
    reconstruction_pb2_grpc,
)
from maskwire_server.app import Application
from maskwire_server.settings import Settings
from tests.support.job_calls import DEADLINE_S, disc, objects_request
from tests.support.webhook_receiver import SECRET, make_certificate, receiving


def settings(folder: Path, authority: Path) -> Settings:
    return Settings.read(
        grpc={"port": 0, "drain_notice_s": 0.0},
        metrics={"enabled": False},
        storage={"folder": folder / "files"},
        jobs={"database": folder / "jobs.sqlite"},
        webhooks={
            "secret": SECRET,
            "ca_file": authority,
            "allow_private_addresses": True,
            "first_delay_s": 0.1,
        },
    )


async def test_a_reconstruction_is_reported_until_the_receiver_has_it(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    async with receiving(certificate) as receiver:
        receiver.statuses = [500]
        application = await Application.start(settings(tmp_path, certificate.authority))
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{application.port}") as channel:
                name = await reconstructed(channel, receiver.url)
                first, second = await receiver.requests(2)
                job = await delivered(channel, name)
        finally:
            await application.stop()
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    report = second.verified()
    assert report["type"] == "job.succeeded"
    assert report["data"]["name"] == name
    assert (job.webhook.attempts, job.webhook.last_http_status) == (2, 200)


async def reconstructed(channel: grpc.aio.Channel, url: str) -> str:
    """Run a reconstruction with a webhook, and return the job's name."""
    stub: Any = reconstruction_pb2_grpc.ReconstructionServiceStub(channel)
    request = objects_request([disc(48, 32, 20)], webhook=job_pb2.Webhook(url=url))
    messages: list[reconstruction_pb2.ReconstructObjectsResponse] = [
        message async for message in stub.ReconstructObjects(request, timeout=DEADLINE_S)
    ]
    assert messages[-1].HasField("result")
    return messages[0].job


async def delivered(channel: grpc.aio.Channel, name: str) -> job_pb2.Job:
    """Return the job once it says that the report was delivered."""
    stub: Any = job_service_pb2_grpc.JobServiceStub(channel)
    async with asyncio.timeout(30):
        while True:
            answer = await stub.GetJob(job_service_pb2.GetJobRequest(name=name))
            if answer.job.webhook.state == job_pb2.WEBHOOK_STATE_DELIVERED:
                job: job_pb2.Job = answer.job
                return job


async def test_a_secret_that_is_none_keeps_the_server_from_starting(tmp_path: Path) -> None:
    from maskwire_server.settings import SettingsError

    chosen = settings(tmp_path, make_certificate(tmp_path).authority)
    broken = Settings.read(
        grpc={"port": 0},
        metrics={"enabled": False},
        storage={"folder": chosen.storage.folder},
        jobs={"database": chosen.jobs.database},
        webhooks={"secret": "whsec_!!"},
    )
    with pytest.raises(SettingsError, match=r"webhooks\.secret") as refused:
        await Application.start(broken)
    assert "!!" not in str(refused.value)
