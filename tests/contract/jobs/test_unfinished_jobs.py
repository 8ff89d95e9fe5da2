"""How many unfinished jobs a tenant has, on every backend."""

from __future__ import annotations

import asyncio

import pytest

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.jobs.backend import JobBackend
from maskwire_server.domain.jobs.job import Job
from maskwire_server.domain.jobs.ledger import JobLedger
from maskwire_server.domain.jobs.unfinished import UnfinishedJobs
from maskwire_server.domain.quotas import TenantQuota, TenantQuotas
from tests.support.job_backends import new_job, new_ledger

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


async def test_a_submission_that_fails_takes_no_place(backend: JobBackend) -> None:
    unfinished, ledger = UnfinishedJobs(backend, THREE), new_ledger(backend)
    for _ in range(4):
        with pytest.raises(ZeroDivisionError):
            async with unfinished.one_more("alice"):
                raise ZeroDivisionError
    for _ in range(3):
        await _submit(unfinished, ledger)
