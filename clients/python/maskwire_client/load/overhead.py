"""What the generator itself costs: a generator that is late measures itself, not the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .latencies import LatencyHistogram

__all__ = ["Overhead", "overhead_measured"]

_INTERVAL_S = 0.02


class Overhead:
    """How late the event loop is, and how much processor time this process takes.

    Attributes:
        loop_lag: How much later than due the loop wakes a task, every 20 ms.
    """

    def __init__(self) -> None:
        self.loop_lag = LatencyHistogram()
        self._began_s = time.monotonic()
        self._cpu_began_s = time.process_time()
        self._ended: tuple[float, float] | None = None

    @property
    def cpu_share(self) -> float:
        """Processor time of this process for each second that passed: 1 is one core."""
        now_s, cpu_s = self._ended or (time.monotonic(), time.process_time())
        passed_s = now_s - self._began_s
        return (cpu_s - self._cpu_began_s) / passed_s if passed_s > 0 else 0.0

    def end(self) -> None:
        """Measure no more."""
        self._ended = time.monotonic(), time.process_time()


@asynccontextmanager
async def overhead_measured() -> AsyncIterator[Overhead]:
    """Measure this process and its event loop during the block."""
    overhead = Overhead()
    task = asyncio.create_task(_watch(overhead), name="maskwire-load-lag")
    try:
        yield overhead
    finally:
        task.cancel()
        await asyncio.wait({task})
        overhead.end()


async def _watch(overhead: Overhead) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due_s = loop.time() + _INTERVAL_S
        await asyncio.sleep(_INTERVAL_S)
        overhead.loop_lag.add(max(0.0, loop.time() - due_s))
