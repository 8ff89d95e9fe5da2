"""What every store of what jobs carry promises."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from datetime import timedelta

import pytest

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.jobs.content import payload_key, result_key
from maskwire_server.domain.jobs.job import JobKey
from tests.support.stores import ALICE, opened

JOB = JobKey("alice", "a" * 32)
OTHER_JOB = JobKey("alice", "b" * 32)
SAME_JOB_OF_BOB = JobKey("bob", "a" * 32)
LARGE = 33 * 2**20


async def refused(awaitable) -> ErrorCode:
    with pytest.raises(MaskwireError) as raised:
        await awaitable
    return raised.value.code


@pytest.mark.parametrize("size", [0, 1, 100_000, LARGE])
async def test_bytes_come_back_as_they_were_put(stores, size):
    data = os.urandom(size)
    reference = await stores.job_contents.put(JOB, result_key(1), data)
    assert reference.key == "attempt-1/result"
    assert reference.size_bytes == size
    assert reference.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert await stores.job_contents.get(JOB, reference) == data


@pytest.mark.parametrize("size", [10, LARGE])
async def test_what_is_there_stays_as_it_is(stores, size):
    first, second = os.urandom(size), os.urandom(size)
    kept = await stores.job_contents.put(JOB, "request", first)
    late = await stores.job_contents.put(JOB, "request", second)
    assert late.digest == f"sha256:{hashlib.sha256(second).hexdigest()}"
    assert await stores.job_contents.get(JOB, kept) == first
    assert await refused(stores.job_contents.get(JOB, late)) is ErrorCode.DATA_LOSS


async def test_bytes_that_are_not_there_are_lost(stores):
    kept = await stores.job_contents.put(JOB, "request", b"here")
    for missing in (replace(kept, key="elsewhere"), replace(kept, size_bytes=5)):
        assert await refused(stores.job_contents.get(JOB, missing)) is ErrorCode.DATA_LOSS
    for job in (OTHER_JOB, SAME_JOB_OF_BOB):
        assert await refused(stores.job_contents.get(job, kept)) is ErrorCode.DATA_LOSS


async def test_bytes_that_were_changed_are_not_returned(stores):
    kept = await stores.job_contents.put(JOB, "request", b"here")
    (found,) = [one async for one in stores.objects.walk("t-alice/jobs")]
    await stores.objects.delete([found.key])
    await stores.objects.put_new(found.key, b"HERE")
    assert await refused(stores.job_contents.get(JOB, kept)) is ErrorCode.DATA_LOSS


async def test_a_job_is_deleted_with_all_its_bytes_and_no_others(stores):
    for job in (JOB, OTHER_JOB, SAME_JOB_OF_BOB):
        for key in (payload_key(b"request"), result_key(1), result_key(2)):
            await stores.job_contents.put(job, key, b"some")
    await stores.job_contents.delete(JOB)
    await stores.job_contents.delete(JOB)
    left = {one.key.split("/")[2] async for one in stores.objects.walk("t-alice/jobs")}
    assert left == {OTHER_JOB.job_id}
    assert len([one async for one in stores.objects.walk("t-bob/jobs")]) == 3


async def test_sweeping_files_leaves_jobs_alone(stores):
    kept = await stores.job_contents.put(JOB, result_key(1), b"kept")
    stores.clock.forward(timedelta(days=30))
    swept = await stores.files.sweep()
    assert (swept.expired_files, swept.leftovers, swept.stored_bytes) == (0, 0, 4)
    assert await stores.job_contents.get(JOB, kept) == b"kept"
    assert (await stores.files.list(ALICE, page_size=10)).files == ()


async def test_what_jobs_carry_counts_in_the_quota_until_it_is_deleted(tmp_path, location):
    with opened(location, max_tenant_bytes=20_000) as small:
        await small.job_contents.put(JOB, "request", bytes(10_000))
        again = await small.job_contents.put(JOB, "request", bytes(10_000))  # counts once
        assert again.size_bytes == 10_000
        refusal = await refused(small.job_contents.put(JOB, result_key(1), bytes(10_000)))
        assert refusal is ErrorCode.QUOTA_EXCEEDED
        refusal = await refused(small.files.put(ALICE, bytes(5_000), content_type="image/png"))
        assert refusal is ErrorCode.QUOTA_EXCEEDED
        await small.job_contents.put(SAME_JOB_OF_BOB, "request", bytes(10_000))
        await small.job_contents.delete(JOB)
        await small.job_contents.put(OTHER_JOB, "request", bytes(10_000))
