"""How many unfinished jobs a tenant has, on every backend."""

from __future__ import annotations

import asyncio

import pytest

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.jobs.backend import JobBackend
from maskwire_server.domain.jobs.calls import AttemptFailed
from maskwire_server.domain.jobs.job import Job, JobFailure
from maskwire_server.domain.jobs.ledger import JobLedger
from maskwire_server.domain.jobs.unfinished import UnfinishedJobs
from maskwire_server.domain.quotas import TenantQuota, TenantQuotas
from maskwire_server.jobs.nats import journal
from maskwire_server.jobs.sqlite import job_rows
from tests.support.job_backends import LONG, new_job, new_ledger

THREE = TenantQuotas(special={"alice": TenantQuota(unfinished_jobs=3)})


async def _submit(unfinished: UnfinishedJobs, ledger: JobLedger, tenant: str = "alice") -> Job:
    async with unfinished.one_more(tenant):
        return await ledger.submit(new_job(tenant=tenant))


async def test_submissions_at_the_same_time_take_no_more_than_there_is(backend: JobBackend) -> None:
    unfinished, ledger = UnfinishedJobs(backend, THREE), new_ledger(backend)
    ended = await asyncio.gather(
        *(_submit(unfinished, ledger) for _ in range(8)), return_exceptions=True
    )
    refused = [one for one in ended if isinstance(one, MaskwireError)]
    assert len(ended) - len(refused) == 3
    for error in refused:
        assert error.code is ErrorCode.QUOTA_EXCEEDED
        assert error.retry_after is not None
        assert error.quota is not None
        assert (error.quota.limit, error.quota.tenant) == ("quotas.unfinished_jobs", "alice")
    # Others have jobs of their own, and no limit here.
    for _ in range(5):
        await _submit(unfinished, ledger, tenant="bob")


async def test_a_job_that_is_done_makes_room(backend: JobBackend) -> None:
    unfinished, ledger = UnfinishedJobs(backend, THREE), new_ledger(backend)
    jobs = [await _submit(unfinished, ledger) for _ in range(3)]
    await ledger.cancel(jobs[1].key)
    await _submit(unfinished, ledger)
    with pytest.raises(MaskwireError):
        await _submit(unfinished, ledger)


async def test_another_server_counts_the_same_jobs(backend: JobBackend, other: JobBackend) -> None:
    for _ in range(3):
        await _submit(UnfinishedJobs(backend, THREE), new_ledger(backend))
    with pytest.raises(MaskwireError):
        await _submit(UnfinishedJobs(other, THREE), new_ledger(other))


async def test_jobs_that_are_done_are_not_read(
    backend: JobBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a submission costs does not grow with the jobs that a tenant keeps."""
    unfinished, ledger = UnfinishedJobs(backend, THREE), new_ledger(backend)
    for _ in range(20):
        await ledger.cancel((await _submit(unfinished, ledger)).key)
        claim = await ledger.claim(["segmentation"], LONG)
        assert claim is None, "it is done, and has no place in the queue any more"
    await _submit(unfinished, ledger)
    read: list[object] = []
    for module in (job_rows, journal):
        monkeypatch.setattr(module, "job_from_json", lambda fields: read.append(fields))
    async with unfinished.one_more("alice"):
        pass
    assert read == []


async def test_places_of_jobs_that_are_done_do_not_count(backend: JobBackend) -> None:
    """Jobs that were cancelled while they waited keep their places until it is their turn."""
    unfinished, ledger = UnfinishedJobs(backend, THREE), new_ledger(backend)
    for _ in range(40):
        await ledger.cancel((await _submit(unfinished, ledger)).key)
    for _ in range(3):
        await _submit(unfinished, ledger)
    with pytest.raises(MaskwireError):
        await _submit(unfinished, ledger)


async def test_jobs_that_run_count(backend: JobBackend) -> None:
    unfinished, ledger = UnfinishedJobs(backend, THREE), new_ledger(backend)
    for _ in range(3):
        await _submit(unfinished, ledger)
    claim = await ledger.claim(["segmentation"], LONG)
    assert claim is not None
    with pytest.raises(MaskwireError):
        await _submit(unfinished, ledger)
    await ledger.commit(
        claim, AttemptFailed(JobFailure(ErrorCode.INTERNAL, "broken"), is_retryable=False)
    )
    await _submit(unfinished, ledger)


async def test_a_submission_that_fails_takes_no_place(backend: JobBackend) -> None:
    unfinished, ledger = UnfinishedJobs(backend, THREE), new_ledger(backend)
    for _ in range(4):
        with pytest.raises(ZeroDivisionError):
            async with unfinished.one_more("alice"):
                raise ZeroDivisionError
    for _ in range(3):
        await _submit(unfinished, ledger)
