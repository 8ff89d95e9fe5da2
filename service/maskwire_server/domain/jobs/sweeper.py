"""Removes jobs that expired, at intervals for as long as the server runs."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog

from ..errors import MaskwireError
from .backend import JobBackend
from .content import JobContentStore
from .ledger import Clock

_log = structlog.get_logger(__name__)


class JobSweeper:
    """Removes what expired again and again, between `start` and `stop` on one event loop."""

    def __init__(
        self, backend: JobBackend, contents: JobContentStore, interval: timedelta, now: Clock
    ) -> None:
        self._backend = backend
        self._contents = contents
        self._interval_s = interval.total_seconds()
        self._now = now
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; the first sweep comes at once."""
        self._task = asyncio.create_task(self._run(), name="job-sweeper")

    async def stop(self) -> None:
        """End, in the middle of a sweep if need be: the next one goes on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def sweep(self) -> int:
        """Remove the jobs that have expired, and return how many there were.

        A job's bytes go first: whatever happens in between, its record still tells of them.
        """
        removed = 0
        expired = [job.key async for job in self._backend.expired(self._now())]
        for key in expired:
            await self._contents.delete(key)
            await self._backend.delete(key)
            removed += 1
        return removed

    async def _run(self) -> None:
        while True:
            try:
                removed = await self.sweep()
            except MaskwireError as error:
                _log.warning("a sweep of the jobs failed", error=error.message)
            except Exception as error:
                _log.error("unexpected error in a sweep of the jobs", exc_info=error)
            else:
                if removed:
                    _log.info("jobs swept", removed=removed)
            await asyncio.sleep(self._interval_s)
