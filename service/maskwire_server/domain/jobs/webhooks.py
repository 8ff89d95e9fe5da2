"""Reports the end of jobs to the URLs that their submitters gave.

The ledger queues a job that is done; any replica takes it from there, and tries until the receiver
has it or the attempts are used up. How that stands is in the job's record. A receiver may get a
report twice, with one identifier: a replica can die between sending and writing that it did.
"""

from __future__ import annotations

import abc
import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from ..errors import MaskwireError
from ..observer import Observer
from . import machine
from .backend import Delivery, JobBackend
from .job import Job, JobKey, WebhookDelivery, WebhookState
from .ledger import WEBHOOK_QUEUE, Clock

_log = structlog.get_logger(__name__)

LONGEST_DELAY = timedelta(hours=1)
"""Longest pause between two attempts, before jitter."""
_JITTER = 0.2
"""A pause is up to so much of itself shorter or longer, so that receivers recover from a crowd."""
_TAKE_WAIT = timedelta(seconds=30)
_PAUSE_AFTER_FAILURE_S = 1.0
_GONE = 410


@dataclass(frozen=True, slots=True)
class WebhookRules:
    """How reports are tried.

    Attributes:
        max_attempts: Attempts before one is given up.
        first_delay: Pause after the first failed attempt; doubled after each.
        lease: Lease of the backend's deliveries; extended for as long as an attempt takes.
        parallel: Attempts at a time.
    """

    max_attempts: int
    first_delay: timedelta
    lease: timedelta
    parallel: int = 8

    def delay_after(self, attempts: int) -> timedelta:
        """Return the pause after so many failed attempts, jittered."""
        doubled = self.first_delay * 2.0 ** min(attempts - 1, 30)
        return min(doubled, LONGEST_DELAY) * random.uniform(1 - _JITTER, 1 + _JITTER)


