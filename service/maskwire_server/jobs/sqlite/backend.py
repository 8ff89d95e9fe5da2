"""The job backend on SQLite: its methods are transactions on the rows of `job_rows` and
`queue_rows`, and waiting for changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Hashable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from typing import TypeVar

from ...domain.errors import MaskwireError
from ...domain.jobs.backend import Delivery, JobBackend
from ...domain.jobs.job import Job, JobEvent, JobFilter, JobKey, JobPage
from ..page_tokens import microseconds, place_before, token_after
from . import job_rows, queue_rows
from .changes import Changes
from .database import Database, Work
from .job_rows import EventPage

Value = TypeVar("Value")

_QUEUES = "queues"
"""The topic of changes that takers wait for; those of watchers are the keys of jobs."""

_LOOK_INTERVAL_S = 0.04
"""Pause between two looks for what other processes wrote."""
_LONGEST_NAP_S = 1.0
"""A taker looks at the clock so often, in case that it was set."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class SqliteJobBackend(JobBackend):
    """Keeps jobs in a file that the processes of one machine share.

    Leases are told by the machine's clock. The file is made by the first job.
    """

    def __init__(
        self,
        database: Path,
        lease: timedelta,
        now: Callable[[], datetime] = _utc_now,
        busy_timeout: timedelta = timedelta(seconds=10),
    ) -> None:
        """Prepare to use a database; nothing is opened yet.

        Args:
            database: The file; on a local disk, since SQLite locks it.
            lease: How long a delivery is its taker's without being extended.
            now: Tells the time, in UTC.
            busy_timeout: How long to wait for other processes that write.
        """
        self._database = Database(database.expanduser(), busy_timeout)
        self._lease = lease
        self._now = now
        self._changes = Changes(self._database.version, _LOOK_INTERVAL_S)
        self._handing_back: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def open(self) -> None:
        """Connect to the file, if there is one; as the interface says."""
        await self._database.version()

    async def close(self) -> None:
        """Let go of the file; as the interface says."""
        self._is_closed = True
        self._changes.tell_all()
        if self._handing_back:
            await asyncio.wait(self._handing_back)
        await self._database.close()

    async def create(self, job: Job, event: JobEvent) -> Job:
        """Write a new job and queue it; as the interface says."""
        now = self._micros()

        def create(connection: Connection) -> Job:
            kept = job_rows.load(connection, job.key)
            if kept is not None:
                return kept
            before = queue_rows.waiting(connection, job.queue, now)
            job_rows.insert(connection, job, replace(event, queue_position=before))
            queue_rows.put(connection, job.queue, job.key)
            return job

        return await self._write(create, _QUEUES)

    async def load(self, key: JobKey) -> Job | None:
        """Return a job; as the interface says."""
        return await self._database.read(partial(job_rows.load, key=key))

    async def append(self, job: Job, event: JobEvent) -> bool:
        """Write the next record and its event; as the interface says."""
        return await self._write(partial(job_rows.update, job=job, event=event), job.key)

    async def events(self, key: JobKey, after_sequence: int) -> AsyncGenerator[JobEvent, None]:
        """Yield a job's events; as the interface says."""
        page = EventPage((), None)
        last = after_sequence
        with self._changes.listen(key) as changed:
            while not self._is_closed:
                changed.clear()
                read = partial(
                    job_rows.read_events, key=key, ordinal=page.ordinal, after_sequence=last
                )
                page = await self._database.read(read) or EventPage((), None)
                for event in page.events:
                    last = event.sequence
                    yield event
                if page.ordinal is None:
                    return
                if not page.is_full:
                    await changed.wait()

    async def list(
        self, tenant: str, wanted: JobFilter, *, page_size: int, page_token: str
    ) -> JobPage:
        """Return a page of jobs; as the interface says."""
        read = partial(
            job_rows.list_jobs,
            tenant=tenant,
            wanted=wanted,
            before=place_before(page_token),
            # One more tells whether there is another page.
            limit=page_size + 1,
        )
        found = await self._database.read(read) or ()
        jobs = found[:page_size]
        return JobPage(jobs, token_after(jobs[-1]) if len(found) > page_size else "")

    async def has_unfinished(self, tenant: str, count: int) -> bool:
        """Tell whether so many jobs wait or run; as the interface says."""
        look = partial(job_rows.has_unfinished, tenant=tenant, count=count)
        return await self._database.read(look) or False

    async def expired(self, now: datetime) -> AsyncGenerator[Job, None]:
        """Yield the jobs that expired; as the interface says."""
        last = job_rows.BEFORE_ALL
        while True:
            read = partial(job_rows.expired, now=microseconds(now), after=last)
            page = await self._database.read(read) or ()
            if not page:
                return
            for _, job in page:
                yield job
            last = page[-1][0]

    async def delete(self, key: JobKey) -> None:
        """Remove a job; as the interface says."""
        if await self.load(key) is not None:
            await self._write(partial(job_rows.delete, key=key), key)

    async def enqueue(self, queue: str, key: JobKey) -> None:
        """Put a job into a queue; as the interface says."""
        if await self.load(key) is not None:
            await self._write(partial(queue_rows.put, queue=queue, key=key), _QUEUES)

    async def take(self, queues: Collection[str], wait: timedelta) -> Delivery | None:
        """Return the next job of the queues; as the interface says."""
        clock = asyncio.get_running_loop().time
        patience = clock() + wait.total_seconds()
        with self._changes.listen(_QUEUES) as changed:
            while not self._is_closed:
                changed.clear()
                free_at = await self._database.read(partial(queue_rows.next_free, queues=queues))
                if free_at is not None and free_at <= self._micros():
                    delivery = await self._take_free(queues)
                    if delivery is not None:
                        return delivery
                    continue
                left = patience - clock()
                if left <= 0:
                    return None
                await _nap(changed, min(left, self._seconds_until(free_at)))
        return None

    async def extend(self, delivery: Delivery) -> bool:
        """Begin a lease anew; as the interface says."""
        end = self._micros(self._lease)
        return await self._write(partial(queue_rows.extend, lease=_lease(delivery), lease_end=end))

    async def settle(self, delivery: Delivery) -> None:
        """Take a job out of its queue; as the interface says."""
        await self._write(partial(queue_rows.settle, lease=_lease(delivery)))

    async def release(self, delivery: Delivery, delay: timedelta) -> None:
        """Give a job back to its queue; as the interface says."""
        free_at = self._micros(delay)
        await self._write(
            partial(queue_rows.release, lease=_lease(delivery), free_at=free_at), _QUEUES
        )

    async def queue_position(self, job: Job) -> int:
        """Return how many jobs wait before one; as the interface says."""
        read = partial(queue_rows.waiting_before, queue=job.queue, key=job.key, now=self._micros())
        return await self._database.read(read) or 0

    async def depths(self) -> Mapping[str, int]:
        """Return how many jobs wait in each queue; as the interface says."""
        return await self._database.read(partial(queue_rows.depths, now=self._micros())) or {}

    async def _write(self, work: Work[Value], *topics: Hashable) -> Value:
        """Run a transaction and tell of it, even if the caller is cancelled meanwhile."""
        writing = asyncio.ensure_future(self._database.write(work))

        def tell(_: asyncio.Future[Value]) -> None:
            for topic in topics:
                self._changes.tell(topic)

        writing.add_done_callback(tell)
        return await asyncio.shield(writing)

    async def _take_free(self, queues: Collection[str]) -> Delivery | None:
        """Take a job that is free, if no other was faster; a cancelled caller keeps none."""
        now = self._now()
        work = partial(
            queue_rows.take,
            queues=queues,
            now=microseconds(now),
            lease_end=microseconds(now + self._lease),
        )
        taking = asyncio.ensure_future(self._database.write(work))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            task = asyncio.get_running_loop().create_task(self._hand_back(taking))
            self._handing_back.add(task)
            task.add_done_callback(self._handing_back.discard)
            raise

    async def _hand_back(self, taking: asyncio.Future[Delivery | None]) -> None:
        # If it fails, the job comes again once the lease has passed.
        with suppress(MaskwireError):
            delivery = await taking
            if delivery is not None:
                await self.release(delivery, timedelta(0))

    def _micros(self, ahead: timedelta = timedelta(0)) -> int:
        return microseconds(self._now() + ahead)

    def _seconds_until(self, time: int | None) -> float:
        if time is None:
            return _LONGEST_NAP_S
        return min(max(time - self._micros(), 0) / 1e6, _LONGEST_NAP_S)


async def _nap(changed: asyncio.Event, seconds: float) -> None:
    """Wait for a change, but not for long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await changed.wait()


def _lease(delivery: Delivery) -> queue_rows.Lease:
    assert isinstance(delivery.token, queue_rows.Lease)
    return delivery.token
