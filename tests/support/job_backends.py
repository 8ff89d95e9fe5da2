"""Job backends, and the jobs that tests put into them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from maskwire_server.domain.jobs import machine
from maskwire_server.domain.jobs.backend import JobBackend
from maskwire_server.domain.jobs.job import ContentReference, Job, JobEvent, JobKey, JobState
from maskwire_server.domain.jobs.ledger import JobLedger, JobRules
from maskwire_server.jobs.sqlite import SqliteJobBackend

LEASE = timedelta(seconds=0.5)
"""Lease of backends of tests that wait for it to pass, and that mind not if it passes early."""
STEADY_LEASE = timedelta(seconds=4)
"""The same where it must not pass early: a machine that stands still for two seconds ends none."""
KEPT_LEASE = timedelta(minutes=5)
"""Lease of backends of all other tests: nothing ends it, however long the machine stands still."""

leases_pass = pytest.mark.parametrize("lease", [LEASE], ids=["short"])
"""Marks a test of the first kind; it stands in for the fixture `lease`."""
steady_leases_pass = pytest.mark.parametrize("lease", [STEADY_LEASE], ids=["steady"])
"""Marks a test of the second kind."""

LONG = timedelta(seconds=20)
"""How long tests wait for what must come."""
NOW = timedelta(0)
"""A wait for what must be there already."""

RULES = JobRules(
    max_attempts=3,
    retry_delay=timedelta(milliseconds=50),
    retention=timedelta(hours=1),
    max_queued=100,
)

_requests = itertools.count(1)
_prefixes = itertools.count(1)


@dataclass(frozen=True)
class JobStore:
    """One place where jobs are kept, and how to open another backend on it.

    Attributes:
        make: Makes a backend that is not open yet, with other options than the usual ones.
    """

    make: Callable[..., JobBackend]

    @asynccontextmanager
    async def opened(self, **options: Any) -> AsyncIterator[JobBackend]:
        """Open a backend, as another process would have its own."""
        backend = self.make(**options)
        async with AsyncExitStack() as stack:
            await backend.open()
            stack.push_async_callback(backend.close)
            yield backend

    @asynccontextmanager
    async def ledger(self, **changes: Any) -> AsyncIterator[JobLedger]:
        """Open a ledger on a backend of its own; `changes` are other rules than `RULES`."""
        async with self.opened() as backend:
            yield new_ledger(backend, **changes)


def sqlite_store(folder: Path, lease: timedelta = KEPT_LEASE) -> JobStore:
    """Return a store in a file of a folder; nothing is made yet."""

    def make(**options: Any) -> JobBackend:
        options.setdefault("lease", lease)
        return SqliteJobBackend(folder / "jobs.sqlite", **options)

    return JobStore(make)


def nats_store(url: str, lease: timedelta = KEPT_LEASE) -> JobStore:
    """Return a store in streams of a NATS server that no other store uses."""
    from maskwire_server.jobs.nats import NatsJobBackend

    prefix = f"test-{next(_prefixes)}"

    def make(**options: Any) -> JobBackend:
        options.setdefault("lease", lease)
        return NatsJobBackend([url], prefix=prefix, **options)

    return JobStore(make)


def new_ledger(backend: JobBackend, **changes: Any) -> JobLedger:
    """Return a ledger; `changes` are other rules than `RULES`."""
    return JobLedger(backend, replace(RULES, **changes), utc_now)


def utc_now() -> datetime:
    return datetime.now(UTC)


def new_job(tenant: str = "alice", request_id: str | None = None, **changes: Any) -> Job:
    """Return a job that nobody submitted yet; each has another request identifier."""
    request_id = request_id or f"00000000-0000-4000-8000-{next(_requests):012x}"
    job = Job(
        key=JobKey.of_request(tenant, request_id),
        method="maskwire.v1.VideoService/TrackVideo",
        queue="segmentation",
        request_id=request_id,
        request_digest=f"sha256:{'0' * 64}",
        payload=ContentReference("request-0", 17, f"sha256:{'1' * 64}"),
        state=JobState.QUEUED,
        create_time=utc_now(),
    )
    return replace(job, **changes)


def new_result(attempt: int = 1) -> ContentReference:
    """Return the reference of a result that nobody looks at."""
    return ContentReference(f"attempt-{attempt}/result", 3, f"sha256:{'2' * 64}")


async def create(backend: JobBackend, **changes: Any) -> Job:
    """Create a job as the ledger does."""
    first = machine.submitted(new_job(**changes))
    return await backend.create(first.job, first.event)


async def try_append(backend: JobBackend, job: Job, fraction: float = 0.5) -> Job | None:
    """Append an event of progress to a job at some version; return None where it has another."""
    change = machine.progressed(job, utc_now(), "stage", fraction, "")
    return change.job if await backend.append(change.job, change.event) else None


async def append(backend: JobBackend, job: Job, fraction: float = 0.5) -> Job:
    """Append an event of progress to a job that must be at that version."""
    appended = await try_append(backend, job, fraction)
    assert appended is not None
    return appended


async def first_events(
    backend: JobBackend, key: JobKey, count: int, after_sequence: int = 0
) -> list[JobEvent]:
    """Return so many events of a job, waiting for them."""
    found: list[JobEvent] = []
    async with asyncio.timeout(LONG.total_seconds()):
        async with aclosing(backend.events(key, after_sequence)) as events:
            async for event in events:
                found.append(event)
                if len(found) == count:
                    break
    return found
