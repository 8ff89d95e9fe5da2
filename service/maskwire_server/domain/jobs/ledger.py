"""Keeps the promises about jobs on any backend.

Once a job's name is out it is durable; it runs at least once, at most so many times, and exactly
one result is committed; every change has an event, without gaps. All of that rests on the backend's
compare-and-set: each method here reads the record, decides what the change is, and tries to write
it, again from the start where another was first.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..errors import ErrorCode, MaskwireError
from ..observer import Observer
from . import machine
from .backend import Delivery, JobBackend
from .calls import AttemptCancelled, AttemptFailed, AttemptHandedBack
from .job import ContentReference, Job, JobEvent, JobFailure, JobKey, JobState

WEBHOOK_QUEUE = "webhooks"
"""The queue of jobs whose end is to be reported."""

Clock = Callable[[], datetime]
"""Tells the time, in UTC."""

AttemptOutcome = ContentReference | AttemptFailed | AttemptCancelled | AttemptHandedBack
"""How an attempt ended: with a result, or without."""


@dataclass(frozen=True, slots=True)
class JobRules:
    """What holds for all jobs.

    Attributes:
        max_attempts: How often a job is tried.
        retry_delay: Pause before the second attempt after a failure; doubled before the third.
        retention: How long a job that is done, and its result, are kept.
        max_queued: Jobs that wait in one queue; more are refused.
    """

    max_attempts: int
    retry_delay: timedelta
    retention: timedelta
    max_queued: int


@dataclass(frozen=True, slots=True)
class Claim:
    """An attempt at a job that a worker has.

    Attributes:
        delivery: The lease on it.
        job: The record as it was claimed.
    """

    delivery: Delivery
    job: Job


class Standing(enum.Enum):
    """What a worker learns when it extends its lease."""

    HELD = enum.auto()
    CANCEL_REQUESTED = enum.auto()
    LOST = enum.auto()


class LeaseLost(Exception):
    """The attempt is no longer the worker's: another has begun, or the job is done."""


