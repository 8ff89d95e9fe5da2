"""All workers of a process: several loops, each with a child of its own, and the queues' depths."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from ...domain.errors import MaskwireError
from ...domain.jobs.content import JobContentStore
from ...domain.jobs.ledger import JobLedger
from ...domain.observer import Observer
from .worker import JobWorker, WorkerLimits

_log = structlog.get_logger(__name__)

_DEPTH_INTERVAL_S = 5.0


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """The workers of a process.

    Attributes:
        count: How many jobs at a time.
        queues: Where jobs come from.
        child_argv: Starts a child; the number of its connection's descriptor is added.
        limits: What holds for each.
        configuration: What the children make their runners from.
    """

    count: int
    queues: Sequence[str]
    child_argv: Sequence[str]
    limits: WorkerLimits
    configuration: bytes = b""


class JobWorkers:
    """Works on several jobs at a time, between `start` and `stop` on one event loop."""

    def __init__(
        self,
        ledger: JobLedger,
        content: JobContentStore,
        observer: Observer,
        setup: WorkerSetup,
    ) -> None:
        self._ledger = ledger
        self._observer = observer
        self._queues = tuple(setup.queues)
        self._workers = [
            JobWorker(
                ledger,
                content,
                observer,
                setup.queues,
                setup.child_argv,
                setup.limits,
                setup.configuration,
            )
            for _ in range(setup.count)
        ]
        self._measuring: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to take jobs, and to report how many wait."""
        self._measuring = asyncio.create_task(self._measure(), name="job-queue-depths")
        self._report_workers(len(self._workers))
        for worker in self._workers:
            worker.start()

    async def stop(self, grace_s: float) -> None:
        """Take no new jobs; those in hand get `grace_s`, then they are handed back."""
        if self._measuring is not None:
            self._measuring.cancel()
            await asyncio.gather(self._measuring, return_exceptions=True)
        self._report_workers(0)
        await asyncio.gather(*(worker.stop(grace_s) for worker in self._workers))

    def _report_workers(self, workers: int) -> None:
        for queue in self._queues:
            self._observer.job_workers_changed(queue, workers)

    async def _measure(self) -> None:
        known = set(self._queues)
        while True:
            try:
                depths = await self._ledger.depths()
            except MaskwireError as error:
                _log.warning("the queues of jobs cannot be measured", error=error.message)
            else:
                known.update(depths)
                for queue in known:
                    self._observer.job_queue_changed(queue, depths.get(queue, 0))
            await asyncio.sleep(_DEPTH_INTERVAL_S)
