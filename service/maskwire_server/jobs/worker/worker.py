"""The loop of a worker: take a job, run an attempt, commit how it ended, again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import structlog

from ...domain.errors import MaskwireError
from ...domain.jobs.backend import Delivery
from ...domain.jobs.content import JobContentStore
from ...domain.jobs.ledger import Claim, JobLedger, LeaseLost
from ...domain.observer import Observer
from ...domain.tracing import TracedWork
from .attempt import Attempt, Ended
from .child_process import ChildSetup
from .keeping import KeepingTimes
from .slot import ChildSlot

_log = structlog.get_logger(__name__)

_LONGEST_TAKE_S = 5.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_HAND_BACK_S = 5.0


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What holds for all workers of a process.

    Attributes:
        times: How long things may take.
        child_idle_s: How long a child is kept without a job.
        child_memory_bytes: Most address space of a child; 0 sets none.
        event_interval_s: Least time between two events of progress within a stage.
        max_body_bytes: Largest request or result.
    """

    times: KeepingTimes
    child_idle_s: float
    child_memory_bytes: int
    event_interval_s: float
    max_body_bytes: int


class JobWorker:
    """Works on one job at a time, between `start` and `stop` on one event loop."""

    def __init__(
        self,
        ledger: JobLedger,
        content: JobContentStore,
        observer: Observer,
        queues: Sequence[str],
        child_argv: Sequence[str],
        limits: WorkerLimits,
        configuration: bytes = b"",
    ) -> None:
        """Take what a worker needs.

        Args:
            ledger: Hands out jobs and takes their ends.
            content: Has requests and gets results.
            observer: Hears of the work.
            queues: Where jobs come from.
            child_argv: Starts a child; the number of its connection's descriptor is added.
            limits: What holds.
            configuration: What the child makes its runner from.
        """
        self._ledger = ledger
        self._content = content
        self._observer = observer
        self._queues = tuple(queues)
        self._limits = limits
        setup = ChildSetup(
            tuple(child_argv), limits.child_memory_bytes, limits.max_body_bytes, configuration
        )
        self._slot = ChildSlot(setup, limits.child_idle_s, observer)
        self._stopping = asyncio.Event()
        self._attempt: Attempt | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to take jobs."""
        self._task = asyncio.create_task(self._run(), name="job-worker")

    async def stop(self, grace_s: float) -> None:
        """Take no new job, and end.

        A job in hand gets `grace_s` to end; then it is handed back for other workers.
        """
        self._stopping.set()
        if self._task is None:
            return
        await asyncio.wait({self._task}, timeout=grace_s)
        if self._attempt is not None:
            self._attempt.hand_back()
        await asyncio.wait({self._task}, timeout=_HAND_BACK_S)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        try:
            while not self._stopping.is_set():
                try:
                    await self._turn()
                    pause_s = _FIRST_PAUSE_S
                except MaskwireError as error:
                    _log.warning("a worker waits for the backend", error=error.message)
                    pause_s = await self._pause(pause_s)
                except Exception as error:
                    _log.error("unexpected error in a worker", exc_info=error)
                    pause_s = await self._pause(pause_s)
            await self._slot.finish("stopped")
        finally:
            await self._slot.kill("stopped")

    async def _turn(self) -> None:
        """Do the next job, if one comes; end a child that waited for one too long."""
        delivery = await self._take()
        if delivery is not None:
            claim = await self._ledger.begin(delivery)
            if claim is not None:
                await self._do(claim)
        elif self._slot.remaining_idle_s == 0.0:
            await self._slot.finish("idle")

    async def _take(self) -> Delivery | None:
        """Wait for a job; to be stopped meanwhile burns no attempt."""
        idle_s = self._slot.remaining_idle_s
        wait_s = _LONGEST_TAKE_S if idle_s is None else min(_LONGEST_TAKE_S, idle_s)
        taking = asyncio.create_task(
            self._ledger.take(self._queues, timedelta(seconds=wait_s)), name="job-taking"
        )
        stopping = asyncio.create_task(self._stopping.wait(), name="job-stopping")
        try:
            await asyncio.wait({taking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not taking.done():
                return None
            delivery = taking.result()
            if delivery is not None and self._stopping.is_set():
                await self._ledger.put_back(delivery)
                return None
            return delivery
        finally:
            taking.cancel()
            stopping.cancel()
            await asyncio.gather(taking, stopping, return_exceptions=True)

    async def _do(self, claim: Claim) -> None:
        with self._observer.job_attempt(claim.job) as traced:
            await self._commit(claim, await self._try(claim, traced))

    async def _try(self, claim: Claim, traced: TracedWork) -> Ended:
        job = claim.job
        started_s = time.monotonic()
        if job.attempt == 1 and job.start_time is not None:
            # The two times may be of two machines, whose clocks differ.
            waited_s = max((job.start_time - job.create_time).total_seconds(), 0.0)
            self._observer.job_waited(job.queue, waited_s)
        _log.info("job begun", job=job.key.name, method=job.method, attempt=job.attempt)
        limits = self._limits
        self._attempt = Attempt(
            self._ledger,
            self._content,
            claim,
            self._slot,
            limits.times,
            limits.event_interval_s,
            traced,
        )
        ended = Ended(None, "interrupted")
        try:
            ended = await self._attempt.run()
        finally:
            self._attempt = None
            seconds = time.monotonic() - started_s
            self._observer.job_attempt_ended(job.method, ended.how, seconds)
            traced.ended(ended.how, ended.error)
            _log.info("attempt ended", job=job.key.name, attempt=job.attempt, how=ended.how)
        return ended

    async def _commit(self, claim: Claim, ended: Ended) -> None:
        """Commit how an attempt ended, for as long as it takes: without it the work is lost."""
        pause_s = _FIRST_PAUSE_S
        while ended.outcome is not None:
            try:
                await self._ledger.commit(claim, ended.outcome)
                return
            except LeaseLost:
                _log.warning("a job was another worker's at the end", job=claim.job.key.name)
                return
            except MaskwireError as error:
                if self._stopping.is_set() and pause_s > 1.0:
                    return
                _log.warning("the end of a job waits for the backend", error=error.message)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _pause(self, pause_s: float) -> float:
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._stopping.wait()
        return min(2 * pause_s, _LONGEST_PAUSE_S)
