"""The job backend on NATS JetStream: a journal of records and events, and queues beside it.

A record is written before its place in a queue. What dies in between leaves a job that nobody runs:
the submitter's next try with the same identifier queues it, and so does the sweeper's pass over all
jobs. A place without a record does no harm, because the worker that takes it finds no job.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from ...domain.jobs.backend import Delivery, JobBackend
from ...domain.jobs.job import Job, JobEvent, JobFilter, JobKey, JobPage, JobState
from .connection import NatsConnection
from .journal import Journal
from .listing import newest_page
from .mailbox import Mailbox
from .names import Names
from .queues import Queues
from .streams import Streams

_RECORDS_AT_ONCE = 32
"""Requests for records of which none waits for another's answer."""


class NatsJobBackend(JobBackend):
    """Keeps jobs in JetStream.

    Args:
        servers: URLs of servers of one cluster, `nats://` or `tls://`.
        lease: How long a delivery is a worker's without being extended.
        replicas: On how many servers each stream is.
        prefix: Begins the names of streams and subjects; letters, digits, `_` and `-`.
        credentials: A `.creds` file.
        queues: What the sweeper's pass makes ahead of the first job: autoscalers read the depth of
            queues from NATS itself, and begin to do so before a worker runs.
    """

    def __init__(
        self,
        servers: Sequence[str],
        lease: timedelta,
        *,
        replicas: int = 1,
        prefix: str = "maskwire",
        credentials: Path | None = None,
        queues: Collection[str] = (),
    ) -> None:
        self._made_ahead = tuple(queues)
        self._names = Names(prefix)
        self._connection = NatsConnection(servers, credentials)
        self._streams = Streams(self._names, lease, replicas)
        self._mailbox = Mailbox(self._connection)
        self._journal = Journal(self._connection, self._names, self._streams, self._mailbox)
        self._queues = Queues(self._connection, self._names, self._streams, self._mailbox, lease)
        self._connection.on_stream_missing(self._streams.forget)
        self._connection.on_connect(self._mailbox.connected)
        self._connection.on_disconnect(self._mailbox.interrupt)

    async def open(self) -> None:
        """See `JobBackend`. Streams are made when they are first needed."""
        await self._connection.open()

    async def close(self) -> None:
        """See `JobBackend`."""
        await self._connection.close()
        self._mailbox.interrupt()

    async def create(self, job: Job, event: JobEvent) -> Job:
        """See `JobBackend`."""
        position = await self._queues.waiting(job.queue)
        while not await self._journal.write_first(job, replace(event, queue_position=position)):
            present = await self.load(job.key)
            if present is not None:
                await self._repair(present)
                return present
        await self._queues.enqueue(job.queue, job.key)
        return job

    async def load(self, key: JobKey) -> Job | None:
        """See `JobBackend`."""
        entry = await self._journal.load(key)
        return None if entry is None else entry.job

    async def append(self, job: Job, event: JobEvent) -> bool:
        """See `JobBackend`."""
        return await self._journal.append(job, event)

    def events(self, key: JobKey, after_sequence: int) -> AsyncGenerator[JobEvent, None]:
        """See `JobBackend`."""
        return self._journal.follow(key, after_sequence)

    async def list(
        self, tenant: str, wanted: JobFilter, *, page_size: int, page_token: str
    ) -> JobPage:
        """See `JobBackend`. Reads all jobs of the tenant, and holds a page of them."""
        async with aclosing(self._journal.newest(self._names.tenant_jobs(tenant))) as entries:
            return await newest_page(entries, wanted, page_size, page_token)

    async def has_unfinished(self, tenant: str, count: int) -> bool:
        """See `JobBackend`. Reads records only where the tenant has so many places in queues."""
        # Every job that waits or runs has a place; some that are done have one, too: they were
        # cancelled while they waited, their end is being settled or is still to be reported.
        places = await self._queues.places(tenant)
        subjects = list({self._names.job_of_place(place) for place in places})
        found = 0
        while len(subjects) >= count - found > 0:
            some, subjects = subjects[:_RECORDS_AT_ONCE], subjects[_RECORDS_AT_ONCE:]
            entries = await asyncio.gather(*(self._journal.latest(one) for one in some))
            found += sum(one is not None and not one.job.state.is_done for one in entries)
        return found >= count

    async def expired(self, now: datetime) -> AsyncGenerator[Job, None]:
        """See `JobBackend`. Also makes queues, and queues waiting jobs that have no place."""
        for queue in self._made_ahead:
            await self._queues.make(queue)
        async with aclosing(self._journal.newest(self._names.all_jobs)) as entries:
            async for entry in entries:
                job = entry.job
                if job.expire_time is not None and job.expire_time <= now:
                    yield job
                else:
                    await self._repair(job)

    async def delete(self, key: JobKey) -> None:
        """See `JobBackend`."""
        await self._journal.delete(key)
        await self._queues.delete(key)

    async def enqueue(self, queue: str, key: JobKey) -> None:
        """See `JobBackend`."""
        await self._queues.enqueue(queue, key)

    async def take(self, queues: Collection[str], wait: timedelta) -> Delivery | None:
        """See `JobBackend`."""
        return await self._queues.take(queues, wait)

    async def extend(self, delivery: Delivery) -> bool:
        """See `JobBackend`."""
        return await self._queues.extend(delivery)

    async def settle(self, delivery: Delivery) -> None:
        """See `JobBackend`."""
        await self._queues.settle(delivery)

    async def release(self, delivery: Delivery, delay: timedelta) -> None:
        """See `JobBackend`."""
        await self._queues.release(delivery, delay)

    async def queue_position(self, job: Job) -> int:
        """See `JobBackend`."""
        return await self._queues.position(job)

    async def depths(self) -> Mapping[str, int]:
        """See `JobBackend`."""
        return await self._queues.depths()

    async def _repair(self, job: Job) -> None:
        """Queue a job that waits, if it is not in its queue."""
        if job.state is JobState.QUEUED:
            await self._queues.enqueue(job.queue, job.key)
