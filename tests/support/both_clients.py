"""One test for both clients: the blocking one is called in threads, to look like the other.

Whatever a blocking object's method returns is wrapped again where it is a session, a stream, a
tracked video, a watch or the result of a job; everything else is given as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest

from maskwire_client import (
    AsyncClient,
    BodiesResult,
    Client,
    JobWatch,
    ObjectsResult,
    Session,
    TrackedVideoResult,
    VideoTrack,
)

# What calls that wait return, and has calls of its own.
_WRAPPED = (JobWatch, ObjectsResult, BodiesResult, TrackedVideoResult)
_RETURN_AT_ONCE = ("stream", "results", "track_video", "watch_job", "frames")
_END = object()


class InThreads:
    """A blocking object of the client library, with its methods made awaitable."""

    def __init__(self, blocking: Any, pool: ThreadPoolExecutor) -> None:
        self._blocking = blocking
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._blocking, name)
        if not callable(value):
            return value
        if name in _RETURN_AT_ONCE:
            return lambda *arguments, **options: InThreads(value(*arguments, **options), self._pool)
        if name == "open_session":
            return lambda **options: _Opening(lambda: value(**options), self._pool)
        return lambda *arguments, **options: self._run(lambda: value(*arguments, **options))

    async def __aenter__(self) -> InThreads:
        await self._run(self._blocking.__enter__)
        if isinstance(self._blocking, VideoTrack):
            # The other kind waits here; a property that waits would block the event loop.
            await self._run(lambda: self._blocking.info)
        return self

    async def __aexit__(self, *exception: Any) -> None:
        await self._run(lambda: self._blocking.__exit__(*exception))

    def __aiter__(self) -> InThreads:
        return self

    async def __anext__(self) -> Any:
        taken = await self._run(lambda: next(self._blocking, _END))
        if taken is _END:
            raise StopAsyncIteration
        return taken

    async def _run(self, call: Callable[[], Any]) -> Any:
        value = await asyncio.get_running_loop().run_in_executor(self._pool, call)
        return InThreads(value, self._pool) if isinstance(value, _WRAPPED) else value


class _Opening:
    """A session that a blocking client is asked for, to be awaited or entered."""

    def __init__(self, call: Callable[[], Session], pool: ThreadPoolExecutor) -> None:
        self._call = call
        self._pool = pool
        self._session: InThreads | None = None

    async def _open(self) -> InThreads:
        session = await asyncio.get_running_loop().run_in_executor(self._pool, self._call)
        self._session = InThreads(session, self._pool)
        return self._session

    def __await__(self):
        return self._open().__await__()

    async def __aenter__(self) -> InThreads:
        return await self._open()

    async def __aexit__(self, *exception: Any) -> None:
        assert self._session is not None
        await self._session.__aexit__(*exception)


Connect = Callable[..., Any]


@pytest.fixture(params=[Client, AsyncClient])
def connect(request: pytest.FixtureRequest) -> Connect:
    """Give a function that connects one kind of client: `async with connect(address)`."""
    kind: type[Client] | type[AsyncClient] = request.param

    @asynccontextmanager
    async def connected(address: str, **options: Any) -> AsyncIterator[Any]:
        if kind is AsyncClient:
            async with AsyncClient(address, **options) as client:
                yield client
            return
        with ThreadPoolExecutor(max_workers=16) as pool:
            async with InThreads(Client(address, **options), pool) as client:
                yield client

    return connected
