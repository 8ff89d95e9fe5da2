"""Keeps the lease of an attempt, and notices when the attempt must end before its work does."""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from ...domain.errors import MaskwireError
from ...domain.jobs.ledger import Claim, JobLedger, Standing

_log = structlog.get_logger(__name__)

_LONGEST_PAUSE_S = 0.2
_EXTENSIONS_IN_A_LEASE = 3


@dataclass(frozen=True, slots=True)
class KeepingTimes:
    """How long things may take, in seconds.

    Attributes:
        lease_s: How long an attempt is the worker's without being extended.
        stall_timeout_s: How long a child may say nothing while it works.
        cancel_grace_s: How long it may take to end a cancelled job.
    """

    lease_s: float
    stall_timeout_s: float
    cancel_grace_s: float


class Ending(enum.Enum):
    """Why an attempt ends before its work does."""

    LOST = enum.auto()
    CANCEL_OVERDUE = enum.auto()
    STALLED = enum.auto()
    HANDED_BACK = enum.auto()


class Keeper:
    """Watches over one attempt."""

    def __init__(
        self,
        ledger: JobLedger,
        claim: Claim,
        times: KeepingTimes,
        cancel_child: Callable[[], Awaitable[None]],
    ) -> None:
        self._ledger = ledger
        self._claim = claim
        self._times = times
        self._cancel_child = cancel_child
        self._pause_s = min(times.lease_s / _EXTENSIONS_IN_A_LEASE, _LONGEST_PAUSE_S)
        self._held_s = time.monotonic()
        self._kill_at_s: float | None = None
        self._quiet_s: float | None = None
        self._handing_back = asyncio.Event()

    def child_spoke(self) -> None:
        """Begin anew the time that the child may say nothing."""
        self._quiet_s = 0.0

    def child_answered(self) -> None:
        """Expect nothing of the child any more."""
        self._quiet_s = None

    def hand_back(self) -> None:
        """End with `HANDED_BACK` at once."""
        self._handing_back.set()

    async def run(self) -> Ending:
        """Keep the lease until the attempt must end; return why."""
        last_s = time.monotonic()
        while True:
            await self._wait()
            if self._handing_back.is_set():
                return Ending.HANDED_BACK
            standing = await self._standing()
            if standing is Standing.LOST:
                return Ending.LOST
            if standing is Standing.CANCEL_REQUESTED and self._kill_at_s is None:
                self._kill_at_s = time.monotonic() + self._times.cancel_grace_s
                await self._cancel_child()
            now_s = time.monotonic()
            if self._kill_at_s is not None and now_s >= self._kill_at_s:
                return Ending.CANCEL_OVERDUE
            if self._is_stalled(now_s - last_s):
                return Ending.STALLED
            last_s = now_s

    def _is_stalled(self, elapsed_s: float) -> bool:
        """Add to the time without a word; a process that was frozen itself missed what was said."""
        if self._quiet_s is None:
            return False
        self._quiet_s += min(elapsed_s, 2 * self._pause_s)
        return self._quiet_s >= self._times.stall_timeout_s

    async def _wait(self) -> None:
        pause_s = self._pause_s
        if self._kill_at_s is not None:
            pause_s = min(pause_s, max(self._kill_at_s - time.monotonic(), 0.0))
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._handing_back.wait()

    async def _standing(self) -> Standing:
        """Ask how the attempt stands, and extend the lease where that is due.

        A backend that cannot be reached for as long as the lease may have given the job away.
        """
        asked_s = time.monotonic()
        is_due = asked_s - self._held_s >= self._times.lease_s / _EXTENSIONS_IN_A_LEASE
        ask = self._ledger.extend if is_due else self._ledger.standing
        try:
            async with asyncio.timeout(self._times.lease_s):
                standing = await ask(self._claim)
        except (MaskwireError, TimeoutError) as error:
            _log.warning("a lease could not be extended", error=str(error) or "timed out")
            is_over = time.monotonic() - self._held_s >= self._times.lease_s
            return Standing.LOST if is_over else Standing.HELD
        if is_due:
            self._held_s = asked_s
        return standing
