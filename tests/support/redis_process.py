"""A Redis server in a process of its own, on loopback, that keeps nothing: to be frozen and killed.

Valkey speaks the same protocol; Debian 12 has Redis.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.foreign_process import ForeignProcess, program_of
from tests.support.ports import free_port


def redis_program() -> str:
    """Return the program; skip the test where there is none, and fail it in CI."""
    return program_of(
        ("redis-server", "valkey-server"), "quotas that servers share were not tested"
    )


class RedisServer(ForeignProcess):
    """A running server.

    Attributes:
        url: Its address.
    """

    ready_line = "Ready to accept connections"

    def __init__(self, program: str, password: str = "") -> None:
        super().__init__(program)
        self._port = free_port()
        self._password = password
        credentials = f":{password}@" if password else ""
        self.url = f"redis://{credentials}127.0.0.1:{self._port}/0"

    def arguments(self) -> list[str]:
        """Listen on loopback, ask for the password where there is one, and write nothing."""
        listening = ["--port", str(self._port), "--bind", "127.0.0.1"]
        if self._password:
            listening += ["--requirepass", self._password]
        return [*listening, "--save", "", "--appendonly", "no", "--dir", "/tmp"]


@contextmanager
def redis_process(program: str, password: str = "") -> Iterator[RedisServer]:
    """Run a server on a free port, which may ask for a password."""
    server = RedisServer(program, password)
    server.start()
    try:
        yield server
    finally:
        server.kill()
