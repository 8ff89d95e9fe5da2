"""The one child of a worker: started for the first job, kept for the next ones, replaced."""

from __future__ import annotations

import time

import structlog

from ...domain.observer import Observer
from .child_process import ChildProcess, ChildSetup

_log = structlog.get_logger(__name__)


class ChildSlot:
    """Holds a child or none."""

    def __init__(self, setup: ChildSetup, idle_s: float, observer: Observer) -> None:
        self._setup = setup
        self._idle_s = idle_s
        self._observer = observer
        self._child: ChildProcess | None = None
        self._used_s = 0.0

    @property
    def remaining_idle_s(self) -> float | None:
        """For how long a child may still have nothing to do; None where there is none."""
        if self._child is None:
            return None
        return max(self._used_s + self._idle_s - time.monotonic(), 0.0)

    async def get(self) -> ChildProcess:
        """Return the child, a new one where there is none that lives.

        Raises:
            MaskwireError: `WORKER_LOST`: none can be started.
        """
        if self._child is not None and not self._child.is_alive:
            await self.kill("died")
        if self._child is None:
            self._child = await ChildProcess.start(self._setup)
            _log.info("child started", child=self._child.pid)
        return self._child

    def rest(self) -> None:
        """Begin the time in which the child has nothing to do."""
        self._used_s = time.monotonic()

    async def reap(self) -> str:
        """Return how a child ended that closed its connection, and forget it."""
        child, self._child = self._child, None
        ending = "nothing" if child is None else await child.ended()
        self._observer.job_child_ended("died")
        _log.warning("child died", child=None if child is None else child.pid, ending=ending)
        return ending

    async def kill(self, reason: str) -> None:
        """End the child, if there is one, and what it holds: its memory, the device's."""
        child, self._child = self._child, None
        if child is not None:
            ending = await child.kill()
            self._observer.job_child_ended(reason)
            _log.warning("child killed", child=child.pid, reason=reason, ending=ending)

    async def finish(self, reason: str) -> None:
        """Let the child, which has nothing to do, end in order."""
        child, self._child = self._child, None
        if child is not None:
            await child.finish()
            self._observer.job_child_ended(reason)
            _log.info("child ended", child=child.pid, reason=reason)
