"""The backend when its broker is killed, frozen, stopped and started again."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import timedelta
from functools import partial

import pytest

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.jobs import machine
from maskwire_server.domain.jobs.job import JobFilter, JobState
from maskwire_server.domain.jobs.ledger import LeaseLost
from tests.support.job_backends import (
    LEASE,
    LONG,
    append,
    create,
    first_events,
    leases_pass,
    new_job,
    new_result,
    utc_now,
)

QUEUE = "inflate"
EVENTS = 100


async def restart(server) -> None:
    """Kill the broker as `kill -9` does, and start it again on its port and folder."""
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)


async def insist(call):
    """Return what a call returns, made again while the backend says that it is unavailable."""
    while True:
        try:
            return await call()
        except MaskwireError as error:
            if error.code is not ErrorCode.JOBS_UNAVAILABLE:
                raise


async def run_job(backend, tenant: str):
    """Create a job and append events to it until it has enough; return it as acknowledged."""
    first = machine.submitted(new_job(tenant=tenant, queue=QUEUE))
    job = await insist(partial(backend.create, first.job, first.event))
    assert job == first.job
    while job.last_event_sequence < EVENTS:
        change = machine.progressed(job, utc_now(), "stage", job.last_event_sequence / EVENTS, "")
        is_written = await insist(partial(backend.append, change.job, change.event))
        # Refused only after an error, which says that it may have been written or not.
        job = change.job if is_written else await insist(partial(backend.load, job.key))
        await asyncio.sleep(0)
    return job


@pytest.mark.parametrize("kills", [1, 3])
async def test_what_was_acknowledged_outlives_kills_of_the_broker(server, backend, other, kills):
    watched = await create(backend, queue=QUEUE)
    watching = asyncio.ensure_future(first_events(other, watched.key, 2 * kills + 1))
    writing = [
        asyncio.ensure_future(run_job((backend, other)[one % 2], f"tenant {one}"))
        for one in range(6)
    ]
    for _ in range(kills):
        for _ in range(2):
            watched = await append(backend, watched)
        await restart(server)
    for job in await asyncio.gather(*writing):
        assert await backend.load(job.key) == job
        events = await first_events(other, job.key, EVENTS)
        assert [event.sequence for event in events] == list(range(1, EVENTS + 1))
    assert [event.sequence for event in await watching] == list(range(1, 2 * kills + 2))
    # Every job is in the queue, each once.
    taken = [await backend.take([QUEUE], LONG) for _ in range(7)]
    assert len({delivery.key for delivery in taken}) == 7


async def test_an_append_whose_answer_was_late_is_told_to_be_written(server, backend):
    job = await create(backend)
    server.freeze()
    appending = asyncio.ensure_future(append(backend, job))
    # Longer than one try: it is sent twice, and the server refuses the second.
    done, _ = await asyncio.wait([appending], timeout=1.5)
    server.thaw()
    assert not done
    assert (await appending) is not None
    assert (await backend.load(job.key)).last_event_sequence == 2
    assert len(await first_events(backend, job.key, 2)) == 2


async def test_a_create_whose_answer_was_late_makes_one_job(server, backend):
    await create(backend, queue=QUEUE)
    server.freeze()
    creating = asyncio.ensure_future(create(backend, queue=QUEUE))
    done, _ = await asyncio.wait([creating], timeout=1.5)
    server.thaw()
    assert not done
    job = await creating
    assert await backend.load(job.key) == job
    assert await backend.depths() == {QUEUE: 2}


@leases_pass
async def test_a_taken_job_comes_again_after_its_lease_over_a_restart(server, backend, other):
    job = await create(backend, queue=QUEUE)
    first = await backend.take([QUEUE], LONG)
    await restart(server)
    second = await other.take([QUEUE], LONG)
    assert second.key == job.key
    assert not await backend.extend(first)
    assert await other.extend(second)
    await backend.settle(first)
    assert (await other.take([QUEUE], LONG)).key == job.key


async def test_a_lease_can_be_extended_over_a_restart(server, store):
    lease = timedelta(seconds=10)
    async with store.opened(lease=lease) as backend, store.opened(lease=lease) as other:
        await create(backend, queue=QUEUE)
        delivery = await backend.take([QUEUE], LONG)
        await asyncio.to_thread(server.kill)
        extending = asyncio.ensure_future(backend.extend(delivery))
        await asyncio.to_thread(server.start)
        assert await extending
        assert await other.take([QUEUE], LEASE) is None


@leases_pass
async def test_a_settled_job_stays_settled_over_a_restart(server, backend, other):
    waiting, settled = [await create(backend, queue=QUEUE) for _ in range(2)]
    while (delivery := await backend.take([QUEUE], LONG)).key != settled.key:
        pass
    await backend.settle(delivery)
    await restart(server)
    for _ in range(2):
        assert (await other.take([QUEUE], LONG)).key == waiting.key


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_a_taker_waits_over_a_restart(server, backend, other, how):
    await backend.take([QUEUE, "segmentation"], timedelta(0))
    taking = asyncio.ensure_future(backend.take([QUEUE, "segmentation"], LONG))
    await asyncio.to_thread(getattr(server, how))
    await asyncio.to_thread(server.start)
    job = await create(other, queue=QUEUE)
    assert (await taking).key == job.key


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_events_go_on_after_a_restart(server, backend, other, how):
    job = await create(backend)
    async with asyncio.timeout(LONG.total_seconds()):
        async with aclosing(other.events(job.key, 0)) as events:
            assert (await anext(events)).sequence == 1
            for sequence in range(2, 6):
                coming = asyncio.ensure_future(anext(events))
                await asyncio.to_thread(getattr(server, how))
                await asyncio.to_thread(server.start)
                job = await append(backend, job)
                assert (await coming).sequence == sequence


@leases_pass
async def test_calls_end_when_the_broker_stays_away(server, backend):
    job = await create(backend, queue=QUEUE)
    delivery = await backend.take([QUEUE], LONG)
    page = {"page_size": 10, "page_token": ""}
    await asyncio.to_thread(server.kill)
    calls = [
        backend.load(job.key),
        append(backend, job),
        create(backend),
        backend.list("alice", JobFilter(), **page),
        backend.depths(),
        backend.enqueue(QUEUE, job.key),
        backend.delete(job.key),
    ]
    async with asyncio.timeout(LONG.total_seconds()):
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert await backend.take([QUEUE], LEASE) is None
    assert [getattr(result, "code", result) for result in results] == (
        [ErrorCode.JOBS_UNAVAILABLE] * len(calls)
    )
    assert not await backend.extend(delivery)
    await asyncio.to_thread(server.start)
    assert await backend.load(job.key) == job
    assert (await backend.take([QUEUE], LONG)).key == job.key


async def test_no_server_to_open_is_told(server, store):
    await asyncio.to_thread(server.kill)
    backend = store.make()
    with pytest.raises(MaskwireError) as raised:
        await backend.open()
    await backend.close()
    assert raised.value.code is ErrorCode.JOBS_UNAVAILABLE


@leases_pass
async def test_a_result_is_committed_once_though_a_frozen_worker_wakes(server, store):
    async with store.ledger() as frozen, store.ledger() as awake:
        await frozen.submit(new_job(queue=QUEUE))
        late = await frozen.claim([QUEUE], LONG)
        await restart(server)
        claim = await awake.claim([QUEUE], LONG)
        assert (late.job.attempt, claim.job.attempt) == (1, 2)
        done = await awake.commit(claim, new_result(2))
        assert done.state is JobState.SUCCEEDED
        with pytest.raises(LeaseLost):
            await frozen.commit(late, new_result(1))
        assert (await awake.get(done.key)).result == new_result(2)
