"""The interface of whatever keeps jobs: records with events, and queues that hand out work.

Adapters are in `jobs/sqlite` (one machine) and `jobs/nats` (a cluster). They know nothing of what a
change means; the ledger does. A record and its event are written in one atomic step, on condition
that no other was written in between: that is the whole of the fencing.
"""

from __future__ import annotations

import abc
from collections.abc import AsyncGenerator, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from .job import Job, JobEvent, JobFilter, JobKey, JobPage


@dataclass(frozen=True, slots=True)
class Delivery:
    """A job that a queue handed to one worker, for as long as its lease is extended.

    Attributes:
        queue: The queue.
        key: The job.
        token: The backend's own handle; no other delivery has an equal one.
    """

    queue: str
    key: JobKey
    token: object


class JobBackend(abc.ABC):
    """Keeps jobs and queues; used on one event loop.

    Queues are named by words of lower-case letters, digits and hyphens; nobody makes them first.
    Their lease, how long a delivery is a worker's without being extended, is given to the backend
    when it is made. Every method may raise `MaskwireError` with `JOBS_UNAVAILABLE` when the backend
    itself fails or cannot be reached.
    """

    @abc.abstractmethod
    async def open(self) -> None:
        """Connect; touches nothing on a disk that jobs have not touched before."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Let go of everything; events being read end, deliveries stay until their leases end."""

    # Records and events.

    @abc.abstractmethod
    async def create(self, job: Job, event: JobEvent) -> Job:
        """Write a new job with its first event and queue it, or return the one that has its key.

        Once this returns, the job survives any crash. `event.queue_position` is filled in here.
        """

    @abc.abstractmethod
    async def load(self, key: JobKey) -> Job | None:
        """Return the latest record of a job, or None where there is none."""

    @abc.abstractmethod
    async def append(self, job: Job, event: JobEvent) -> bool:
        """Write the next record and its event, if the job is at the version before it.

        Args:
            job: The record; its `last_event_sequence` is `event.sequence`.
            event: What happened.

        Returns:
            False, with nothing written, where the record has another version than
            `event.sequence - 1` or is gone.
        """

    @abc.abstractmethod
    def events(self, key: JobKey, after_sequence: int) -> AsyncGenerator[JobEvent, None]:
        """Yield a job's events after a sequence, then those to come, until closed; none for no job.

        Survives restarts of the backend without gaps or repetitions.
        """

    @abc.abstractmethod
    async def list(
        self, tenant: str, wanted: JobFilter, *, page_size: int, page_token: str
    ) -> JobPage:
        """Return a page of a tenant's jobs, newest first.

        Raises:
            MaskwireError: `INVALID_ARGUMENT` for a page token that no page gave.
        """

    @abc.abstractmethod
    async def has_unfinished(self, tenant: str, count: int) -> bool:
        """Return whether at least so many jobs (1 or more) of a tenant wait or run.

        Asked at submissions: what it costs does not grow with the jobs that are done and kept.
        """

    @abc.abstractmethod
    def expired(self, now: datetime) -> AsyncGenerator[Job, None]:
        """Yield the jobs of all tenants whose `expire_time` has passed."""

    @abc.abstractmethod
    async def delete(self, key: JobKey) -> None:
        """Remove a job's record, events and places in queues."""

    # Queues.

    @abc.abstractmethod
    async def enqueue(self, queue: str, key: JobKey) -> None:
        """Put a job into a queue; it is there once, however often this is called meanwhile."""

    @abc.abstractmethod
    async def take(self, queues: Collection[str], wait: timedelta) -> Delivery | None:
        """Return the next job of any of the queues, or None if there is none for `wait`.

        A job that was handed out comes again once its lease passed without `extend`.
        """

    @abc.abstractmethod
    async def extend(self, delivery: Delivery) -> bool:
        """Begin a delivery's lease anew; False where it is certainly no longer the caller's."""

    @abc.abstractmethod
    async def settle(self, delivery: Delivery) -> None:
        """Take a delivered job out of its queue for good."""

    @abc.abstractmethod
    async def release(self, delivery: Delivery, delay: timedelta) -> None:
        """Give a delivered job back to its queue, to be taken once `delay` has passed."""

    @abc.abstractmethod
    async def queue_position(self, job: Job) -> int:
        """Return how many jobs are before a waiting one in its queue."""

    @abc.abstractmethod
    async def depths(self) -> Mapping[str, int]:
        """Return how many jobs wait in each queue that is not empty."""
