"""The standard health service, whose watches end when the server does."""

from __future__ import annotations

import asyncio

from grpc_health.v1 import health, health_pb2

from .calls import ServicerContext


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
