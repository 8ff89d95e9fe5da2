"""Servers and workers as processes over one NATS: any replica tells, any worker goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from maskwire.v1 import (
    image_pb2,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    reconstruction_pb2_grpc,
)
from tests.support.job_calls import (
    DEADLINE_S,
    check_events,
    disc,
    follow,
    objects_request,
    picture,
)
from tests.support.nats_process import NatsServer, nats_process, nats_program
from tests.support.server_process import ServerProcess, server_process

LEASE_S = 4.0
WIDTH, HEIGHT = 320, 240
STOP_TIMEOUT_S = 60.0


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_process(nats_program(), tmp_path / "nats") as server:
        yield server


@contextmanager
def replica(name: str, folder: Path, url: str) -> Iterator[ServerProcess]:
    """A server without workers of its own."""
    own = folder / name
    own.mkdir()
    jobs = {"backend": "nats", "nats_url": url, "workers": 0, "lease_s": LEASE_S}
    files = {"folder": str(folder / "files")}
    with server_process(own, models={"cpu_threads": 1}, jobs=jobs, storage=files) as process:
        yield process


@contextmanager
def ending() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Workers to be added to; all are ended."""
    running: list[subprocess.Popen[bytes]] = []
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.wait()


def start_worker(folder: Path, url: str) -> subprocess.Popen[bytes]:
    settings = {
        "MASKWIRE_JOBS__BACKEND": "nats",
        "MASKWIRE_JOBS__NATS_URL": url,
        "MASKWIRE_JOBS__LEASE_S": str(LEASE_S),
        "MASKWIRE_STORAGE__FOLDER": str(folder / "files"),
        "MASKWIRE_METRICS__PORT": "0",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "maskwire_client.cli", "worker"],
        env={**os.environ, **settings},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_another_replica_tells_the_same_and_another_worker_goes_on(
    tmp_path: Path, nats: NatsServer
) -> None:
    with (
        replica("one", tmp_path, nats.url) as one,
        replica("two", tmp_path, nats.url) as two,
        grpc.insecure_channel(one.address) as first,
        grpc.insecure_channel(two.address) as second,
        ending() as running,
    ):
        running.append(start_worker(tmp_path, nats.url))
        submit: Any = reconstruction_pb2_grpc.ReconstructionServiceStub(first)
        # Seconds of work, for the worker to be killed in however late this test hears of it.
        masks = [disc(90 + 12 * number, 120, 80, WIDTH, HEIGHT) for number in range(7)]
        image = image_pb2.ImageSource(data=picture(WIDTH, HEIGHT))
        seen, victim = [], running[0]
        stream = submit.ReconstructObjects(objects_request(masks, image=image), timeout=DEADLINE_S)
        for message in stream:
            seen.append(message)
            if victim.poll() is None and message.event.stage in ("solve", "mesh", "texture"):
                victim.kill()
                victim.wait()
                running.append(start_worker(tmp_path, nats.url))
        followed = follow(seen)
        check_events(followed.events)
        assert max(event.attempt for event in followed.events) == 2

        jobs: Any = job_service_pb2_grpc.JobServiceStub(second)
        request = job_service_pb2.WatchJobRequest(name=followed.name, after_sequence=2)
        *events, last = jobs.WatchJob(request, timeout=DEADLINE_S)
        assert [message.event for message in events] == followed.events[2:]
        assert last.job.state == job_pb2.JOB_STATE_SUCCEEDED
        result = jobs.GetJobResult(job_service_pb2.GetJobResultRequest(name=followed.name))
        assert result.reconstruct_objects == followed.result

        running[-1].send_signal(signal.SIGTERM)
        assert running[-1].wait(STOP_TIMEOUT_S) == 0


def test_a_server_serves_all_but_jobs_until_the_broker_is_there(
    tmp_path: Path, nats: NatsServer
) -> None:
    url = nats.url
    nats.kill()
    with replica("one", tmp_path, url) as server:
        assert any(_event(line) == "jobs are not available yet" for line in server.log_since(0))
        with grpc.insecure_channel(server.address) as channel:
            models: Any = model_pb2_grpc.ModelServiceStub(channel)
            assert models.ListModels(model_pb2.ListModelsRequest(), timeout=DEADLINE_S).models
            jobs: Any = job_service_pb2_grpc.JobServiceStub(channel)
            with pytest.raises(grpc.RpcError) as refused:
                jobs.ListJobs(job_service_pb2.ListJobsRequest(), timeout=DEADLINE_S)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            nats.start()
            assert nats.url == url
            listed = jobs.ListJobs(
                job_service_pb2.ListJobsRequest(), timeout=DEADLINE_S, wait_for_ready=True
            )
            assert list(listed.jobs) == []


def _event(line: str) -> str:
    try:
        entry = json.loads(line)
    except ValueError:
        return ""
    return str(entry.get("event", "")) if isinstance(entry, dict) else ""
