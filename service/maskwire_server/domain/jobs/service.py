"""Answers callers about jobs: submit, watch, list, cancel, result.

What a queued call means is decided elsewhere (`domain/queued_calls.py`); here it is bytes with a
digest, and a job.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import timedelta

from ..errors import ErrorCode, MaskwireError, too_large
from ..executor import BoundedExecutor
from ..observer import Observer
from ..quotas import UNLIMITED, TenantQuotas
from ..segmentation import Caller
from .backend import JobBackend
from .calls import CallContent, QueuedMessage
from .content import JobContentStore, payload_key
from .job import (
    JOB_NAME_PREFIX,
    Job,
    JobEvent,
    JobFilter,
    JobKey,
    JobPage,
    JobState,
    WebhookDelivery,
)
from .ledger import Clock, JobLedger
from .unfinished import UnfinishedJobs

_WATCHERS = "job watchers"


JobMessage = str | JobEvent | bytes
"""What the submitter of a job is told: its name, what happens, and its result."""


@dataclass(frozen=True, slots=True)
class JobLimits:
    """What callers may ask for.

    Attributes:
        max_request_bytes: Largest request with what was put into it.
        max_watchers: Streams that watch jobs at a time.
        takes_webhooks: Whether reports of jobs' ends are sent.
        quotas: How many unfinished jobs a tenant may have.
    """

    max_request_bytes: int
    max_watchers: int
    takes_webhooks: bool
    quotas: TenantQuotas = UNLIMITED


@dataclass(frozen=True, slots=True)
class Submission:
    """A call to be queued.

    Attributes:
        request_id: The caller's identifier of the request, a UUID.
        message: The request as it travelled.
        webhook_url: Where to report the end; None for nowhere.
    """

    request_id: str
    message: QueuedMessage
    webhook_url: str | None = None


@dataclass(frozen=True, slots=True)
class AdmittedCall:
    """A call that may be queued: for which workers, and what to put into it."""

    queue: str
    content: CallContent


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job, and how many are before it in its queue, while it waits."""

    job: Job
    queue_position: int


