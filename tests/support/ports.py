"""Ports for programs that are told theirs: nobody takes one between its choice and its use."""

from __future__ import annotations

import random
import socket

_PORTS = range(20_000, 30_000)
"""Below those that Linux gives to whoever asks for any port, and to connections that go out."""


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback interface on which nobody listens, each another one."""
    free: list[int] = []
    # Not the tests' own random numbers, which may be the same in every run.
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            # As servers do: what remains of connections to an earlier one keeps nobody away.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        free.append(port)
        if len(free) == count:
            return free
    raise AssertionError("no port is free")


def free_port() -> int:
    """Return one port."""
    (port,) = free_ports(1)
    return port
