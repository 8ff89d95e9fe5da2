"""`maskwire health`, which containers are checked with."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def draining() -> Iterator[str]:
    """The address of what answers NOT_SERVING."""
    server = grpc.server(ThreadPoolExecutor(1))
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of what takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("service", ["", "maskwire.v1.SegmentationService"])
def test_a_server_that_serves(run: Run, server: str, service: str) -> None:
    code, output, _ = run("health", "--server", server, "--service", service)
    assert code == 0
    assert output == f"{server} {service}".rstrip() + ": SERVING\n"


def test_the_environment_names_the_server(
    run: Run, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASKWIRE_SERVER", server)
    assert run("health")[:2] == (0, f"{server}: SERVING\n")


def test_a_server_that_drains(run: Run, draining: str) -> None:
    code, output, messages = run("health", "--server", draining)
    assert (code, output) == (5, "")
    assert messages == f"error: {draining}: NOT_SERVING\n"


def test_a_service_that_is_not_there(run: Run, server: str) -> None:
    code, _, messages = run("health", "--server", server, "--service", "no.Such")
    assert code == 4
    assert len(messages.splitlines()) == 1
    assert "no.Such" in messages


def test_nobody_there(run: Run, silent: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    assert run("health", "--server", address)[0] == 5
    code, _, messages = run("health", "--server", silent, "--timeout", "0.2")
    assert code == 5
    assert "DEADLINE_EXCEEDED" in messages
