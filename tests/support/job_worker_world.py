"""Jobs, a backend, a place for content, and workers: in this process or in ones of their own."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from maskwire_server.domain.executor import BoundedExecutor
from maskwire_server.domain.files.store import FileLimits
from maskwire_server.domain.jobs.backend import JobBackend
from maskwire_server.domain.jobs.content import JobContentStore, payload_key
from maskwire_server.domain.jobs.job import Job, JobEvent, JobKey, JobState
from maskwire_server.domain.jobs.ledger import JobLedger
from maskwire_server.jobs.sqlite import SqliteJobBackend
from maskwire_server.jobs.worker import JobWorkers, KeepingTimes, WorkerLimits, WorkerSetup
from maskwire_server.observability.metrics import Metrics
from maskwire_server.storage.opening import open_stores
from tests.support.job_backends import RULES, new_job, utc_now
from tests.support.job_worker_child import CHILD_ARGV
from tests.support.stores import LIMITS as FILE_LIMITS
from tests.support.stores import folder_location

QUEUE = "segmentation"
LONG_S = 60.0
"""How long tests wait for what must come."""

TIMES = KeepingTimes(lease_s=1.0, stall_timeout_s=30.0, cancel_grace_s=0.5)
LIMITS = WorkerLimits(
    times=TIMES,
    child_idle_s=300.0,
    child_memory_bytes=0,
    event_interval_s=0.05,
    max_body_bytes=64 * 2**20,
)


@dataclass(frozen=True)
class Place:
    """Where jobs are kept, as processes tell each other.

    Attributes:
        kind: `sqlite` or `nats`.
        address: The database, or the server's URL.
        prefix: Of names in NATS.
    """

    kind: str
    address: str
    prefix: str = ""

    def backend(self, lease_s: float, busy_timeout_s: float = 10.0) -> JobBackend:
        """Make a backend that is not open yet."""
        lease = timedelta(seconds=lease_s)
        if self.kind == "sqlite":
            busy = timedelta(seconds=busy_timeout_s)
            return SqliteJobBackend(Path(self.address), lease, busy_timeout=busy)
        from maskwire_server.jobs.nats import NatsJobBackend

        return NatsJobBackend([self.address], lease, prefix=self.prefix)


@contextmanager
def contents_in(folder: Path, limits: FileLimits = FILE_LIMITS) -> Iterator[JobContentStore]:
    """Open a store of what jobs carry in a folder."""
    metrics = Metrics()
    executor = BoundedExecutor("files", 2, 64, metrics)
    try:
        yield open_stores(folder_location(folder), limits, executor, metrics).job_contents
    finally:
        executor.close()


class WorkerProcess:
    """A process with one worker; see `job_worker_main.py`."""

    def __init__(self, settings: dict[str, Any], log: Path) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.job_worker_main", json.dumps(settings)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
            )

    def wait_until_ready(self) -> None:
        """Return when it takes jobs."""
        assert self.process.stdout is not None
        with self.process.stdout as output:
            assert output.readline() == b"ready\n", self.log.read_text()

    def wait_for_line(self, part: str) -> None:
        """Return when it has logged a line with this in it."""
        _wait_for(lambda: part in self.log.read_text())

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it, not to its child."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Return its exit code when it has ended."""
        return self.process.wait(LONG_S)

    def end(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait(LONG_S)


@dataclass
class World:
    """A backend and a content store in a folder, with a caller's view and workers."""

    folder: Path
    place: Place
    lease_s: float
    backend: JobBackend
    ledger: JobLedger
    contents: JobContentStore
    metrics: Metrics = field(default_factory=Metrics)
    processes: list[WorkerProcess] = field(default_factory=list)

    async def submit(self, payload: bytes, **changes: Any) -> Job:
        """Submit a job."""
        job = new_job(**{"queue": QUEUE} | changes)
        digest = f"sha256:{hashlib.sha256(payload).hexdigest()}"
        reference = await self.contents.put(job.key, payload_key(payload), payload)
        return await self.ledger.submit(replace(job, payload=reference, request_digest=digest))

    async def events(self, key: JobKey, after_sequence: int = 0) -> list[JobEvent]:
        """Return a job's events after one of them, until it is done."""
        async with asyncio.timeout(LONG_S):
            async with aclosing(self.ledger.watch(key, after_sequence)) as events:
                return [event async for event in events]

    async def until(self, key: JobKey, **wanted: Any) -> JobEvent:
        """Return the first event with these values, waiting for it."""
        async with asyncio.timeout(LONG_S):
            async with aclosing(self.ledger.watch(key, 0)) as events:
                async for event in events:
                    if all(getattr(event, name) == value for name, value in wanted.items()):
                        return event
        raise AssertionError(f"the job ended without {wanted}")

    async def result(self, key: JobKey) -> bytes:
        """Return the result of a job that succeeded."""
        job = await self.ledger.get(key)
        assert job.result is not None, (job.state, job.failure)
        return await self.contents.get(key, job.result)

    async def audited(self, key: JobKey, state: JobState) -> Job:
        """Wait for a job's end and return it; everything that is promised of its events holds."""
        check_events(await self.events(key), state)
        job = await self.ledger.get(key)
        assert job.state is state, (job.state, job.failure)
        if state is JobState.SUCCEEDED:
            assert json.loads(await self.result(key))["attempt"] == job.attempt
        return job

    @asynccontextmanager
    async def workers(self, count: int = 1, **changes: Any) -> AsyncIterator[JobWorkers]:
        """Run workers in this process; `changes` are of the limits, or the configuration."""
        configuration = changes.pop("configuration", b"")
        contents = changes.pop("contents", self.contents)
        times = {name: changes.pop(name) for name in list(changes) if hasattr(TIMES, name)}
        kept = replace(TIMES, **{"lease_s": self.lease_s} | times)
        limits = replace(LIMITS, times=kept, **changes)
        setup = WorkerSetup(count, (QUEUE,), CHILD_ARGV, limits, configuration)
        workers = JobWorkers(self.ledger, contents, self.metrics, setup)
        workers.start()
        try:
            yield workers
        finally:
            await workers.stop(0.0)

    async def worker_process(self, **options: Any) -> WorkerProcess:
        """Start a worker in a process of its own; returns when it takes jobs."""
        settings = {
            "kind": self.place.kind,
            "address": self.place.address,
            "prefix": self.place.prefix,
            "contents": str(self.folder / "contents"),
            "lease_s": self.lease_s,
            **options,
        }
        log = self.folder / f"worker-{len(self.processes)}.log"
        worker = WorkerProcess(settings, log)
        self.processes.append(worker)
        await asyncio.to_thread(worker.wait_until_ready)
        return worker

    def end_processes(self) -> None:
        """End all workers that are processes."""
        for worker in self.processes:
            worker.end()


def check_events(events: list[JobEvent], state: JobState, after_sequence: int = 0) -> None:
    """Check what is promised of the events of a job that is done."""
    sequences = [one.sequence for one in events]
    assert sequences == list(range(after_sequence + 1, after_sequence + len(events) + 1))
    attempts = [one.attempt for one in events]
    assert attempts == sorted(attempts)
    assert events[-1].state is state, events[-1]
    assert [one for one in events if one.state.is_done] == [events[-1]]


@asynccontextmanager
async def job_world(folder: Path, place: Place, lease_s: float = 1.0) -> AsyncIterator[World]:
    """Open a world; every process of it ends with it."""
    async with AsyncExitStack() as stack:
        contents = stack.enter_context(contents_in(folder / "contents"))
        backend = place.backend(lease_s)
        metrics = Metrics()
        ledger = JobLedger(backend, RULES, utc_now, metrics)
        await backend.open()
        stack.push_async_callback(backend.close)
        world = World(folder, place, lease_s, backend, ledger, contents, metrics)
        stack.callback(world.end_processes)
        yield world


def sqlite_place(folder: Path) -> Place:
    """Return a place in a folder."""
    return Place("sqlite", str(folder / "jobs.sqlite"))


async def appeared(file: Path) -> str:
    """Wait for a file and return what is in it."""
    await asyncio.to_thread(_wait_for, lambda: file.exists() and file.read_text())
    return await asyncio.to_thread(file.read_text)


async def gone(pid: int) -> None:
    """Wait until a process has ended, whoever is to reap it."""
    await asyncio.to_thread(_wait_for, lambda: not is_running(pid))


def _wait_for(condition: Callable[[], object]) -> None:
    ends = time.monotonic() + LONG_S / 2
    while not condition():
        assert time.monotonic() < ends, condition
        threading.Event().wait(0.005)


def is_running(pid: int) -> bool:
    """Return whether a process has not ended; a zombie has."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"
