"""What the ledger promises about jobs, on every backend."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.jobs import machine
from maskwire_server.domain.jobs.calls import AttemptCancelled, AttemptFailed
from maskwire_server.domain.jobs.job import JobFailure, JobKey, JobState, WebhookDelivery
from maskwire_server.domain.jobs.ledger import WEBHOOK_QUEUE, LeaseLost, Standing
from tests.support.job_backends import (
    LEASE,
    LONG,
    NOW,
    RULES,
    leases_pass,
    new_job,
    new_ledger,
    new_result,
    steady_leases_pass,
    utc_now,
)

QUEUE = "segmentation"
DIED = AttemptFailed(JobFailure(ErrorCode.WORKER_LOST, "it fell over"), is_retryable=True)
BAD = AttemptFailed(JobFailure(ErrorCode.INVALID_ARGUMENT, "mask: is empty"), is_retryable=False)


async def claimed(ledger):
    """Return an attempt at the next job; there must be one."""
    claim = await ledger.claim([QUEUE], LONG)
    assert claim is not None
    return claim


async def watched(ledger, key, after=0):
    """Return the events of a job until its end."""
    async with asyncio.timeout(LONG.total_seconds()):
        return [event async for event in ledger.watch(key, after)]


@leases_pass
async def test_a_job_runs_from_its_submission_to_its_result(ledger, other_ledger):
    job = await ledger.submit(new_job())
    watching = asyncio.ensure_future(watched(other_ledger, job.key))
    claim = await claimed(other_ledger)
    assert (claim.job.state, claim.job.attempt) == (JobState.RUNNING, 1)
    assert await other_ledger.extend(claim) is Standing.HELD
    await other_ledger.report(claim, "decode", 0.5, "half of it")
    done = await other_ledger.commit(claim, new_result())
    assert (done.state, done.result, done.fraction) == (JobState.SUCCEEDED, new_result(), 1)
    assert done.expire_time - done.end_time == RULES.retention
    assert await ledger.get(job.key) == done
    events = await watching
    assert [event.sequence for event in events] == [1, 2, 3, 4]
    assert [event.attempt for event in events] == [0, 1, 1, 1]
    assert [event.state for event in events] == [
        JobState.QUEUED,
        JobState.RUNNING,
        JobState.RUNNING,
        JobState.SUCCEEDED,
    ]
    assert (events[2].stage, events[2].fraction, events[2].log_line) == (
        *("decode", 0.5, "half of it"),
    )
    assert await ledger.claim([QUEUE], 2 * LEASE) is None


async def test_a_finished_job_is_watched_from_any_sequence(ledger):
    job = await ledger.submit(new_job())
    await ledger.commit(await claimed(ledger), new_result())
    for after in range(5):
        events = await watched(ledger, job.key, after)
        assert [event.sequence for event in events] == list(range(after + 1, 4))


async def test_a_job_that_does_not_exist_is_not_found(ledger):
    for call in (ledger.get, ledger.cancel, lambda key: watched(ledger, key)):
        with pytest.raises(MaskwireError) as raised:
            await call(JobKey("alice", "0" * 32))
        assert raised.value.code is ErrorCode.JOB_NOT_FOUND


async def test_the_same_request_is_the_same_job(ledger, other_ledger):
    job = new_job()
    submitted = await asyncio.gather(
        *((ledger, other_ledger)[number % 2].submit(job) for number in range(8))
    )
    assert {one.key for one in submitted} == {job.key}
    claim = await claimed(ledger)
    assert await other_ledger.submit(job) == claim.job
    assert await other_ledger.find(job.key, job.request_digest) == claim.job
    assert await ledger.claim([QUEUE], NOW) is None
    done = await ledger.commit(claim, new_result())
    assert await other_ledger.submit(job) == done


async def test_another_request_under_the_same_identifier_is_refused(ledger, other_ledger):
    job = await ledger.submit(new_job())
    another = f"sha256:{'9' * 64}"
    for attempt in (
        other_ledger.submit(new_job(request_id=job.request_id, request_digest=another)),
        other_ledger.find(job.key, another),
    ):
        with pytest.raises(MaskwireError) as raised:
            await attempt
        assert raised.value.code is ErrorCode.REQUEST_ID_REUSED
    assert await ledger.find(new_job().key, another) is None
    # What another tenant calls its request is its own affair.
    bob = new_job(tenant="bob", request_id=job.request_id, request_digest=another)
    assert (await ledger.submit(bob)).key == bob.key


async def test_a_full_queue_takes_no_more(backend):
    ledger = new_ledger(backend, max_queued=2)
    for _ in range(2):
        await ledger.check_room(QUEUE)
        await ledger.submit(new_job())
    with pytest.raises(MaskwireError) as raised:
        await ledger.check_room(QUEUE)
    assert raised.value.code is ErrorCode.OVERLOADED
    assert raised.value.retry_after is not None
    await ledger.check_room("inflate")
    await claimed(ledger)
    await ledger.check_room(QUEUE)


@leases_pass
async def test_a_job_of_a_worker_that_died_runs_again(ledger, other_ledger):
    job = await ledger.submit(new_job())
    began = asyncio.get_running_loop().time()
    await claimed(ledger)
    claim = await claimed(other_ledger)
    waited = asyncio.get_running_loop().time() - began
    assert (claim.job.key, claim.job.attempt) == (job.key, 2)
    # Redelivered when its lease had passed, and not before.
    assert waited >= LEASE.total_seconds() * 0.9
    assert (await other_ledger.commit(claim, new_result(2))).result == new_result(2)


@leases_pass
async def test_a_poison_job_fails_after_three_attempts_with_the_reason(ledger):
    job = await ledger.submit(new_job())
    for attempt in (1, 2, 3):
        claim = await claimed(ledger)
        assert claim.job.attempt == attempt
    assert await ledger.claim([QUEUE], LONG) is None
    failed = await ledger.get(job.key)
    assert (failed.state, failed.attempt) == (JobState.FAILED, 3)
    assert failed.failure.code is ErrorCode.WORKER_LOST
    assert "3 attempts" in failed.failure.message
    assert await ledger.claim([QUEUE], 2 * LEASE) is None
    states = [event.state for event in await watched(ledger, job.key)]
    assert states == [JobState.QUEUED, *[JobState.RUNNING] * 3, JobState.FAILED]


async def test_a_failure_that_may_pass_is_tried_again_after_a_pause(ledger):
    job = await ledger.submit(new_job())
    for attempt in (1, 2):
        claim = await claimed(ledger)
        waiting = await ledger.commit(claim, DIED)
        assert (waiting.state, waiting.attempt) == (JobState.QUEUED, attempt)
        assert waiting.failure == DIED.failure
    last = await claimed(ledger)
    assert last.job.attempt == 3
    failed = await ledger.commit(last, DIED)
    assert (failed.state, failed.failure) == (JobState.FAILED, DIED.failure)
    lines = [event.log_line for event in await watched(ledger, job.key)]
    assert lines == [
        *("", "", "attempt 1 failed: it fell over", ""),
        *("attempt 2 failed: it fell over", "", "it fell over"),
    ]


async def test_a_success_after_a_failure_forgets_the_failure(ledger):
    await ledger.submit(new_job())
    await ledger.commit(await claimed(ledger), DIED)
    done = await ledger.commit(await claimed(ledger), new_result(2))
    assert (done.state, done.failure, done.attempt) == (JobState.SUCCEEDED, None, 2)


@leases_pass
async def test_a_failure_that_will_not_pass_ends_the_job(ledger):
    await ledger.submit(new_job())
    failed = await ledger.commit(await claimed(ledger), BAD)
    assert (failed.state, failed.attempt, failed.failure) == (JobState.FAILED, 1, BAD.failure)
    assert await ledger.claim([QUEUE], 2 * LEASE) is None


@steady_leases_pass
async def test_a_stale_worker_can_write_nothing(ledger, other_ledger):
    job = await ledger.submit(new_job())
    stale = await claimed(ledger)
    current = await claimed(other_ledger)
    before = await ledger.get(job.key)
    assert await ledger.extend(stale) is Standing.LOST
    with pytest.raises(LeaseLost):
        await ledger.report(stale, "decode", 0.9)
    for outcome in (new_result(), DIED, BAD, AttemptCancelled()):
        with pytest.raises(LeaseLost):
            await ledger.commit(stale, outcome)
    assert await ledger.get(job.key) == before
    assert await other_ledger.extend(current) is Standing.HELD
    done = await other_ledger.commit(current, new_result(2))
    with pytest.raises(LeaseLost):
        await ledger.commit(stale, new_result())
    assert await ledger.get(job.key) == done


@leases_pass
async def test_a_worker_whose_lease_passed_may_finish_if_nobody_else_began(ledger, backend):
    await ledger.submit(new_job())
    claim = await claimed(ledger)
    assert await backend.take(["inflate"], 2 * LEASE) is None  # its lease passes meanwhile
    done = await ledger.commit(claim, new_result())
    assert done.result == new_result()
    # The queue may hand it out once more, but there is nothing left to do.
    assert await ledger.claim([QUEUE], 2 * LEASE) is None
    assert await ledger.get(done.key) == done


async def test_a_result_is_committed_once(ledger, other_ledger):
    for _ in range(5):
        job = await ledger.submit(new_job())
        claim = await claimed(ledger)
        outcomes = await asyncio.gather(
            *(
                (ledger, other_ledger)[number % 2].commit(claim, new_result(number))
                for number in range(8)
            ),
            return_exceptions=True,
        )
        won = [outcome for outcome in outcomes if not isinstance(outcome, LeaseLost)]
        assert len(won) == 1
        assert await ledger.get(job.key) == won[0]
        events = await watched(ledger, job.key)
        assert [event.state for event in events].count(JobState.SUCCEEDED) == 1


async def test_reports_and_commit_at_once_leave_no_gap(ledger, other_ledger):
    job = await ledger.submit(new_job())
    claim = await claimed(ledger)
    reports = [
        (ledger, other_ledger)[number % 2].report(claim, "stage", number / 20)
        for number in range(20)
    ]
    await asyncio.gather(*reports, ledger.commit(claim, new_result()), return_exceptions=True)
    events = await watched(ledger, job.key)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert events[-1].state is JobState.SUCCEEDED


async def test_a_waiting_job_is_cancelled_at_once(ledger):
    job = await ledger.submit(new_job())
    cancelled = await ledger.cancel(job.key)
    assert cancelled.state is JobState.CANCELLED
    assert cancelled.end_time is not None
    assert await ledger.claim([QUEUE], 2 * LEASE) is None
    assert await ledger.get(job.key) == cancelled == await ledger.cancel(job.key)
    assert [event.state for event in await watched(ledger, job.key)][-1] is JobState.CANCELLED


@leases_pass
async def test_the_worker_of_a_running_job_is_told_to_stop(ledger, other_ledger):
    job = await ledger.submit(new_job())
    claim = await claimed(ledger)
    asked = await other_ledger.cancel(job.key)
    assert (asked.state, asked.is_cancel_requested) == (JobState.RUNNING, True)
    assert await ledger.extend(claim) is Standing.CANCEL_REQUESTED
    assert (await ledger.commit(claim, AttemptCancelled())).state is JobState.CANCELLED
    assert await ledger.claim([QUEUE], 2 * LEASE) is None


@pytest.mark.parametrize("outcome", [new_result(), DIED, BAD], ids=["result", "died", "bad"])
async def test_a_cancelled_job_is_cancelled_whatever_its_attempt_brings(ledger, outcome):
    job = await ledger.submit(new_job())
    claim = await claimed(ledger)
    await ledger.cancel(job.key)
    cancelled = await ledger.commit(claim, outcome)
    assert (cancelled.state, cancelled.result) == (JobState.CANCELLED, None)


@leases_pass
async def test_a_cancelled_job_whose_worker_died_ends_with_the_next(ledger):
    job = await ledger.submit(new_job())
    await claimed(ledger)
    await ledger.cancel(job.key)
    assert await ledger.claim([QUEUE], LONG) is None
    assert (await ledger.get(job.key)).state is JobState.CANCELLED
    assert await ledger.claim([QUEUE], 2 * LEASE) is None


async def test_cancelling_at_commit_is_either_one_or_the_other(ledger, other_ledger):
    seen = set()
    for turn in range(12):
        job = await ledger.submit(new_job())
        claim = await claimed(ledger)
        calls = [ledger.commit(claim, new_result()), other_ledger.cancel(job.key)]
        await asyncio.gather(*(calls if turn % 2 else reversed(calls)))
        done = await ledger.get(job.key)
        assert done.state in (JobState.SUCCEEDED, JobState.CANCELLED)
        assert (done.result is not None) == (done.state is JobState.SUCCEEDED)
        events = await watched(other_ledger, job.key)
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert events[-1].state is done.state
        seen.add(done.state)
    assert seen


async def test_a_job_that_waits_for_its_next_attempt_can_be_cancelled(ledger):
    job = await ledger.submit(new_job())
    await ledger.commit(await claimed(ledger), DIED)
    assert (await ledger.cancel(job.key)).state is JobState.CANCELLED
    assert await ledger.claim([QUEUE], 2 * LEASE) is None
    assert (await ledger.get(job.key)).state is JobState.CANCELLED


@pytest.mark.parametrize("end", ["result", "cancel while waiting", "poison"])
async def test_a_job_that_is_done_is_queued_for_its_report(ledger, backend, end):
    job = await ledger.submit(new_job(webhook=WebhookDelivery("https://example.com/hook")))
    if end == "result":
        await ledger.commit(await claimed(ledger), new_result())
    elif end == "cancel while waiting":
        await ledger.cancel(job.key)
    else:
        await ledger.commit(await claimed(ledger), BAD)
    delivery = await backend.take([WEBHOOK_QUEUE], LONG)
    assert delivery.key == job.key
    done = await backend.load(job.key)
    assert done.webhook.next_attempt_time == done.end_time


@leases_pass
async def test_a_job_whose_worker_died_after_the_commit_is_reported_too(ledger, backend):
    await ledger.submit(new_job(webhook=WebhookDelivery("https://example.com/hook")))
    claim = await claimed(ledger)
    change = machine.succeeded(claim.job, utc_now(), new_result(), timedelta(hours=1))
    assert await backend.append(change.job, change.event)
    assert await ledger.claim([QUEUE], LONG) is None
    assert (await backend.take([WEBHOOK_QUEUE], LONG)).key == claim.job.key


async def test_workers_share_the_jobs(ledger, other_ledger):
    jobs = [await ledger.submit(new_job()) for _ in range(20)]

    finished: list[JobKey] = []

    async def work(ledger):
        while len(finished) < len(jobs):
            claim = await ledger.claim([QUEUE], LEASE / 2)
            if claim is not None:
                await ledger.report(claim, "stage", 0.5)
                finished.append((await ledger.commit(claim, new_result())).key)

    async with asyncio.timeout(LONG.total_seconds()):
        await asyncio.gather(*(work(one) for one in (ledger, other_ledger) * 2))
    assert sorted(finished, key=str) == sorted((job.key for job in jobs), key=str)
    for job in jobs:
        events = await watched(ledger, job.key)
        assert [event.attempt for event in events] == [0, 1, 1, 1]
