"""What every job backend promises about records and their events."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from maskwire_server.domain.errors import ErrorCode
from maskwire_server.domain.jobs import machine
from maskwire_server.domain.jobs.job import (
    JobFailure,
    JobFilter,
    JobKey,
    JobState,
    WebhookDelivery,
    WebhookState,
)
from tests.support.job_backends import (
    LONG,
    NOW,
    append,
    create,
    first_events,
    new_job,
    new_result,
    try_append,
    utc_now,
)

WRITERS = 12
NOWHERE = JobKey("alice", "f" * 32)


async def test_a_created_job_is_there_and_queued(backend):
    job = await create(backend)
    assert job.last_event_sequence == 1
    assert await backend.load(job.key) == job
    (event,) = await first_events(backend, job.key, 1)
    assert (event.sequence, event.attempt, event.state) == (1, 0, JobState.QUEUED)
    assert (event.time, event.queue_position) == (job.create_time, 0)
    delivery = await backend.take([job.queue], LONG)
    assert (delivery.queue, delivery.key) == (job.queue, job.key)


async def test_a_created_job_tells_how_many_wait_before_it(backend):
    for position in range(3):
        job = await create(backend)
        (event,) = await first_events(backend, job.key, 1)
        assert event.queue_position == position
        assert await backend.queue_position(job) == position


async def test_a_record_keeps_all_that_it_says(backend):
    job = new_job(
        tenant="Ünïcode/.*> ",
        start_time=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        end_time=datetime(2026, 1, 2, 3, 4, 6, 1, tzinfo=UTC),
        expire_time=datetime(2026, 2, 2, 3, 4, 5, 0, tzinfo=UTC),
        attempt=2,
        stage="sparse structure",
        fraction=0.1,
        failure=JobFailure(ErrorCode.WORKER_LOST, 'its "worker" died\n'),
        is_cancel_requested=True,
        result=new_result(2),
        webhook=WebhookDelivery("https://example.com/?a=b", WebhookState.FAILED, 3, 503, utc_now()),
    )
    first = machine.submitted(job)
    assert await backend.create(first.job, first.event) == first.job
    assert await backend.load(job.key) == first.job
    assert await first_events(backend, job.key, 1) == [first.event]


async def test_creating_again_gives_the_job_that_is_there(backend, other):
    job = await create(backend)
    moved = await append(backend, job)
    again = machine.submitted(new_job(request_id=job.request_id, stage="another"))
    for one in (backend, other):
        assert await one.create(again.job, again.event) == moved
    assert await backend.take([job.queue], LONG) is not None
    assert await backend.take([job.queue], NOW) is None
    assert [event.sequence for event in await first_events(backend, job.key, 2)] == [1, 2]


async def test_of_many_that_create_a_job_at_once_one_does(backend, other):
    request_id = new_job().request_id
    attempts = [
        machine.submitted(new_job(request_id=request_id, stage=str(writer)))
        for writer in range(WRITERS)
    ]
    kept = await asyncio.gather(
        *(
            (backend, other)[index % 2].create(attempt.job, attempt.event)
            for index, attempt in enumerate(attempts)
        )
    )
    assert len(set(kept)) == 1
    assert kept[0] in [attempt.job for attempt in attempts]
    assert (await backend.depths())[kept[0].queue] == 1


async def test_tenants_share_nothing(backend):
    request_id = new_job().request_id
    alice = await create(backend, tenant="alice", request_id=request_id)
    bob = await create(backend, tenant="bob", request_id=request_id)
    assert alice.key.job_id != bob.key.job_id
    assert await backend.load(JobKey("bob", alice.key.job_id)) is None
    page = await backend.list("bob", JobFilter(), page_size=10, page_token="")
    assert page.jobs == (bob,)


async def test_what_is_not_there_is_not_found(backend):
    assert await backend.load(NOWHERE) is None
    assert await backend.list("nobody", JobFilter(), page_size=1, page_token="") == (
        await backend.list("alice", JobFilter(), page_size=1, page_token="")
    )
    async with asyncio.timeout(LONG.total_seconds()):
        assert [event async for event in backend.events(NOWHERE, 0)] == []
        assert [job async for job in backend.expired(utc_now())] == []
    await backend.delete(NOWHERE)
    lost = machine.progressed(new_job(last_event_sequence=1), utc_now(), "stage", 0.5, "")
    assert not await backend.append(lost.job, lost.event)
    assert await backend.load(lost.job.key) is None


async def test_only_the_next_version_is_written(backend):
    job = await create(backend)
    second = await append(backend, job, 0.25)
    assert await try_append(backend, job, 0.75) is None
    ahead = replace(second, last_event_sequence=7)
    assert await try_append(backend, ahead) is None
    assert await backend.load(job.key) == second
    third = await append(backend, second, 0.5)
    assert [event.fraction for event in await first_events(backend, job.key, 3)] == [0, 0.25, 0.5]
    assert await backend.load(job.key) == third


async def test_of_many_that_write_a_version_one_does(backend, other):
    job = await create(backend)
    rounds = 8
    for version in range(1, rounds + 1):
        results = await asyncio.gather(
            *(
                try_append((backend, other)[writer % 2], job, writer / WRITERS)
                for writer in range(WRITERS)
            )
        )
        (won,) = [result for result in results if result is not None]
        assert won.last_event_sequence == version + 1
        assert await other.load(job.key) == won
        job = won
    events = await first_events(other, job.key, rounds + 1)
    assert [event.sequence for event in events] == list(range(1, rounds + 2))
    assert events[-1].fraction == job.fraction


async def test_events_are_read_from_any_sequence(backend):
    job = await create(backend)
    for _ in range(5):
        job = await append(backend, job)
    for after in range(6):
        events = await first_events(backend, job.key, 6 - after, after)
        assert [event.sequence for event in events] == list(range(after + 1, 7))


async def test_more_events_than_a_page_are_read(backend):
    job = await create(backend)
    count = 300
    for number in range(2, count + 1):
        job = await append(backend, job, number / count)
    events = await first_events(backend, job.key, count)
    assert [event.sequence for event in events] == list(range(1, count + 1))
    assert events[-1].fraction == 1


@pytest.mark.parametrize("writes_elsewhere", [False, True])
async def test_events_to_come_are_read_too(backend, other, writes_elsewhere):
    writer = other if writes_elsewhere else backend
    job = await create(backend)
    async with (
        asyncio.timeout(LONG.total_seconds()),
        aclosing(backend.events(job.key, 0)) as events,
    ):
        assert (await anext(events)).sequence == 1
        for sequence in range(2, 12):
            coming = asyncio.ensure_future(anext(events))
            job = await append(writer, job, sequence / 20)
            event = await coming
            assert (event.sequence, event.fraction) == (sequence, sequence / 20)


async def test_many_watch_one_job(backend, other):
    job = await create(backend)
    watchers = [
        asyncio.ensure_future(first_events((backend, other)[number % 2], job.key, 20))
        for number in range(20)
    ]
    for _ in range(19):
        job = await append(backend, job)
    read = await asyncio.gather(*watchers)
    assert all(events == read[0] for events in read)
    assert [event.sequence for event in read[0]] == list(range(1, 21))


async def test_a_watcher_that_is_cancelled_leaves_the_others(backend):
    job = await create(backend)
    leaving, staying = (
        asyncio.ensure_future(first_events(backend, job.key, count)) for count in (99, 3)
    )
    job = await append(backend, job)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await append(backend, job)
    assert len(await staying) == 3


async def test_events_end_when_the_backend_closes(store):
    async with asyncio.timeout(LONG.total_seconds()):
        async with store.opened() as backend:
            job = await create(backend)
            events = backend.events(job.key, 0)
            assert (await anext(events)).sequence == 1
            coming = asyncio.ensure_future(anext(events))
        with pytest.raises(StopAsyncIteration):
            await coming


async def test_all_is_there_after_a_restart(store):
    async with store.opened() as backend:
        job = await create(backend)
        job = await append(backend, job)
    async with store.opened() as backend:
        assert await backend.load(job.key) == job
        assert len(await first_events(backend, job.key, 2)) == 2
        assert (await backend.take([job.queue], LONG)).key == job.key


async def test_jobs_are_listed_newest_first_in_pages(backend):
    began = utc_now()
    jobs = [
        await create(backend, create_time=began + timedelta(microseconds=number // 2))
        for number in range(7)
    ]
    await create(backend, tenant="bob")
    expected = sorted(jobs, key=lambda job: (job.create_time, job.key.job_id), reverse=True)
    for page_size in (1, 2, 3, 6, 7, 100):
        listed, token = [], ""
        for _ in range(-(-len(jobs) // page_size)):
            page = await backend.list("alice", JobFilter(), page_size=page_size, page_token=token)
            assert len(page.jobs) <= page_size
            listed += page.jobs
            token = page.next_page_token
        assert token == ""
        assert listed == expected


async def test_pages_stay_where_they_are_when_jobs_come(backend):
    jobs = [await create(backend) for _ in range(4)]
    first = await backend.list("alice", JobFilter(), page_size=2, page_token="")
    await create(backend)
    second = await backend.list("alice", JobFilter(), page_size=2, page_token=first.next_page_token)
    assert [*first.jobs, *second.jobs] == jobs[::-1]


async def test_jobs_are_listed_by_state_and_method(backend):
    waiting = await create(backend, method="a")
    running = await append(backend, await create(backend, method="b"))
    claimed = machine.claimed(running, utc_now())
    assert await backend.append(claimed.job, claimed.event)
    running = claimed.job
    done = await create(backend, method="b")
    change = machine.cancelled(done, utc_now(), timedelta(hours=1))
    assert await backend.append(change.job, change.event)
    done = change.job

    async def listed(**wanted):
        page = await backend.list("alice", JobFilter(**wanted), page_size=10, page_token="")
        assert page.next_page_token == ""
        return page.jobs

    assert await listed() == (done, running, waiting)
    assert await listed(states=frozenset({JobState.QUEUED})) == (waiting,)
    assert await listed(states=frozenset({JobState.QUEUED, JobState.CANCELLED})) == (done, waiting)
    assert await listed(method="b") == (done, running)
    assert await listed(method="b", states=frozenset({JobState.RUNNING})) == (running,)
    assert await listed(method="c") == ()


async def test_a_filter_holds_over_pages(backend):
    jobs = [await create(backend, method="ab"[number % 2]) for number in range(8)]
    wanted = JobFilter(method="a")
    listed, token = [], ""
    while True:
        page = await backend.list("alice", wanted, page_size=1, page_token=token)
        listed += page.jobs
        token = page.next_page_token
        if not token:
            break
    assert listed == jobs[-2::-2]


@pytest.mark.parametrize("token", ["x", "1", "-", "12-zz", "../..", "9" * 40 + "-" + "0" * 32])
async def test_a_token_that_no_page_gave_is_refused(backend, token, refused):
    await create(backend)
    error = await refused(backend.list("alice", JobFilter(), page_size=1, page_token=token))
    assert error.code is ErrorCode.INVALID_ARGUMENT
    assert error.violations[0].field == "page_token"


async def test_expired_jobs_are_found_and_removed(backend):
    now = utc_now()
    ages = [timedelta(seconds=seconds) for seconds in (-3600, -1, 0, 3600)]
    jobs = []
    for tenant, age in zip(["alice", "bob", "carol", "dave"], ages, strict=True):
        job = await create(backend, tenant=tenant)
        change = machine.cancelled(job, now, age)
        assert await backend.append(change.job, change.event)
        jobs.append(change.job)
    await create(backend)
    found = [job async for job in backend.expired(now)]
    assert sorted(found, key=lambda job: job.expire_time) == jobs[:3]
    for job in found:
        await backend.delete(job.key)
    assert [job async for job in backend.expired(now)] == []
    assert await backend.load(jobs[3].key) == jobs[3]


async def test_jobs_may_be_removed_while_expired_ones_are_read(backend):
    now, count = utc_now(), 120
    for _ in range(count):
        job = await create(backend)
        change = machine.cancelled(job, now, timedelta(0))
        assert await backend.append(change.job, change.event)
    removed = 0
    async for job in backend.expired(now):
        await backend.delete(job.key)
        removed += 1
    assert removed == count
    assert await backend.depths() == {}


async def test_nothing_is_left_of_a_removed_job(backend, other):
    job = await create(backend)
    kept = await create(backend)
    await backend.enqueue("webhooks", job.key)
    job = await append(backend, job)
    await backend.delete(job.key)
    assert await other.load(job.key) is None
    assert await try_append(backend, job) is None
    assert [event async for event in other.events(job.key, 0)] == []
    assert (await backend.list("alice", JobFilter(), page_size=9, page_token="")).jobs == (kept,)
    assert (await backend.take([job.queue, "webhooks"], LONG)).key == kept.key
    assert await backend.take([job.queue, "webhooks"], NOW) is None


async def test_a_removed_job_can_be_made_again(backend):
    job = await append(backend, await create(backend))
    await backend.delete(job.key)
    made = await create(backend, request_id=job.request_id)
    assert made.key == job.key
    assert made.last_event_sequence == 1
    assert await backend.load(job.key) == made
    events = await first_events(backend, job.key, 1)
    assert [event.sequence for event in events] == [1]
    assert (await backend.take([job.queue], LONG)).key == job.key
