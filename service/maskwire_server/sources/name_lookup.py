"""Looks names up as the system does, on threads of its own.

The system's resolver blocks, for as long as its own settings say, and cannot be interrupted. Its
threads are few, and nobody else's: names that are slow to resolve hold up fetches and nothing more.
"""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor

from aiohttp.abc import AbstractResolver, ResolveResult

_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class SystemResolver(AbstractResolver):
    """The system's resolver; a lookup that nobody waits for any more ends by itself."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="source-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a host.

        Raises:
            OSError: There are none, or nobody can tell.
        """

        def look_up() -> list[ResolveResult]:
            found = socket.getaddrinfo(
                host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
            )
            return [
                ResolveResult(
                    hostname=host,
                    host=str(place[0]),
                    port=port,
                    family=kind,
                    proto=protocol,
                    flags=_NUMERIC,
                )
                for kind, _, protocol, _, place in found
            ]

        return await asyncio.get_running_loop().run_in_executor(self._pool, look_up)

    async def close(self) -> None:
        """Take no more names; what runs ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)