class JobLedger:
    """Submits, claims, reports, commits and cancels jobs."""

    def __init__(
        self, backend: JobBackend, rules: JobRules, now: Clock, observer: Observer | None = None
    ) -> None:
        self._backend = backend
        self._rules = rules
        self._now = now
        self._observer = observer

    # For callers.

    async def find(self, key: JobKey, request_digest: str) -> Job | None:
        """Return the job that a request made earlier, if it did.

        Raises:
            MaskwireError: `REQUEST_ID_REUSED` where it was another request.
        """
        job = await self._backend.load(key)
        if job is not None:
            _check_same_request(job, request_digest)
        return job

    async def check_room(self, queue: str) -> None:
        """Refuse a new job where too many wait.

        Raises:
            MaskwireError: `OVERLOADED` with `retry_after`.
        """
        waiting = (await self._backend.depths()).get(queue, 0)
        if waiting >= self._rules.max_queued:
            raise MaskwireError(
                ErrorCode.OVERLOADED,
                f"{waiting} jobs wait for {queue}, which is the limit",
                retry_after=timedelta(seconds=5),
                resource=queue,
            )

    async def submit(self, job: Job) -> Job:
        """Make a job durable and queue it, or return the one that the same request made.

        Raises:
            MaskwireError: `REQUEST_ID_REUSED` where the identifier was another request's.
        """
        first = machine.submitted(job)
        kept = await self._backend.create(first.job, first.event)
        _check_same_request(kept, job.request_digest)
        return kept

    async def get(self, key: JobKey) -> Job:
        """Return a job.

        Raises:
            MaskwireError: `JOB_NOT_FOUND`.
        """
        job = await self._backend.load(key)
        if job is None:
            raise _not_found(key)
        return job

    async def watch(self, key: JobKey, after_sequence: int) -> AsyncGenerator[JobEvent, None]:
        """Yield a job's events after a sequence, and end with the one that ends the job.

        Raises:
            MaskwireError: `JOB_NOT_FOUND`.
        """
        job = await self.get(key)
        if job.state.is_done and job.last_event_sequence <= after_sequence:
            return
        async with aclosing(self._backend.events(key, after_sequence)) as events:
            async for event in events:
                yield event
                if event.state.is_done:
                    return

    async def cancel(self, key: JobKey) -> Job:
        """Cancel a job: at once while it waits, else by telling its worker.

        Raises:
            MaskwireError: `JOB_NOT_FOUND`.
        """
        while True:
            job = await self.get(key)
            if job.state.is_done or job.is_cancel_requested:
                return job
            is_waiting = job.state is JobState.QUEUED
            change = (
                machine.cancelled(job, self._now(), self._rules.retention)
                if is_waiting
                else machine.cancel_requested(job, self._now())
            )
            if await self._apply(change):
                # A worker would do so too, but only when the job's turn comes.
                await self._queue_report(change.job)
                return change.job

    # For workers.

    async def claim(self, queues: Collection[str], wait: timedelta) -> Claim | None:
        """Return an attempt at the next job of the queues, or None if there is none for `wait`.

        As `take` and `begin` together.
        """
        delivery = await self.take(queues, wait)
        return None if delivery is None else await self.begin(delivery)

    async def take(self, queues: Collection[str], wait: timedelta) -> Delivery | None:
        """Return the next job of the queues, or None if there is none for `wait`.

        May be cancelled: a job that was handed out just then comes again after its lease, and no
        attempt was begun.
        """
        return await self._backend.take(queues, wait)

    async def put_back(self, delivery: Delivery) -> None:
        """Give back a job that was taken and not begun."""
        await self._backend.release(delivery, timedelta())

    async def begin(self, delivery: Delivery) -> Claim | None:
        """Begin an attempt at a job that was taken.

        A job that needs no work (it was cancelled, it is done, it was tried too often) is finished
        here, and None returned.
        """
        while True:
            job = await self._backend.load(delivery.key)
            if job is None or job.state.is_done:
                await self._finish(delivery, job)
                return None
            if job.is_cancel_requested:
                change = machine.cancelled(job, self._now(), self._rules.retention)
            elif job.tries >= self._rules.max_attempts:
                change = machine.failed(job, self._now(), _exhausted(job), self._rules.retention)
            else:
                change = machine.claimed(job, self._now())
            if not await self._apply(change):
                continue
            if change.job.state is JobState.RUNNING:
                return Claim(delivery, change.job)
            await self._finish(delivery, change.job)
            return None

    async def extend(self, claim: Claim) -> Standing:
        """Begin the lease of an attempt anew, and tell how it stands."""
        standing = await self.standing(claim)
        if standing is Standing.LOST or not await self._backend.extend(claim.delivery):
            return Standing.LOST
        return standing

    async def standing(self, claim: Claim) -> Standing:
        """Tell how an attempt stands; cheaper than to extend its lease."""
        job = await self._backend.load(claim.delivery.key)
        if not _is_current(claim, job):
            return Standing.LOST
        assert job is not None
        return Standing.CANCEL_REQUESTED if job.is_cancel_requested else Standing.HELD

    async def report(self, claim: Claim, stage: str, fraction: float, log_line: str = "") -> None:
        """Write how far an attempt is.

        Raises:
            LeaseLost: The attempt is no longer the worker's.
        """
        while True:
            job = await self._current(claim)
            if await self._apply(machine.progressed(job, self._now(), stage, fraction, log_line)):
                return

    async def commit(self, claim: Claim, outcome: AttemptOutcome) -> Job:
        """End an attempt: the one place where a result becomes the job's.

        A job whose cancellation was asked for before this is cancelled, whatever the outcome.

        Raises:
            LeaseLost: The attempt is no longer the worker's; nothing was written.
        """
        while True:
            job = await self._current(claim)
            change = self._ending(job, outcome)
            if not await self._apply(change):
                continue
            if change.job.state.is_done:
                await self._finish(claim.delivery, change.job)
            else:
                await self._backend.release(claim.delivery, self._pause(outcome, job))
            return change.job

    def _ending(self, job: Job, outcome: AttemptOutcome) -> machine.Transition:
        now, retention = self._now(), self._rules.retention
        if job.is_cancel_requested or isinstance(outcome, AttemptCancelled):
            return machine.cancelled(job, now, retention)
        if isinstance(outcome, ContentReference):
            return machine.succeeded(job, now, outcome, retention)
        if isinstance(outcome, AttemptHandedBack):
            return machine.handed_back(job, now)
        if outcome.is_retryable and job.tries < self._rules.max_attempts:
            return machine.requeued(job, now, outcome.failure)
        return machine.failed(job, now, outcome.failure, retention)

    def _pause(self, outcome: AttemptOutcome, job: Job) -> timedelta:
        if isinstance(outcome, AttemptHandedBack):
            return timedelta()
        return self._rules.retry_delay * (1 << (job.tries - 1))

    async def depths(self) -> Mapping[str, int]:
        """Return how many jobs wait in each queue that is not empty."""
        return await self._backend.depths()

    async def _current(self, claim: Claim) -> Job:
        job = await self._backend.load(claim.delivery.key)
        if not _is_current(claim, job):
            raise LeaseLost
        assert job is not None
        return job

    async def _finish(self, delivery: Delivery, job: Job | None) -> None:
        """Take a job that is done out of its queue, once the report of its end is queued."""
        if job is not None:
            await self._queue_report(job)
        await self._backend.settle(delivery)

    async def _queue_report(self, job: Job) -> None:
        if job.webhook is not None and job.webhook.next_attempt_time is not None:
            await self._backend.enqueue(WEBHOOK_QUEUE, job.key)

    async def _apply(self, change: machine.Transition) -> bool:
        is_written = await self._backend.append(change.job, change.event)
        if is_written and change.is_end and self._observer is not None:
            self._observer.job_finished(change.job.method, change.job.state.value)
        return is_written


def _is_current(claim: Claim, job: Job | None) -> bool:
    return (
        job is not None
        and job.state is JobState.RUNNING
        and job.attempt == claim.job.attempt
        and job.create_time == claim.job.create_time
    )


def _exhausted(job: Job) -> JobFailure:
    known = "" if job.failure is None else f"; before that: {job.failure.message}"
    return JobFailure(
        ErrorCode.WORKER_LOST,
        f"its worker died or froze in the last of {job.attempt} attempts{known}",
    )


def _check_same_request(job: Job, request_digest: str) -> None:
    if job.request_digest != request_digest:
        raise MaskwireError(
            ErrorCode.REQUEST_ID_REUSED,
            f"request_id: {job.request_id} was used with another request, for {job.key.name}",
            resource=job.key.name,
        )


def _not_found(key: JobKey) -> MaskwireError:
    return MaskwireError(ErrorCode.JOB_NOT_FOUND, f"there is no job {key.name}", resource=key.name)