@dataclass(frozen=True, slots=True)
class WebhookReport:
    """What is sent.

    Attributes:
        url: Where to.
        report_id: Tells the receiver that two are the same report.
        content: A JSON object, the same at every attempt.
    """

    url: str
    report_id: str
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WebhookAnswer:
    """What came of sending.

    Attributes:
        http_status: The receiver's status; 0 where there was no answer.
        problem: Why there was none; a line for the job's submitter.
        is_forbidden: Whether the address is one that nothing is sent to.
    """

    http_status: int
    problem: str = ""
    is_forbidden: bool = False

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver has it."""
        return 200 <= self.http_status < 300

    @property
    def is_final(self) -> bool:
        """Whether another attempt would be in vain."""
        return self.is_forbidden or self.http_status == _GONE


class WebhookSender(abc.ABC):
    """Sends reports."""

    @abc.abstractmethod
    async def send(self, report: WebhookReport) -> WebhookAnswer:
        """Send a report once, in bounded time; failures are answers, too."""


class WebhookDeliverer:
    """Tries what is queued, between `start` and `stop` on one event loop."""

    def __init__(
        self,
        backend: JobBackend,
        sender: WebhookSender,
        rules: WebhookRules,
        observer: Observer,
        now: Clock,
    ) -> None:
        self._backend = backend
        self._sender = sender
        self._rules = rules
        self._observer = observer
        self._now = now
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        self._tasks = [
            asyncio.create_task(self._run(), name=f"webhooks-{number}")
            for number in range(self._rules.parallel)
        ]

    async def stop(self) -> None:
        """End; what is being tried is tried again, here or elsewhere."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def _run(self) -> None:
        while True:
            try:
                delivery = await self._backend.take([WEBHOOK_QUEUE], _TAKE_WAIT)
                if delivery is not None:
                    await self._deliver(delivery)
            except MaskwireError as error:
                _log.warning("webhooks wait for the job backend", error=error.message)
                await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)
            except Exception as error:
                # Its lease passes, and it comes again.
                _log.error("unexpected error in reporting a job's end", exc_info=error)
                await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)

    async def _deliver(self, delivery: Delivery) -> None:
        """Make the attempt that is due at the report of a delivered job."""
        job = await self._backend.load(delivery.key)
        webhook = _pending(job)
        if job is None or webhook is None:
            await self._backend.settle(delivery)
            return
        early = (webhook.next_attempt_time or self._now()) - self._now()
        if early > timedelta(0):
            # Whoever wrote when it is due died before it said so to the queue.
            await self._backend.release(delivery, early)
            return
        async with self._lease_kept(delivery):
            answer = await self._sender.send(report_of(job, webhook))
        after = self._after(webhook, answer)
        self._count(answer, after)
        if not await self._write(job.key, webhook, after, _line(answer, after)):
            return
        if after.next_attempt_time is None:
            await self._backend.settle(delivery)
        else:
            await self._backend.release(delivery, after.next_attempt_time - self._now())

    def _after(self, before: WebhookDelivery, answer: WebhookAnswer) -> WebhookDelivery:
        """Return how a report stands after an attempt."""
        attempts = before.attempts + 1
        state, due = WebhookState.PENDING, None
        if answer.is_delivered:
            state = WebhookState.DELIVERED
        elif answer.is_final or attempts >= self._rules.max_attempts:
            state = WebhookState.FAILED
        else:
            due = self._now() + self._rules.delay_after(attempts)
        return replace(
            before,
            state=state,
            attempts=attempts,
            last_http_status=answer.http_status,
            next_attempt_time=due,
        )

    async def _write(
        self, key: JobKey, before: WebhookDelivery, after: WebhookDelivery, line: str
    ) -> bool:
        """Write an attempt into the job, if no other replica made the same one meanwhile."""
        while True:
            job = await self._backend.load(key)
            if job is None or job.webhook != before:
                return False
            change = machine.webhook_tried(job, self._now(), after, line)
            if await self._backend.append(change.job, change.event):
                return True

    @asynccontextmanager
    async def _lease_kept(self, delivery: Delivery) -> AsyncIterator[None]:
        """Extend the lease while the receiver takes its time."""

        async def extend() -> None:
            while True:
                await asyncio.sleep(self._rules.lease.total_seconds() / 3)
                with suppress(MaskwireError):
                    await self._backend.extend(delivery)

        extending = asyncio.create_task(extend())
        try:
            yield
        finally:
            extending.cancel()
            await asyncio.gather(extending, return_exceptions=True)

    def _count(self, answer: WebhookAnswer, after: WebhookDelivery) -> None:
        if answer.is_delivered:
            outcome = "delivered"
        else:
            outcome = "refused" if answer.http_status else "unreachable"
        self._observer.webhook_tried(outcome)
        if after.state is WebhookState.FAILED:
            self._observer.webhook_tried("gave_up")


def report_of(job: Job, webhook: WebhookDelivery) -> WebhookReport:
    """Return the report of a job's end; the same for the same job at any time."""
    data: dict[str, Any] = {
        "name": job.key.name,
        "method": job.method,
        "state": job.state.name,
        "request_id": job.request_id,
        "attempt": job.attempt,
        "create_time": _text(job.create_time),
        "end_time": _text(job.end_time),
    }
    if job.failure is not None:
        data["error"] = {"code": job.failure.code.name, "message": job.failure.message}
    # The same request may make another job once this one has expired.
    made = job.create_time.strftime("%Y%m%dT%H%M%S%f")
    return WebhookReport(
        url=webhook.url,
        report_id=f"{job.key.job_id}-{made}",
        content={
            "type": f"job.{job.state.value}",
            "timestamp": _text(job.end_time),
            "data": data,
        },
    )


def _pending(job: Job | None) -> WebhookDelivery | None:
    """Return the report of a job that is still to be delivered, if there is one."""
    if job is None or not job.state.is_done or job.webhook is None:
        return None
    return job.webhook if job.webhook.state is WebhookState.PENDING else None


def _line(answer: WebhookAnswer, after: WebhookDelivery) -> str:
    """Return a line for people about an attempt."""
    if answer.is_delivered:
        return "webhook: delivered"
    reason = answer.problem or f"HTTP status {answer.http_status}"
    end = "; given up" if after.state is WebhookState.FAILED else ""
    return f"webhook: attempt {after.attempts} failed: {reason}{end}"


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat().replace("+00:00", "Z")
