"""A service that cannot start says why and leaves nothing behind; one that is told to end, ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from maskwire_server.app import Application, local_server
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.settings import Settings, SettingsError
from tests.support.ports import free_port

_END_TIMEOUT_S = 60.0


def _listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def _settings(grpc_port: int, metrics_port: int) -> Settings:
    return Settings.read(
        grpc={"port": grpc_port, "drain_notice_s": 0}, metrics={"port": metrics_port}
    )


async def test_a_taken_grpc_port_is_named_and_the_metrics_port_is_given_back() -> None:
    metrics_port = free_port()
    with _listening() as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
            await Application.start(_settings(port, metrics_port))
    with socket.create_server(("127.0.0.1", metrics_port)):
        pass


async def test_a_taken_metrics_port_is_named() -> None:
    with _listening() as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port} for metrics"):
            await Application.start(_settings(0, port))


def test_a_model_that_is_not_there_is_named() -> None:
    settings = Settings.read(
        models={"serve": [{"name": "sam2.1-hiera-tiny"}], "cache_folder": "/nonexistent"},
        metrics={"enabled": False},
    )
    with (
        pytest.raises(MaskwireError, match="maskwire models pull sam2") as failure,
        local_server(settings),
    ):
        pass
    assert failure.value.code is ErrorCode.MODEL_UNAVAILABLE


def test_a_model_that_is_named_twice_is_not_loaded_twice() -> None:
    twice = [{"name": "maskwire-nano"}, {"name": "own", "engine": "sam3"}, {"name": "own"}]
    with pytest.raises(SettingsError, match=r"models\.serve.*own is there twice"):
        Settings.read(models={"serve": twice})


def _command(name: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "maskwire_client.cli", name],
        env={**os.environ, "MASKWIRE_METRICS__PORT": "0", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _ended_by(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """Send a signal and return the log of a process that ended well, and ended by it."""
    try:
        assert process.poll() is None, process.communicate()
        process.send_signal(number)
        _, log = process.communicate(timeout=_END_TIMEOUT_S)
    finally:
        process.kill()
    assert process.returncode == 0, log
    assert "Traceback" not in log
    return log


@pytest.mark.timeout(180)
def test_sigterm_while_a_model_loads_ends_the_server(tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    os.mkfifo(weights)
    (tmp_path / "maskwire.toml").write_text(
        "[[models.serve]]\n"
        f'name = "own"\nengine = "nano"\ncheckpoint = "{weights}"\nsha256 = "{"0" * 64}"\n'
    )
    server = _command("serve", MASKWIRE_CONFIG=str(tmp_path / "maskwire.toml"))
    # Opens once the server reads, which then waits for what never comes.
    with weights.open("wb"):
        log = _ended_by(server, signal.SIGTERM)
    assert "stopped before it was ready" in log
    assert "serving" not in log


@pytest.mark.timeout(180)
def test_a_signal_while_a_worker_waits_for_its_jobs_ends_it() -> None:
    with _listening() as broker:
        url = f"nats://127.0.0.1:{broker.getsockname()[1]}"
        worker = _command("worker", MASKWIRE_JOBS__BACKEND="nats", MASKWIRE_JOBS__NATS_URL=url)
        connection, _ = broker.accept()
        with connection:  # and it never says a word
            log = _ended_by(worker, signal.SIGINT)
    assert "working" not in log


def test_sigterm_before_the_server_is_imported_ends_the_process() -> None:
    program = (
        "import signal\n"
        "from maskwire_client.cli.signals import ended_by_sigterm\n"
        "before = signal.getsignal(signal.SIGTERM)\n"
        "with ended_by_sigterm(): pass\n"
        "assert signal.getsignal(signal.SIGTERM) is before\n"
        "with ended_by_sigterm():\n"
        "    print('here', flush=True)\n"
        "    signal.pause()\n"
        "    raise SystemExit(1)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(_END_TIMEOUT_S) == 0
