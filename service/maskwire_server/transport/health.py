"""The standard health service, whose watches end when the server does; alone, for workers."""

from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from .calls import ServicerContext
from .listening import listen

# At the end: for watches to hear of it.
_FLUSH_S = 1.0


class HealthServicer(health.aio.HealthServicer):
    """Answers and streams what is serving.

    A watch has no end of its own, and a server that stops waits for every stream in flight: so
    `end_watches` ends them, and stopping takes no longer than the calls do.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ending = asyncio.Event()

    def end_watches(self) -> None:
        """End every stream of `Watch`."""
        self._ending.set()

    async def Watch(  # noqa: N802  # the protocol's name
        self, request: health_pb2.HealthCheckRequest, context: ServicerContext
    ) -> None:
        """Stream the status of a service until the server stops."""
        watching = asyncio.ensure_future(super().Watch(request, context))
        ending = asyncio.ensure_future(self._ending.wait())
        try:
            await asyncio.wait({watching, ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            watching.cancel()
            ending.cancel()


class HealthServer:
    """A gRPC server with the health service alone, of a process that serves nothing else.

    Between `start` and `stop`, which run on one event loop, it says SERVING for the process as a
    whole, and NOT_SERVING from `begin_drain` on.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._servicer = HealthServicer()
        # Two processes must not share a port without a word.
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, self._server)

    @property
    def port(self) -> int:
        """Port that it listens on; the one asked for until it is started."""
        return self._port

    async def start(self) -> None:
        """Listen and say SERVING.

        Raises:
            OSError: The port is taken or the address is not this machine's.
        """
        self._port = listen(self._server, self._host, self._port)
        await self._server.start()

    async def begin_drain(self) -> None:
        """Say NOT_SERVING from now on."""
        await self._servicer.enter_graceful_shutdown()

    async def stop(self) -> None:
        """End watches and listen no more."""
        self._servicer.end_watches()
        await self._server.stop(_FLUSH_S)
