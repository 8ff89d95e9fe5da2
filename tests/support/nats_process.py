"""A NATS server with JetStream in a process of its own, on loopback: to be killed and restarted."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_LISTENING = re.compile(r"Listening for client connections on 127\.0\.0\.1:([0-9]+)")
_READY = "Server is ready"
_START_TIMEOUT_S = 30.0
_ANY_PORT = -1


def nats_program() -> str:
    """Return the program; skip the test where there is none, and fail it in CI."""
    program = shutil.which("nats-server")
    if program is None:
        assert not os.environ.get("CI"), "nats-server must be installed in CI"
        pytest.skip(
            "the NATS job backend was not tested: there is no nats-server on the path "
            "(Debian package nats-server)"
        )
    return program


class NatsServer:
    """A server that keeps its port and its folder over restarts.

    Attributes:
        url: Its address.
    """

    def __init__(self, program: str, folder: Path, user: str = "", password: str = "") -> None:
        self._program = program
        self._access = ["--user", user, "--pass", password] if user else []
        self._before_host = f"{user}:{password}@" if user else ""
        self._folder = folder
        self._port = _ANY_PORT
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"nats://{self._before_host}127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it and return once it takes connections."""
        # It syncs at an interval by default: what `kill -9` loses nothing of, the page cache has.
        arguments = ["-js", "-sd", str(self._folder), "-a", "127.0.0.1", "-p", str(self._port)]
        self._process = subprocess.Popen(
            [self._program, *arguments, *self._access],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        ready = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(self._process, ready))
        self._reader.start()
        if not ready.wait(_START_TIMEOUT_S) or self._process.poll() is not None:
            self.kill()
            raise RuntimeError("nats-server did not start")

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as an operator does."""
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """Let it neither answer nor notice anything, until `thaw`."""
        self._signal(signal.SIGSTOP)
        assert self._process is not None
        # The signal is on its way until every thread has stopped.
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _read(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                match = _LISTENING.search(line)
                if match:
                    self._port = int(match[1])
                if _READY in line:
                    ready.set()
        ready.set()

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _end(self, number: int) -> None:
        if self._process is None or self._reader is None:
            return
        self._process.send_signal(number)
        self._process.wait()
        self._reader.join()
        self._process = None


@contextmanager
def nats_process(
    program: str, folder: Path, user: str = "", password: str = ""
) -> Iterator[NatsServer]:
    """Run a server on a free port, with its streams in a folder and perhaps a user of its own."""
    server = NatsServer(program, folder, user, password)
    server.start()
    try:
        yield server
    finally:
        server.kill()
