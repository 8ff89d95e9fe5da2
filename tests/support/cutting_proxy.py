"""A proxy on loopback that cuts its connections when so many bytes have passed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


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
        self._listening = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def start(self) -> None:
        self._thread.start()
        self._listening.wait()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        connections: set[asyncio.Task[None]] = set()

        # Not a coroutine function: asyncio's own task for one logs its cancellation as an error.
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if self._ending.is_set():
                writer.transport.abort()
                return
            connection = asyncio.ensure_future(self._forward(reader, writer))
            connections.add(connection)
            connection.add_done_callback(connections.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._listening.set()
        await self._ending.wait()
        server.close()
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            there, back = await asyncio.open_connection(self._host, self._port)
            ends.append(back)
            await self._forward_both_ways(reader, writer, there, back)
        finally:
            for end in ends:
                end.transport.abort()
            for end in ends:
                # The socket is closed by the loop, later: a loop that ends before leaves it open.
                with suppress(OSError):
                    await end.wait_closed()

    async def _forward_both_ways(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        back: asyncio.StreamWriter,
    ) -> None:
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


@contextmanager
def cutting_proxy(target: str, *cut_after_bytes: int) -> Iterator[CuttingProxy]:
    """Run a proxy whose first connections are cut, each after so many bytes both ways."""
    proxy = CuttingProxy(target, cut_after_bytes)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
