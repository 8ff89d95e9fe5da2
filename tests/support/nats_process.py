"""A NATS server with JetStream in a process of its own, on loopback: to be killed and restarted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.foreign_process import ForeignProcess, program_of
from tests.support.ports import free_port


def nats_program() -> str:
    """Return the program; skip the test where there is none, and fail it in CI."""
    return program_of(("nats-server",), "the NATS job backend was not tested")


class NatsServer(ForeignProcess):
    """A server that keeps its port and its folder over restarts.

    Attributes:
        url: Its address.
    """

    ready_line = "Server is ready"

    def __init__(self, program: str, folder: Path, user: str = "", password: str = "") -> None:
        super().__init__(program)
        self._access = ["--user", user, "--pass", password] if user else []
        self._before_host = f"{user}:{password}@" if user else ""
        self._folder = folder
        self._port = free_port()

    @property
    def url(self) -> str:
        return f"nats://{self._before_host}127.0.0.1:{self._port}"

    def arguments(self) -> list[str]:
        """Listen on loopback, on one port always, and keep streams in the folder."""
        # It syncs at an interval by default: what `kill -9` loses nothing of, the page cache has.
        listening = ["-a", "127.0.0.1", "-p", str(self._port)]
        return ["-js", "-sd", str(self._folder), *listening, *self._access]


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
