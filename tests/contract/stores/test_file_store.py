"""What every file store promises."""

from __future__ import annotations

import asyncio
import hashlib
import os
import urllib.error
import urllib.request
from datetime import timedelta

import pytest

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.files.store import MAX_CHUNK_BYTES
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.segmentation import Caller
from maskwire_server.storage import layout
from tests.support.stores import ALICE, BOB, collect, opened

ANONYMOUS = Caller(tenant="", request_id="3")


async def put(stores, data=b"some bytes", caller=ALICE, **options):
    return await stores.files.put(caller, data, content_type="image/png", **options)


async def refused(awaitable) -> MaskwireError:
    with pytest.raises(MaskwireError) as raised:
        await awaitable
    return raised.value


async def pieces(data: bytes, size: int):
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def test_a_stored_file_is_what_was_put(stores):
    before = stores.clock() - timedelta(milliseconds=1)
    file = await put(stores, b"123", file_name="C:\\a/b\n.png", image_size=ImageSize(3, 2))
    assert file.name.startswith("files/")
    assert len(file.name) == 6 + 32
    assert file.file_name == "b.png"
    assert (file.content_type, file.size_bytes) == ("image/png", 3)
    assert file.digest == f"sha256:{hashlib.sha256(b'123').hexdigest()}"
    assert file.image_size == ImageSize(3, 2)
    assert before <= file.create_time <= stores.clock()
    assert file.expire_time - file.create_time == timedelta(hours=2)
    found = await stores.files.get(ALICE, file.name)
    assert found == file
    assert await collect(stores.files.read(ALICE, file.name)) == b"123"


@pytest.mark.parametrize("size", [0, 1, MAX_CHUNK_BYTES, 5 * MAX_CHUNK_BYTES + 17])
async def test_chunks_are_stored_as_one_file(stores, size):
    data = os.urandom(size)
    file = await put(stores, pieces(data, 300_000))
    assert (file.size_bytes, file.digest) == (
        size,
        f"sha256:{hashlib.sha256(data).hexdigest()}",
    )
    chunks = [chunk async for chunk in stores.files.read(ALICE, file.name)]
    assert b"".join(chunks) == data
    assert all(0 < len(chunk) <= MAX_CHUNK_BYTES for chunk in chunks)


async def test_a_large_file_is_stored_in_one_piece_too(stores):
    data = os.urandom(33 * 2**20)
    file = await put(stores, data)
    assert file.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert await collect(stores.files.read(ALICE, file.name)) == data


@pytest.mark.parametrize(
    ("offset", "limit"),
    [(0, 1), (1, None), (2**20 - 1, 2), (2**21 + 5, 2**21), (3_000_000, 10), (3_000_000, None)],
)
async def test_a_range_of_a_file_is_read(stores, offset, limit):
    data = os.urandom(3_000_000)
    file = await put(stores, data)
    wanted = data[offset:] if limit is None else data[offset : offset + limit]
    assert await collect(stores.files.read(ALICE, file.name, offset, limit)) == wanted


async def test_an_offset_past_the_end_is_out_of_range(stores):
    file = await put(stores, b"123")
    error = await refused(collect(stores.files.read(ALICE, file.name, 4)))
    assert error.code is ErrorCode.OUT_OF_RANGE
    assert "3" in error.message


@pytest.mark.parametrize("stranger", [BOB, ANONYMOUS])
async def test_another_tenants_file_is_like_one_that_never_was(stores, stranger):
    file = await put(stores)
    unknown = "files/" + "0" * 32

    async def errors(name):
        return [
            await refused(stores.files.get(stranger, name)),
            await refused(collect(stores.files.read(stranger, name))),
            await refused(stores.files.delete(stranger, name)),
            await refused(stores.files.presigned_url(stranger, name, timedelta(minutes=1))),
        ]

    theirs, nobodys = await errors(file.name), await errors(unknown)
    assert {error.code for error in theirs} == {ErrorCode.FILE_NOT_FOUND}
    assert [error.message.replace(file.name, "") for error in theirs] == [
        error.message.replace(unknown, "") for error in nobodys
    ]
    assert (await stores.files.list(stranger, page_size=10)).files == ()
    assert await collect(stores.files.read(ALICE, file.name)) == b"some bytes"


@pytest.mark.parametrize(
    "name",
    [
        "files/..",
        "files/../../bob/files/" + "0" * 32,
        "files/" + "A" * 32,
        "0" * 32,
        "files/",
        "files/" + "0" * 31 + "/",
    ],
)
async def test_names_that_no_server_made_are_not_found(stores, name):
    assert (await refused(stores.files.get(ALICE, name))).code is ErrorCode.FILE_NOT_FOUND


async def test_files_are_listed_newest_first_in_pages(stores):
    names = []
    for index in range(5):
        names.append((await put(stores, str(index).encode())).name)
        stores.clock.forward(timedelta(seconds=1))
    await put(stores, caller=BOB)
    listed, token = [], ""
    for size in (2, 2, 1):
        page = await stores.files.list(ALICE, page_size=2, page_token=token)
        assert len(page.files) == size
        listed += [file.name for file in page.files]
        token = page.next_page_token
    assert token == ""
    assert listed == names[::-1]


async def test_a_page_token_of_somebody_elses_making_is_refused(stores):
    error = await refused(stores.files.list(ALICE, page_size=2, page_token="../x"))
    assert error.violations[0].field == "page_token"


