"""A proxy on loopback that cuts its connections when so many bytes have passed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class CuttingProxy:
    """Forwards connections to an address, and cuts the first ones after a number of bytes.

    Attributes:
        address: Where it listens, `127.0.0.1:PORT`.
        cuts: Connections that it has cut.
    """

    def __init__(self, target: str, cut_after_bytes: tuple[int, ...]) -> None:
        self.address = ""
        self.cuts = 0
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._budgets = list(cut_after_bytes)
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()
        self._listening.wait()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        self._ending = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._listening.set()
        await self._ending.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        there, back = await asyncio.open_connection(self._host, self._port)
        budget = self._budgets.pop(0) if self._budgets else None
        passed = 0

        async def forward(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            nonlocal passed
            while data := await source.read(2**16):
                passed += len(data)
                if budget is not None and passed > budget:
                    return
                sink.write(data)
                await sink.drain()

        ways = [
            asyncio.ensure_future(forward(reader, back)),
            asyncio.ensure_future(forward(there, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            self.cuts += budget is not None and passed > budget
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (writer, back):
                end.transport.abort()


@contextmanager
def cutting_proxy(target: str, *cut_after_bytes: int) -> Iterator[CuttingProxy]:
    """Run a proxy whose first connections are cut, each after so many bytes both ways."""
    proxy = CuttingProxy(target, cut_after_bytes)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
