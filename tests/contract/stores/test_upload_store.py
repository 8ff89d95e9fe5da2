"""What every upload store promises, seen through the service that fills it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import urllib.request
import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.files.service import PART_BYTES
from maskwire_server.domain.files.uploads import UploadBeginning, UploadDescription
from tests.support.stores import ALICE, BOB, collect, opened

LARGE = 2 * PART_BYTES + 12_345


def describe(data: bytes, **changes) -> UploadDescription:
    description = UploadDescription(
        upload_id=str(uuid.uuid4()),
        content_type="video/mp4",
        file_name="clip.mp4",
        size_bytes=len(data),
        digest=f"sha256:{hashlib.sha256(data).hexdigest()}",
    )
    return replace(description, **changes)


async def stream(description, data, offset=0, *, chunk=2**20, until=None, then=None):
    yield UploadBeginning(description, offset)
    for start in range(offset, until or len(data), chunk):
        yield data[start : min(start + chunk, until or len(data))]
    if then is not None:
        raise then


async def accept():
    return None


async def upload(stores, messages, caller=ALICE, **changes):
    return await stores.service(**changes).upload(messages, caller, accept)


async def refused(awaitable) -> MaskwireError:
    with pytest.raises(MaskwireError) as raised:
        await awaitable
    return raised.value


@pytest.mark.parametrize("size", [1, 2**20, PART_BYTES, LARGE])
async def test_an_upload_becomes_a_file(stores, size):
    data = os.urandom(size)
    description = describe(data, time_to_live=timedelta(minutes=5))
    file = await upload(stores, stream(description, data))
    assert (file.size_bytes, file.digest) == (size, description.digest)
    assert (file.file_name, file.content_type) == ("clip.mp4", "video/mp4")
    assert file.expire_time - file.create_time == timedelta(minutes=5)
    assert await collect(stores.files.read(ALICE, file.name)) == data
    middle = size // 2
    assert await collect(stores.files.read(ALICE, file.name, middle)) == data[middle:]


async def test_a_broken_upload_is_resumed_where_it_stands(stores):
    data = os.urandom(LARGE)
    description = describe(data)
    broken = stream(description, data, until=LARGE - 5, then=ConnectionResetError())
    with pytest.raises(ConnectionResetError):
        await upload(stores, broken)
    held = await stores.uploads.find(ALICE, description.upload_id)
    assert held.received_bytes > 0
    assert held.received_bytes % PART_BYTES == 0
    assert held.description.size_bytes == LARGE
    file = await upload(stores, stream(description, data, held.received_bytes))
    assert await collect(stores.files.read(ALICE, file.name)) == data


async def test_a_stream_that_ends_early_keeps_all_its_bytes(stores):
    data = os.urandom(3_000_000)
    description = describe(data)
    error = await refused(upload(stores, stream(description, data, until=1_234_567)))
    assert error.violations[0].field == "description.size_bytes"
    assert "1234567" in error.message
    held = await stores.uploads.find(ALICE, description.upload_id)
    assert held.received_bytes == 1_234_567
    file = await upload(stores, stream(description, data, 1_234_567))
    assert await collect(stores.files.read(ALICE, file.name)) == data


async def test_a_finished_upload_answers_its_file_again(stores):
    data = os.urandom(100)
    description = describe(data)
    file = await upload(stores, stream(description, data))
    again = await upload(stores, stream(description, data))
    assert again.name == file.name
    error = await refused(stores.uploads.find(ALICE, description.upload_id))
    assert error.code is ErrorCode.FILE_NOT_FOUND
    assert len((await stores.files.list(ALICE, page_size=9)).files) == 1


async def test_an_upload_whose_file_expired_begins_anew(stores):
    data = os.urandom(100)
    description = describe(data, time_to_live=timedelta(minutes=1))
    await upload(stores, stream(description, data))
    stores.clock.forward(timedelta(minutes=2))
    file = await upload(stores, stream(description, data))
    assert await collect(stores.files.read(ALICE, file.name)) == data


async def test_an_upload_belongs_to_its_tenant(stores):
    data = os.urandom(2000)
    description = describe(data)
    await refused(upload(stores, stream(description, data, until=1000)))
    error = await refused(stores.uploads.find(BOB, description.upload_id))
    assert error.code is ErrorCode.FILE_NOT_FOUND
    file = await upload(stores, stream(description, data), BOB)
    assert await collect(stores.files.read(BOB, file.name)) == data
    held = await stores.uploads.find(ALICE, description.upload_id)
    assert held.received_bytes == 1000


@pytest.mark.parametrize("offset", [1, 999, 1001, 5000])
async def test_a_wrong_offset_is_refused_with_the_right_one(stores, offset):
    data = os.urandom(2000)
    description = describe(data)
    await refused(upload(stores, stream(description, data, until=1000)))
    error = await refused(upload(stores, stream(description, data, offset)))
    assert error.violations[0].field == "description.offset_bytes"
    assert "1000" in error.message


async def test_a_wrong_digest_is_refused_and_nothing_is_kept(stores):
    data = os.urandom(PART_BYTES + 100)
    description = describe(data, digest="sha256:" + "0" * 64)
    error = await refused(upload(stores, stream(description, data)))
    assert error.violations[0].field == "description.digest"
    assert [one async for one in stores.objects.walk("t-alice")] == []


async def test_more_bytes_than_described_are_refused(stores):
    data = os.urandom(2000)
    error = await refused(upload(stores, stream(describe(data, size_bytes=1999), data)))
    assert error.violations[0].field == "chunk"


@pytest.mark.parametrize(
    ("field", "value"),
    [("size_bytes", 2001), ("digest", "sha256:" + "0" * 64), ("content_type", "image/png")],
)
async def test_what_an_upload_began_with_cannot_change(stores, field, value):
    data = os.urandom(2000)
    description = describe(data)
    await refused(upload(stores, stream(description, data, until=1000)))
    changed = replace(description, **{field: value})
    error = await refused(upload(stores, stream(changed, data, 1000)))
    assert error.violations[0].field == f"description.{field}"


async def test_two_streams_of_one_upload_never_mix(stores):
    data = os.urandom(LARGE)
    description = describe(data)
    results = await asyncio.gather(
        *(upload(stores, stream(description, data)) for _ in range(2)), return_exceptions=True
    )
    for result in results:
        if isinstance(result, BaseException):
            assert isinstance(result, MaskwireError)
            assert result.violations[0].field == "description.offset_bytes"
    held = await stores.service().upload(
        stream(description, data, await _received(stores, description)), ALICE, accept
    )
    assert await collect(stores.files.read(ALICE, held.name)) == data
    assert len((await stores.files.list(ALICE, page_size=9)).files) == 1


async def _received(stores, description) -> int:
    try:
        return (await stores.uploads.find(ALICE, description.upload_id)).received_bytes
    except MaskwireError:
        return 0


async def test_an_upload_that_nobody_resumes_is_swept(stores):
    data = os.urandom(2000)
    description = describe(data)
    await refused(upload(stores, stream(description, data, until=1000)))
    stores.clock.forward(timedelta(minutes=59))
    assert (await stores.files.sweep()).leftovers == 0
    stores.clock.forward(timedelta(minutes=2))
    assert (await stores.files.sweep()).leftovers == 2
    error = await refused(stores.uploads.find(ALICE, description.upload_id))
    assert error.code is ErrorCode.FILE_NOT_FOUND
    assert [one async for one in stores.objects.walk("t-alice")] == []


async def test_a_sweep_leaves_the_file_of_a_finished_upload(stores):
    data = os.urandom(2000)
    description = describe(data)
    file = await upload(stores, stream(description, data))
    stores.clock.forward(timedelta(minutes=61))
    await stores.files.sweep()
    assert await collect(stores.files.read(ALICE, file.name)) == data


async def test_an_upload_that_trickles_is_ended_and_can_be_resumed(stores):
    data = os.urandom(3000)
    description = describe(data)

    async def trickle():
        async for message in stream(description, data, chunk=10):
            await asyncio.sleep(0.01)
            yield message

    error = await refused(upload(stores, trickle(), upload_idle=timedelta(seconds=0.1)))
    assert error.code is ErrorCode.DEADLINE_EXCEEDED
    assert "storage.upload_idle_s" in error.message
    held = await stores.uploads.find(ALICE, description.upload_id)
    file = await upload(stores, stream(description, data, held.received_bytes))
    assert await collect(stores.files.read(ALICE, file.name)) == data


async def test_more_uploads_at_a_time_than_allowed_are_refused(stores):
    service = stores.service(max_uploads=1)
    accepted, go_on = asyncio.Event(), asyncio.Event()
    data = os.urandom(100)

    async def held_up():
        yield UploadBeginning(describe(data), 0)
        await go_on.wait()
        yield data

    async def note():
        accepted.set()

    first = asyncio.ensure_future(service.upload(held_up(), ALICE, note))
    await accepted.wait()
    error = await refused(service.upload(stream(describe(data), data), BOB, accept))
    assert error.code is ErrorCode.OVERLOADED
    assert error.retry_after is not None
    go_on.set()
    assert (await first).size_bytes == 100
    await service.upload(stream(describe(data), data), BOB, accept)


async def test_limits_hold_before_a_byte_is_sent(location):
    with opened(location, max_file_bytes=1000, max_tenant_bytes=10_000) as stores:
        error = await refused(upload(stores, stream(describe(b"x" * 1001), b"x" * 1001)))
        assert error.code is ErrorCode.PAYLOAD_TOO_LARGE
    with opened(location, max_tenant_bytes=10_000) as stores:
        error = await refused(upload(stores, stream(describe(b"x" * 9000), b"x" * 9000)))
        assert error.code is ErrorCode.QUOTA_EXCEEDED
        assert [one async for one in stores.objects.walk("t-alice")] == []


async def test_a_file_in_parts_has_a_presigned_url_too(stores):
    if not stores.objects.can_sign:
        pytest.skip("only where the store has presigned URLs")
    data = os.urandom(LARGE)
    file = await upload(stores, stream(describe(data), data))
    for _ in range(2):
        signed = await stores.files.presigned_url(ALICE, file.name, timedelta(minutes=1))
        with await asyncio.to_thread(urllib.request.urlopen, signed.url) as answer:
            assert answer.read() == data
    await stores.files.delete(ALICE, file.name)
    assert all("uploads" in one.key for one in [o async for o in stores.objects.walk("t-alice")])
