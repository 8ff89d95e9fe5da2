"""Clients that announce a call and send nothing, or a byte at a time: they are cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from maskwire_client import Client
from tests.support.metrics_page import scraped, wait_until_scraped
from tests.support.raw_http2 import SlowCall
from tests.support.server_process import ServerProcess, server_process

LIMIT_S = 0.5
PATIENCE_S = 60.0

SEGMENT = "/maskwire.v1.SegmentationService/SegmentImage"
TRACK = "/maskwire.v1.VideoService/TrackVideo"
WATCH = "/maskwire.v1.JobService/WatchJob"
UPLOAD = "/maskwire.v1.FileService/UploadFile"
SESSION = "/maskwire.v1.RealtimeService/RunSession"


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings: dict[str, Any] = {
        "grpc": {"max_request_s": LIMIT_S},
        "storage": {"upload_idle_s": LIMIT_S},
        "sessions": {"idle_timeout_s": LIMIT_S},
        "models": {"cpu_threads": 1},
        "jobs": {"workers": 0},
    }
    with server_process(tmp_path_factory.mktemp("impatient"), **settings) as process:
        yield process


def _timed_out(server: ServerProcess, path: str) -> float:
    _, service, method = path.split("/")
    return scraped(
        server.metrics_port, "grpc_server_handled_total", service, method, "DEADLINE_EXCEEDED"
    )


def _wait_for(server: ServerProcess, path: str, calls: float) -> None:
    """Wait until so many calls timed out."""
    _, service, method = path.split("/")
    name = "grpc_server_handled_total"
    wait_until_scraped(server.metrics_port, calls, name, service, method, "DEADLINE_EXCEEDED")


@pytest.mark.parametrize("path", [SEGMENT, TRACK, WATCH, UPLOAD, SESSION])
def test_a_call_that_says_nothing_is_ended(impatient: ServerProcess, path: str) -> None:
    before = _timed_out(impatient, path)
    with SlowCall(impatient.address, path) as call:
        assert call.ended.wait(PATIENCE_S)
    _wait_for(impatient, path, before + 1)


@pytest.mark.parametrize("path", [SEGMENT, TRACK, UPLOAD, SESSION])
def test_a_message_that_trickles_is_not_waited_for(impatient: ServerProcess, path: str) -> None:
    before = _timed_out(impatient, path)
    with SlowCall(impatient.address, path) as call:
        call.announce(2**20)
        call.trickle(LIMIT_S / 10)
    _wait_for(impatient, path, before + 1)


def test_many_slow_clients_keep_nobody_from_being_served(impatient: ServerProcess) -> None:
    before = _timed_out(impatient, TRACK)
    calls = [SlowCall(impatient.address, TRACK) for _ in range(100)]
    try:
        with Client(impatient.address) as client:
            assert client.models()
        assert all(call.ended.wait(PATIENCE_S) for call in calls)
    finally:
        for call in calls:
            call.close()
    _wait_for(impatient, TRACK, before + len(calls))
