"""Writes the progress of an attempt into the job's events, not more often than is useful."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from ...domain.errors import MaskwireError
from .progress import Progress, ProgressBuffer

_log = structlog.get_logger(__name__)

_FLUSH_S = 1.0
_LONGEST_PAUSE_S = 5.0

WriteProgress = Callable[[Progress], Awaitable[None]]
"""Writes one event; raises `LeaseLost`, or `MaskwireError` where it could not."""


class ProgressReporter:
    """Passes on new stages and log lines at once, and fractions at intervals."""

    def __init__(self, write: WriteProgress, interval_s: float) -> None:
        self._write = write
        self._interval_s = interval_s
        self._buffer = ProgressBuffer()
        self._changed = asyncio.Event()
        self._written_stage = ""
        self._written_s = 0.0
        self._is_finishing = False

    def add(self, progress: Progress) -> None:
        """Take a report; never waits."""
        self._buffer.add(progress)
        self._changed.set()

    async def run(self) -> None:
        """Write until `finish`.

        Raises:
            LeaseLost: The attempt is no longer the worker's.
        """
        pause_s = self._interval_s
        while self._buffer or not self._is_finishing:
            self._changed.clear()
            if not self._is_due():
                await self._wait()
                continue
            try:
                await self._write_first()
                pause_s = self._interval_s
            except MaskwireError as error:
                if self._is_finishing:
                    return
                _log.warning("progress of a job could not be written", error=error.message)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def finish(self, running: asyncio.Task[None]) -> None:
        """Write what is left, if that takes no time, and end `running`, which is `run`."""
        self._is_finishing = True
        self._changed.set()
        await asyncio.wait({running}, timeout=_FLUSH_S)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def _write_first(self) -> None:
        first = self._buffer.first()
        await self._write(first)
        # While it was written, newer ones may have come, and one may have replaced it.
        if self._buffer.first() is first:
            self._buffer.pop()
        self._written_stage = first.stage
        self._written_s = time.monotonic()

    def _is_due(self) -> bool:
        if not self._buffer:
            return False
        first = self._buffer.first()
        is_new = bool(first.log_line) or first.stage != self._written_stage
        return is_new or len(self._buffer) > 1 or self._is_finishing or self._remaining_s() <= 0

    def _remaining_s(self) -> float:
        return self._written_s + self._interval_s - time.monotonic()

    async def _wait(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._remaining_s() if self._buffer else None):
                await self._changed.wait()
