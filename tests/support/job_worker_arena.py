"""Where workers, backends, disks and callers are made to fail, and what is counted afterwards."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import dataclass

from maskwire_server.domain.jobs.job import Job, JobEvent, JobKey, JobState
from tests.support.job_worker_world import World
from tests.support.nats_process import NatsServer

HUNG_S = 40.0
"""A watcher that has heard nothing of a job's end for so long hangs."""


@dataclass
class Harmed:
    """A job that a fault met.

    Attributes:
        job: The job.
        state: How it must end.
        attempts: How many attempts it may have had.
        watching: A watcher from the first event on, who saw the fault happen.
    """

    job: Job
    state: JobState
    attempts: range
    watching: asyncio.Task[list[JobEvent]]


@dataclass
class Tally:
    """What became of the jobs of one fault."""

    runs: int = 0
    lost: int = 0
    double: int = 0
    hung: int = 0
    gaps: int = 0
    wrong: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.double or self.hung or self.gaps or self.wrong)


@dataclass(frozen=True)
class Arena:
    """A world and, where its backend is NATS, the server."""

    world: World
    server: NatsServer | None

    async def submit(
        self, payload: bytes, state: JobState, attempts: range = range(1, 4), **changes: object
    ) -> Harmed:
        """Submit a job and watch it."""
        job = await self.world.submit(payload, **changes)
        return Harmed(job, state, attempts, asyncio.create_task(self._watch(job.key)))

    async def running(self, harmed: Harmed) -> None:
        """Wait until a job's first stage runs."""
        await self.world.until(harmed.job.key, stage="first")

    async def _watch(self, key: JobKey) -> list[JobEvent]:
        async with aclosing(self.world.ledger.watch(key, 0)) as events:
            return [event async for event in events]


async def examine(arena: Arena, harmed: Harmed, tally: Tally) -> None:
    """Wait for a job's end and count what is not as it was promised."""
    tally.runs += 1
    try:
        async with asyncio.timeout(HUNG_S):
            seen = await harmed.watching
            again = [event async for event in arena.world.ledger.watch(harmed.job.key, 0)]
    except TimeoutError:
        tally.hung += 1
        return
    job = await arena.world.ledger.get(harmed.job.key)
    ends = [one for one in again if one.state.is_done]
    tally.lost += job.state is not harmed.state
    tally.double += len(ends) != 1
    numbers = list(range(1, job.last_event_sequence + 1))
    attempts = [one.attempt for one in again]
    is_told = [one.sequence for one in again] == numbers and seen == again
    tally.gaps += not (is_told and attempts == sorted(attempts))
    tally.wrong += job.attempt not in harmed.attempts
    if job.state is JobState.SUCCEEDED:
        result = json.loads(await arena.world.result(job.key))
        tally.wrong += result["attempt"] != job.attempt