async def test_a_deleted_file_is_gone_with_its_bytes(stores):
    file = await put(stores)
    other = await put(stores)
    await stores.files.delete(ALICE, file.name)
    assert (await refused(stores.files.get(ALICE, file.name))).code is ErrorCode.FILE_NOT_FOUND
    left = [one.key async for one in stores.objects.walk("t-alice")]
    assert left
    assert all(other.name.removeprefix("files/") in key for key in left)


async def test_an_expired_file_is_not_found_and_then_swept(stores):
    short = await put(stores, b"x" * 1000, time_to_live=timedelta(minutes=1))
    long = await put(stores, time_to_live=timedelta(days=400))
    assert long.expire_time - long.create_time == timedelta(hours=2)
    stores.clock.forward(timedelta(minutes=2))
    assert (await refused(stores.files.get(ALICE, short.name))).code is ErrorCode.FILE_NOT_FOUND
    assert [one.name for one in (await stores.files.list(ALICE, page_size=9)).files] == [long.name]
    before = sum([one.size_bytes async for one in stores.objects.walk("t-alice")])
    swept = await stores.files.sweep()
    after = sum([one.size_bytes async for one in stores.objects.walk("t-alice")])
    assert (swept.expired_files, swept.leftovers) == (1, 0)
    assert swept.stored_bytes == after
    assert before - after > 1000
    assert await collect(stores.files.read(ALICE, long.name)) == b"some bytes"
    assert stores.metrics.registry.get_sample_value("maskwire_stored_bytes") == after


async def test_bytes_without_a_record_are_no_file_and_are_swept_in_time(stores):
    """A crash after the bytes and before the record leaves this."""
    file_id = "1" * 32
    folder = layout.file_folder("alice", file_id)
    await stores.objects.put_new(layout.part_key(folder, 0), b"half")
    error = await refused(stores.files.get(ALICE, f"files/{file_id}"))
    assert error.code is ErrorCode.FILE_NOT_FOUND
    assert (await stores.files.sweep()).leftovers == 0
    stores.clock.forward(timedelta(hours=1, minutes=1))
    assert (await stores.files.sweep()).leftovers == 1
    assert [one async for one in stores.objects.walk("t-alice")] == []


async def test_a_stream_that_fails_leaves_no_file(stores):
    async def failing():
        yield b"x" * 2**20
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        await put(stores, failing())
    assert (await stores.files.list(ALICE, page_size=9)).files == ()


async def test_files_beyond_the_largest_are_refused(location):
    with opened(location, max_file_bytes=1000) as stores:
        assert (await put(stores, b"x" * 1000)).size_bytes == 1000
        for data in (b"x" * 1001, pieces(b"x" * 1001, 100)):
            error = await refused(put(stores, data))
            assert error.code is ErrorCode.PAYLOAD_TOO_LARGE
            assert "storage.max_file_bytes" in error.message


async def test_a_tenant_beyond_its_quota_is_refused_and_no_other_one(location):
    with opened(location, max_tenant_bytes=100_000) as stores:
        first = await put(stores, b"x" * 60_000)
        for data in (b"x" * 60_000, pieces(b"x" * 60_000, 1000)):
            error = await refused(put(stores, data))
            assert error.code is ErrorCode.QUOTA_EXCEEDED
            assert "storage.max_tenant_bytes" in error.message
        await put(stores, b"x" * 60_000, caller=BOB)
        await stores.files.delete(ALICE, first.name)
        await put(stores, b"x" * 60_000)


async def test_empty_files_count_too(location):
    with opened(location, max_tenant_bytes=20_000) as stores:
        error = None
        for _ in range(4):
            try:
                await put(stores, b"")
            except MaskwireError as raised:
                error = raised
        assert error is not None
        assert error.code is ErrorCode.QUOTA_EXCEEDED


async def test_tenants_with_similar_names_have_files_of_their_own(stores):
    names = ["Alice", "alice", "a/lice", "a_2flice", "a.lice", "..", "", "t-alice", "x" * 300, "é"]
    stored = [
        (tenant, (await put(stores, tenant.encode(), Caller(tenant, "1"))).name) for tenant in names
    ]
    for tenant, name in stored:
        for other in names:
            caller = Caller(other, "1")
            if other == tenant:
                assert await collect(stores.files.read(caller, name)) == tenant.encode()
            else:
                error = await refused(stores.files.get(caller, name))
                assert error.code is ErrorCode.FILE_NOT_FOUND


async def test_many_files_at_once(stores):
    async def one(index):
        file = await put(stores, str(index).encode() * 1000)
        data = await collect(stores.files.read(ALICE, file.name))
        if index % 2:
            await stores.files.delete(ALICE, file.name)
        return data

    stored = await asyncio.gather(*(one(index) for index in range(40)))
    assert stored == [str(index).encode() * 1000 for index in range(40)]
    assert len((await stores.files.list(ALICE, page_size=100)).files) == 20


async def test_presigned_urls_where_the_store_has_them(stores):
    file = await put(stores, b"signed")
    if not stores.objects.can_sign:
        error = await refused(stores.files.presigned_url(ALICE, file.name, timedelta(minutes=1)))
        assert error.code is ErrorCode.SOURCE_DISABLED
        assert "DownloadFile" in error.message
        return
    signed = await stores.files.presigned_url(ALICE, file.name, timedelta(days=7))
    assert abs(signed.expire_time - file.expire_time) < timedelta(seconds=1)
    with await asyncio.to_thread(urllib.request.urlopen, signed.url) as answer:
        assert answer.read() == b"signed"
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.headers["Content-Disposition"] == "attachment"
