"""Sweeps the file store at intervals for as long as the server runs."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog

from ..errors import MaskwireError
from .store import FileStore

_log = structlog.get_logger(__name__)


class FileSweeper:
    """Calls `FileStore.sweep` again and again, between `start` and `stop` on one event loop."""

    def __init__(self, files: FileStore, interval: timedelta) -> None:
        self._files = files
        self._interval_s = interval.total_seconds()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; the first sweep comes at once."""
        self._task = asyncio.create_task(self._run(), name="file-sweeper")

    async def stop(self) -> None:
        """End, in the middle of a sweep if need be: the next one goes on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                swept = await self._files.sweep()
            except MaskwireError as error:
                _log.warning("a sweep of the file store failed", error=error.message)
            except Exception as error:
                # An object that this version cannot read must not end the sweeping of the others.
                _log.error("unexpected error in a sweep of the file store", exc_info=error)
            else:
                if swept.expired_files or swept.leftovers:
                    _log.info("swept", expired=swept.expired_files, leftovers=swept.leftovers)
            await asyncio.sleep(self._interval_s)