class JobService:
    """Submits jobs and answers about them."""

    def __init__(
        self,
        ledger: JobLedger,
        backend: JobBackend,
        contents: JobContentStore,
        executor: BoundedExecutor,
        observer: Observer,
        limits: JobLimits,
        now: Clock,
    ) -> None:
        self._ledger = ledger
        self._backend = backend
        self._contents = contents
        self._executor = executor
        self._observer = observer
        self._limits = limits
        self._now = now
        self._unfinished = UnfinishedJobs(backend, limits.quotas)
        self._watchers = 0

    async def submit(
        self,
        submission: Submission,
        admit: Callable[[], Awaitable[AdmittedCall]],
        caller: Caller,
    ) -> Job:
        """Queue a call, or return the job that the same request made before.

        Args:
            submission: The call.
            admit: Checks it and says where it goes; not called where the job exists.
            caller: Whose job it is.

        Raises:
            MaskwireError: What `admit` raises; `REQUEST_ID_REUSED`, `OVERLOADED`,
                `QUOTA_EXCEEDED`, `PAYLOAD_TOO_LARGE`, `SOURCE_DISABLED` for a webhook where none
                are sent, `STORAGE_UNAVAILABLE`, `JOBS_UNAVAILABLE`.
        """
        key = JobKey.of_request(caller.tenant, submission.request_id)
        message = submission.message
        known = await self._ledger.find(key, message.digest)
        if known is not None:
            return known
        if submission.webhook_url is not None and not self._limits.takes_webhooks:
            raise MaskwireError(
                ErrorCode.SOURCE_DISABLED,
                "webhook: this server sends none (its setting webhooks.secret is not set)",
            )
        admitted = await admit()
        await self._ledger.check_room(admitted.queue)
        async with self._unfinished.one_more(caller.tenant):
            return await self._queue(key, submission, admitted)

    async def _queue(self, key: JobKey, submission: Submission, admitted: AdmittedCall) -> Job:
        message = submission.message
        made = await self._executor.run(lambda: message.payload(admitted.content))
        payload, most = made.value, self._limits.max_request_bytes
        if len(payload) > most:
            raise too_large("request", f"{len(payload)} bytes as a job exceed the limit of {most}")
        place = (await self._executor.run(lambda: payload_key(payload))).value
        url = submission.webhook_url
        job = Job(
            key=key,
            method=message.method,
            queue=admitted.queue,
            request_id=submission.request_id,
            request_digest=message.digest,
            payload=await self._contents.put(key, place, payload),
            state=JobState.QUEUED,
            create_time=self._now(),
            webhook=None if url is None else WebhookDelivery(url),
            trace_context=self._observer.trace_context(),
        )
        return await self._ledger.submit(job)

    async def get(self, caller: Caller, name: str) -> JobStatus:
        """Return how a job stands.

        Raises:
            MaskwireError: `JOB_NOT_FOUND`.
        """
        return await self.status(await self._ledger.get(_key(caller, name)))

    async def status(self, job: Job) -> JobStatus:
        """Return a job with its position in the queue."""
        waits = job.state is JobState.QUEUED
        return JobStatus(job, await self._backend.queue_position(job) if waits else 0)

    async def list(
        self, caller: Caller, wanted: JobFilter, *, page_size: int, page_token: str
    ) -> JobPage:
        """Return a page of the caller's jobs, newest first.

        Raises:
            MaskwireError: `INVALID_ARGUMENT` for a page token that no page gave.
        """
        return await self._backend.list(
            caller.tenant, wanted, page_size=page_size, page_token=page_token
        )

    async def cancel(self, caller: Caller, name: str) -> JobStatus:
        """Cancel a job.

        Raises:
            MaskwireError: `JOB_NOT_FOUND`.
        """
        return await self.status(await self._ledger.cancel(_key(caller, name)))

    async def watch(
        self, caller: Caller, name: str, after_sequence: int
    ) -> AsyncGenerator[JobEvent | Job, None]:
        """Yield a job's events after a sequence until it is done, then the job.

        Raises:
            MaskwireError: `JOB_NOT_FOUND`; `OVERLOADED` where too many watch already.
        """
        key = _key(caller, name)
        with self._watching():
            async with aclosing(self._ledger.watch(key, after_sequence)) as events:
                async for event in events:
                    yield event
            yield await self._ledger.get(key)

    async def follow(self, job: Job, caller: Caller) -> AsyncGenerator[JobMessage, None]:
        """Yield a submitted job's name, its events, and its result.

        Raises:
            MaskwireError: Why the job failed; `JOB_CANCELLED`; as `watch`.
        """
        yield job.key.name
        async with aclosing(self.watch(caller, job.key.name, 0)) as messages:
            async for message in messages:
                if isinstance(message, JobEvent):
                    yield message
                else:
                    yield await self._result(message)

    async def result(self, caller: Caller, name: str) -> bytes:
        """Return what a job that succeeded made.

        Raises:
            MaskwireError: `JOB_NOT_FOUND`, `JOB_NOT_DONE` where there is no result (yet).
        """
        job = await self._ledger.get(_key(caller, name))
        if job.state is not JobState.SUCCEEDED:
            why = f": {job.failure.message}" if job.failure and job.state.is_done else ""
            raise MaskwireError(
                ErrorCode.JOB_NOT_DONE,
                f"{job.key.name} has no result, it is {job.state.value}{why}",
                resource=job.key.name,
            )
        return await self._result(job)

    async def _result(self, job: Job) -> bytes:
        name = job.key.name
        if job.state is JobState.CANCELLED:
            raise MaskwireError(ErrorCode.JOB_CANCELLED, f"{name} was cancelled", resource=name)
        if job.failure is not None:
            raise MaskwireError(job.failure.code, job.failure.message, resource=name)
        assert job.result is not None
        return await self._contents.get(job.key, job.result)

    @contextmanager
    def _watching(self) -> Iterator[None]:
        if self._watchers >= self._limits.max_watchers:
            self._observer.overload_refused(_WATCHERS)
            raise MaskwireError(
                ErrorCode.OVERLOADED,
                f"the server has its limit of {self._limits.max_watchers} streams that watch jobs",
                retry_after=timedelta(seconds=1),
                resource=_WATCHERS,
            )
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1


def _key(caller: Caller, name: str) -> JobKey:
    return JobKey(caller.tenant, name.removeprefix(JOB_NAME_PREFIX))
