"""How long callers of jobs wait: for a dead worker's job, for a cancellation, for events again.

No time is a pass or a failure; the assertions say that what was timed is what happened.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from maskwire_server.domain.jobs.job import JobState
from maskwire_server.domain.jobs.ledger import JobLedger
from tests.benchmarks.measuring import report, summarize
from tests.support.job_backends import RULES, utc_now
from tests.support.job_worker_child import script, work
from tests.support.job_worker_world import Place, World, appeared, job_world, sqlite_place
from tests.support.nats_process import nats_process, nats_program

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

SAMPLES = 20
WATCHES = 200
LEASE_S = 1.0


@pytest.fixture(params=["sqlite", "nats"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "sqlite":
        yield sqlite_place(tmp_path)
    else:
        with nats_process(nats_program(), tmp_path / "nats") as server:
            yield Place("nats", server.url, "bench")


@pytest.fixture
async def world(place: Place, tmp_path: Path) -> AsyncIterator[World]:
    async with job_world(tmp_path, place, LEASE_S) as made:
        yield made


async def test_recovery_after_a_worker_is_killed(world: World) -> None:
    again, at_work = [], []
    payload = script(work("first", 600.0, attempts=[1]), work("second", 0.0, attempts=[2]))
    for _ in range(SAMPLES):
        worker = await world.worker_process()
        job = await world.submit(payload)
        await world.until(job.key, stage="first")
        worker.end()
        killed_s = time.perf_counter()
        async with world.workers():
            await world.until(job.key, attempt=2)
            again.append(time.perf_counter() - killed_s - LEASE_S)
            await world.until(job.key, stage="second")
            at_work.append(time.perf_counter() - killed_s - LEASE_S)
            await world.audited(job.key, JobState.SUCCEEDED)
    report(
        f"A worker's kill -9 to its job elsewhere, less the lease of {LEASE_S:g} s "
        f"({world.place.kind})",
        {
            "the next attempt begins": summarize(again),
            "its new child reports work": summarize(at_work),
        },
        {},
    )


async def test_cancelling_a_job(world: World) -> None:
    seconds: dict[str, list[float]] = {"says how far it is": [], "stuck in native code": []}
    for name, series in seconds.items():
        for number in range(SAMPLES):
            mark = world.folder / f"{name} {number}"
            stuck = {"do": "stuck", "began": str(mark), "holds_lock": True}
            running = {"do": "until", "began": str(mark), "file": str(world.folder / "never")}
            # The grace of the default settings.
            async with world.workers(cancel_grace_s=1.5):
                job = await world.submit(script(stuck if name.startswith("stuck") else running))
                await appeared(mark)
                asked_s = time.perf_counter()
                await world.ledger.cancel(job.key)
                await world.audited(job.key, JobState.CANCELLED)
                series.append(time.perf_counter() - asked_s)
    report(
        f"CancelJob to the job's end ({world.place.kind}, grace 1.5 s)",
        {name: summarize(series) for name, series in seconds.items()},
        {},
    )


async def test_watching_again_from_a_sequence(world: World, place: Place) -> None:
    seconds = []
    other = place.backend(LEASE_S)
    await other.open()
    ledger = JobLedger(other, RULES, utc_now)
    async with world.workers():
        job = await world.submit(script(work("first", 600.0)))
        await world.until(job.key, stage="first")
        latest = (await world.ledger.get(job.key)).last_event_sequence
        for number in range(WATCHES):
            after = number % latest
            asked_s = time.perf_counter()
            async with aclosing(ledger.watch(job.key, after)) as events:
                assert (await anext(events)).sequence == after + 1
            seconds.append(time.perf_counter() - asked_s)
        await world.ledger.cancel(job.key)
        await world.audited(job.key, JobState.CANCELLED)
    await other.close()
    report(
        f"WatchJob from a sequence on another replica to its first event ({world.place.kind})",
        {"first event": summarize(seconds)},
        {},
    )
