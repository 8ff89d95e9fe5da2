"""Looks names up as the system does, on threads of its own.

The system's resolver blocks, for as long as its own settings say, and cannot be interrupted: a name
whose server says nothing keeps a thread long after its fetch was given up. So the threads are
nobody else's, and no tenant gets all of them.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar

from aiohttp.abc import AbstractResolver, ResolveResult

_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
# The client asks its resolver in a task of its own, which has a copy of the fetch's context.
_tenant: ContextVar[str] = ContextVar("tenant_of_lookup", default="")


class SystemResolver(AbstractResolver):
    """The system's resolver; a lookup that nobody waits for any more ends by itself."""

    def __init__(self, threads: int, threads_per_tenant: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="source-names")
        self._most = threads_per_tenant
        self._lookups: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def on_behalf_of(self, tenant: str) -> Iterator[None]:
        """Count lookups in the block as a tenant's."""
        token = _tenant.set(tenant)
        try:
            yield
        finally:
            _tenant.reset(token)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a host.

        Raises:
            OSError: There are none, nobody can tell, or the tenant waits for too many names.
        """
        tenant = _tenant.get()
        with self._lock:
            if self._lookups[tenant] >= self._most:
                raise OSError("the tenant waits for too many names")
            self._lookups[tenant] += 1

        def ended(_: Future[list[ResolveResult]]) -> None:
            with self._lock:
                self._lookups[tenant] -= 1
                if not self._lookups[tenant]:
                    del self._lookups[tenant]

        lookup = self._pool.submit(_look_up, host, port, family)
        lookup.add_done_callback(ended)
        return await asyncio.wrap_future(lookup)

    async def close(self) -> None:
        """Take no more names; what runs ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
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
