"""What every job backend promises about queues."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest

from maskwire_server.domain.errors import MaskwireError
from tests.support.job_backends import (
    LEASE,
    LONG,
    NOW,
    STEADY_LEASE,
    create,
    leases_pass,
    steady_leases_pass,
)

QUEUE = "inflate"
NONE_YET = LEASE / 5
"""A wait for what must not come, much shorter than a lease."""


async def test_jobs_come_in_the_order_of_their_coming(backend, other):
    jobs = [await create(backend, queue=QUEUE) for _ in range(5)]
    taken = [await (backend, other)[number % 2].take([QUEUE], LONG) for number in range(5)]
    assert [delivery.key for delivery in taken] == [job.key for job in jobs]
    assert len({delivery.token for delivery in taken}) == 5
    assert await backend.take([QUEUE], NOW) is None


async def test_only_the_queues_that_are_asked_for_are_served(backend):
    job = await create(backend, queue=QUEUE)
    assert await backend.take(["segmentation", "sam3d-objects"], NONE_YET) is None
    assert await backend.take([], NOW) is None
    delivery = await backend.take(["segmentation", QUEUE], LONG)
    assert (delivery.queue, delivery.key) == (QUEUE, job.key)


@pytest.mark.parametrize("comes_elsewhere", [False, True])
async def test_a_taker_waits_for_a_job(backend, other, comes_elsewhere):
    await backend.settle(await backend.take([(await create(backend)).queue], LONG))
    for _ in range(5):
        taking = asyncio.ensure_future(backend.take([QUEUE], LONG))
        job = await create(other if comes_elsewhere else backend, queue=QUEUE)
        assert (await taking).key == job.key


async def test_the_first_job_of_all_wakes_a_taker(backend, other):
    taking = asyncio.ensure_future(other.take([QUEUE], LONG))
    job = await create(backend, queue=QUEUE)
    assert (await taking).key == job.key


async def test_no_two_takers_get_one_job(backend, other):
    jobs = [await create(backend, queue=QUEUE) for _ in range(20)]
    takers = [(backend, other)[number % 2].take([QUEUE], LONG) for number in range(20)]
    taken = await asyncio.gather(*takers)
    assert sorted(delivery.key.job_id for delivery in taken) == sorted(
        job.key.job_id for job in jobs
    )


@leases_pass
async def test_a_job_comes_again_once_its_lease_has_passed(backend, other):
    job = await create(backend, queue=QUEUE)
    began = asyncio.get_running_loop().time()
    first = await backend.take([QUEUE], LONG)
    second = await other.take([QUEUE], LONG)
    waited = asyncio.get_running_loop().time() - began
    assert second.key == job.key
    assert waited >= LEASE.total_seconds() * 0.9
    assert second.token != first.token
    assert not await backend.extend(first)


@leases_pass
async def test_an_expired_job_does_not_wait_behind_a_backlog(backend):
    job = await create(backend, queue=QUEUE)
    await backend.take([QUEUE], LONG)
    # A backlog that never ends: whoever settles a job adds another.
    for _ in range(10):
        await create(backend, queue=QUEUE)
    async with asyncio.timeout(LONG.total_seconds()):
        while (delivery := await backend.take([QUEUE], LONG)).key != job.key:
            await create(backend, queue=QUEUE)
            await backend.settle(delivery)


@steady_leases_pass
async def test_an_extended_lease_lasts(backend, other):
    await create(backend, queue=QUEUE)
    delivery = await backend.take([QUEUE], LONG)
    waiting = asyncio.ensure_future(other.take([QUEUE], 1.5 * STEADY_LEASE))
    while not waiting.done():
        assert await backend.extend(delivery)
        await asyncio.wait([waiting], timeout=STEADY_LEASE.total_seconds() / 8)
    assert await waiting is None
    await backend.settle(delivery)


@leases_pass
async def test_a_settled_job_never_comes_again(backend):
    await create(backend, queue=QUEUE)
    delivery = await backend.take([QUEUE], LONG)
    await backend.settle(delivery)
    assert await backend.take([QUEUE], 3 * LEASE) is None
    assert not await backend.extend(delivery)
    assert await backend.depths() == {}


async def test_a_released_job_comes_again_after_the_pause(backend, other):
    job = await create(backend, queue=QUEUE)
    await backend.release(await backend.take([QUEUE], LONG), timedelta(0))
    delivery = await other.take([QUEUE], LONG)
    assert delivery.key == job.key
    began = asyncio.get_running_loop().time()
    await other.release(delivery, 2 * LEASE)
    again = await backend.take([QUEUE], LONG)
    waited = asyncio.get_running_loop().time() - began
    assert again.key == job.key
    assert waited >= 2 * LEASE.total_seconds() * 0.9


@steady_leases_pass
async def test_a_lost_delivery_can_neither_settle_nor_release_the_next(backend, other):
    job = await create(backend, queue=QUEUE)
    lost = await backend.take([QUEUE], LONG)
    held = await other.take([QUEUE], LONG)
    # Some time after: processes tell the end of a lease by clocks of their own.
    assert await backend.take([QUEUE], NONE_YET) is None
    assert await other.extend(held)
    await backend.settle(lost)
    await backend.release(lost, timedelta(0))
    assert await other.extend(held)
    assert await backend.take([QUEUE], NONE_YET) is None
    again = await backend.take([QUEUE], LONG)
    assert again.key == job.key


async def test_a_job_is_in_a_queue_once(backend, other):
    job = await create(backend)
    await asyncio.gather(*((backend, other)[one % 2].enqueue(QUEUE, job.key) for one in range(8)))
    delivery = await backend.take([QUEUE], LONG)
    await other.enqueue(QUEUE, job.key)
    assert await other.take([QUEUE], NONE_YET) is None
    await backend.settle(delivery)
    assert await other.take([QUEUE], NOW) is None
    # The queue that it was created in is another one.
    assert (await backend.take([job.queue], LONG)).key == job.key


async def test_a_settled_job_can_be_queued_again(backend):
    job = await create(backend)
    for _ in range(3):
        await backend.enqueue(QUEUE, job.key)
        delivery = await backend.take([QUEUE], LONG)
        assert delivery.key == job.key
        await backend.settle(delivery)


async def test_jobs_that_are_worked_on_do_not_wait(backend):
    jobs = [await create(backend, queue=QUEUE) for _ in range(3)]
    other_queue = await create(backend, queue="segmentation")
    assert await backend.depths() == {QUEUE: 3, "segmentation": 1}
    assert [await backend.queue_position(job) for job in jobs] == [0, 1, 2]
    first = await backend.take([QUEUE], LONG)
    assert await backend.depths() == {QUEUE: 2, "segmentation": 1}
    assert await backend.queue_position(jobs[2]) == 1
    await backend.settle(first)
    assert await backend.depths() == {QUEUE: 2, "segmentation": 1}
    for _ in range(2):
        await backend.settle(await backend.take([QUEUE], LONG))
    assert await backend.depths() == {"segmentation": 1}
    assert await backend.queue_position(other_queue) == 0


@leases_pass
async def test_a_taker_that_is_cancelled_keeps_no_job(backend, other):
    takers = [asyncio.ensure_future(backend.take([QUEUE], LONG)) for _ in range(4)]
    job = await create(backend, queue=QUEUE)
    for taker in takers:
        taker.cancel()
    results = await asyncio.gather(*takers, return_exceptions=True)
    if all(isinstance(result, asyncio.CancelledError) for result in results):
        assert (await other.take([QUEUE], LONG)).key == job.key
    else:
        assert [one.key for one in results if not isinstance(one, BaseException)] == [job.key]


async def test_a_taker_ends_when_the_backend_closes(store):
    async with asyncio.timeout(LONG.total_seconds()):
        async with store.opened() as backend:
            await create(backend)
            taking = asyncio.ensure_future(backend.take([QUEUE], 2 * LONG))
            await backend.depths()
        with suppress(MaskwireError):
            assert await taking is None


@leases_pass
async def test_deliveries_outlive_the_backend_until_their_leases_end(store):
    async with store.opened() as backend:
        job = await create(backend, queue=QUEUE)
        await backend.take([QUEUE], LONG)
    async with store.opened() as backend:
        assert (await backend.take([QUEUE], LONG)).key == job.key
