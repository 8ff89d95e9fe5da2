"""A Redis server in a process of its own, on loopback, that keeps nothing: to be frozen and killed.

Valkey speaks the same protocol; Debian 12 has Redis.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_READY = "Ready to accept connections"
_START_TIMEOUT_S = 30.0


def redis_program() -> str:
    """Return the program; skip the test where there is none, and fail it in CI."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        assert not os.environ.get("CI"), "redis-server must be installed in CI"
        pytest.skip(
            "quotas that servers share were not tested: there is no redis-server on the path "
            "(Debian package redis-server)"
        )
    return program


class RedisServer:
    """A running server.

    Attributes:
        url: Its address.
    """

    def __init__(self, program: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._program = program
        self._process: subprocess.Popen[str] | None = None
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """Start it and return once it takes connections."""
        arguments = ["--port", str(self._port), "--bind", "127.0.0.1", "--save", ""]
        self._process = subprocess.Popen(
            [self._program, *arguments, "--appendonly", "no", "--dir", "/tmp"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        ready = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(self._process, ready))
        self._reader.start()
        if not ready.wait(_START_TIMEOUT_S) or self._process.poll() is not None:
            self.kill()
            raise RuntimeError("redis-server did not start")

    def freeze(self) -> None:
        """Let it neither answer nor notice anything, until `thaw`."""
        self._signal(signal.SIGSTOP)
        assert self._process is not None
        # The signal is on its way until every thread has stopped.
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._reader.join()
            self._process = None

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _read(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                if _READY in line:
                    ready.set()
        ready.set()


@contextmanager
def redis_process(program: str) -> Iterator[RedisServer]:
    """Run a server on a free port."""
    server = RedisServer(program)
    server.start()
    try:
        yield server
    finally:
        server.kill()
