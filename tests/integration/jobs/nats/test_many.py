"""Many jobs, takers and writers at a time."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

from maskwire_server.domain.jobs import machine
from maskwire_server.domain.jobs.job import JobFilter
from tests.support.job_backends import LONG, NOW, create, first_events, try_append, utc_now

QUEUES = ["inflate", "segmentation"]
LEASE = timedelta(seconds=30)
"""Longer than the test: whatever is taken twice was handed out twice."""


async def test_two_backends_compete_for_200_jobs(store):
    async with store.opened(lease=LEASE) as backend, store.opened(lease=LEASE) as other:
        jobs = [await create(backend, queue=QUEUES[number % 2]) for number in range(200)]
        taken: list = []

        async def work(taker, queues) -> None:
            while (delivery := await taker.take(queues, timedelta(seconds=1))) is not None:
                taken.append(delivery)
                assert await taker.extend(delivery)
                await taker.settle(delivery)

        # Some serve one queue and some both, and some are cancelled while they wait.
        workers = [
            work((backend, other)[number % 2], QUEUES[: 1 + number % 3]) for number in range(9)
        ]
        await asyncio.gather(*workers, _cancel_again_and_again(other))
        assert Counter(delivery.key for delivery in taken) == Counter(job.key for job in jobs)
        assert await backend.depths() == {}
        assert await backend.take(QUEUES, NOW) is None


async def _cancel_again_and_again(backend) -> None:
    for _ in range(30):
        taking = asyncio.ensure_future(backend.take(["idle", *QUEUES], LONG))
        await backend.depths()
        if not taking.cancel():
            await backend.release(taking.result(), timedelta(0))
        else:
            await asyncio.gather(taking, return_exceptions=True)


async def test_20_writers_at_once_leave_no_gap(backend, other):
    job = await create(backend)
    watching = asyncio.ensure_future(first_events(other, job.key, 101))

    async def write(writer, count: int) -> None:
        while count:
            current = await writer.load(job.key)
            count -= await try_append(writer, current) is not None

    await asyncio.gather(*(write((backend, other)[one % 2], 5) for one in range(20)))
    assert (await backend.load(job.key)).last_event_sequence == 101
    assert [event.sequence for event in await watching] == list(range(1, 102))


async def test_1000_jobs_are_listed_and_300_removed(backend, other):
    jobs = []
    for _ in range(10):
        jobs += await asyncio.gather(*(create(backend) for _ in range(100)))
    now = utc_now()
    done = [machine.cancelled(job, now, timedelta(0)) for job in jobs[::3][:300]]
    assert all(await asyncio.gather(*(other.append(one.job, one.event) for one in done)))
    latest = {job.key: job for job in jobs} | {one.job.key: one.job for one in done}

    listed, token = [], ""
    while True:
        page = await other.list("alice", JobFilter(), page_size=300, page_token=token)
        listed += page.jobs
        token = page.next_page_token
        if not token:
            break
    expected = sorted(latest.values(), key=lambda job: (job.create_time, job.key.job_id))
    assert listed == expected[::-1]

    removed = set()
    async for job in backend.expired(now):
        await backend.delete(job.key)
        removed.add(job.key)
    assert removed == {one.job.key for one in done}
    page = await other.list("alice", JobFilter(), page_size=1000, page_token="")
    assert {job.key for job in page.jobs} == latest.keys() - removed
