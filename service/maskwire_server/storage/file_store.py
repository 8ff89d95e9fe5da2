"""The file store on objects: how files are written, read, listed and removed."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from datetime import timedelta
from functools import partial

from ..domain.errors import ErrorCode, MaskwireError, invalid_field
from ..domain.executor import BoundedExecutor
from ..domain.files.store import (
    FILE_NAME_PREFIX,
    MAX_CHUNK_BYTES,
    DownloadUrl,
    FilePage,
    FileStore,
    StoredFile,
    Swept,
    file_not_found,
    new_file_id,
    suggested_name,
)
from ..domain.geometry import ImageSize
from ..domain.observer import Observer
from ..domain.segmentation import Caller
from . import layout
from .shelf import Shelf
from .sweeping import sweep
from .usage import FILE_OVERHEAD_BYTES

_PAGE_TOKEN = re.compile(r"([0-9]{1,15})-([0-9a-f]{32})")
_RECORDS_AT_A_TIME = 16

# A request to a remote store must end within half a minute; what is larger goes in several.
_LARGEST_SINGLE_PUT_BYTES = 32 * 2**20
_SLICE_BYTES = 8 * 2**20


class ObjectFileStore(FileStore):
    """Files as objects of one store; see `layout.py` for how they lie there."""

    def __init__(self, shelf: Shelf, executor: BoundedExecutor, observer: Observer) -> None:
        """Take the shelf, the executor that computes digests, and who hears of the work."""
        self._shelf = shelf
        self._objects = shelf.objects
        self._executor = executor
        self._observer = observer

    async def put(
        self,
        caller: Caller,
        data: bytes | AsyncIterable[bytes],
        *,
        content_type: str,
        file_name: str = "",
        image_size: ImageSize | None = None,
        time_to_live: timedelta | None = None,
        file_id: str | None = None,
    ) -> StoredFile:
        """Store a file; as the interface says."""
        file_id = file_id or new_file_id()
        key = layout.part_key(layout.file_folder(caller.tenant, file_id), 0)
        headers = {"Content-Type": content_type, "Content-Disposition": "attachment"}
        if isinstance(data, bytes) and len(data) <= _LARGEST_SINGLE_PUT_BYTES:
            size, digest = await self._put_bytes(caller, key, data, headers)
        else:
            chunks = _slices(data) if isinstance(data, bytes) else data
            size, digest = await self._put_chunks(caller, key, chunks, headers)
        created, expires = self._shelf.times(time_to_live)
        file = StoredFile(
            name=f"{FILE_NAME_PREFIX}{file_id}",
            file_name=suggested_name(file_name),
            content_type=content_type,
            size_bytes=size,
            digest=digest,
            create_time=created,
            expire_time=expires,
            image_size=image_size,
        )
        self._shelf.usage.add(caller.tenant, size)
        stored = await self._shelf.commit(caller, layout.FileRecord(file, (size,)))
        self._observer.file_moved("put", size)
        return stored

    async def get(self, caller: Caller, name: str) -> StoredFile:
        """Return what a file is; as the interface says."""
        return (await self._shelf.record(caller, name))[0].file

    async def read(
        self, caller: Caller, name: str, offset: int = 0, limit: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a file; as the interface says."""
        record, folder = await self._shelf.record(caller, name)
        size = record.file.size_bytes
        if offset > size:
            raise MaskwireError(
                ErrorCode.OUT_OF_RANGE, f"offset_bytes: {offset} is past the end at {size}"
            )
        end = size if limit is None else min(size, offset + limit)
        self._observer.file_moved("get", end - offset)
        blocks = self._shelf.read_parts(folder, record.part_sizes, offset, end)
        try:
            async for block in _ahead(blocks):
                for start in range(0, len(block), MAX_CHUNK_BYTES):
                    yield block[start : start + MAX_CHUNK_BYTES]
        except FileNotFoundError as error:
            raise file_not_found(name) from error

    async def list(self, caller: Caller, *, page_size: int, page_token: str = "") -> FilePage:
        """Return a page of files; as the interface says."""
        before = _position(page_token)
        now_ms = self._shelf.now().timestamp() * 1e3
        found: dict[str, int] = {}
        async for one in self._objects.walk(layout.files_folder(caller.tenant)):
            times = layout.times_of_key(one.key)
            if times is None or times[1] <= now_ms:
                continue
            file_id = one.key.split("/")[-2]
            if before is None or (times[0], file_id) < before:
                found[file_id] = times[0]
        page = heapq.nlargest(page_size, ((made, file_id) for file_id, made in found.items()))
        token = "" if len(page) == len(found) else f"{page[-1][0]}-{page[-1][1]}"
        return FilePage(await self._files(caller, [file_id for _, file_id in page]), token)

    async def delete(self, caller: Caller, name: str) -> None:
        """Remove a file; as the interface says."""
        _, folder = await self._shelf.record(caller, name)
        removed = await self._shelf.remove(folder)
        self._shelf.usage.add(caller.tenant, -removed - FILE_OVERHEAD_BYTES)

    async def presigned_url(
        self, caller: Caller, name: str, time_to_live: timedelta
    ) -> DownloadUrl:
        """Return a presigned URL; as the interface says."""
        record, folder = await self._shelf.record(caller, name)
        if not self._objects.can_sign:
            raise MaskwireError(
                ErrorCode.SOURCE_DISABLED,
                "the store of this server has no presigned URLs; use DownloadFile",
            )
        now = self._shelf.now()
        to_live = min(time_to_live, record.file.expire_time - now)
        key = await self._whole(caller, record, folder)
        return DownloadUrl(await self._objects.sign(key, to_live), now + to_live)

    async def sweep(self) -> Swept:
        """Remove what expired; as the interface says."""
        swept = await sweep(self._shelf)
        self._observer.files_swept(swept.expired_files, swept.leftovers, swept.stored_bytes)
        return swept

    async def _put_bytes(
        self, caller: Caller, key: str, data: bytes, headers: dict[str, str]
    ) -> tuple[int, str]:
        self._shelf.check_size(len(data), "file")
        await self._shelf.usage.require(caller.tenant, len(data) + FILE_OVERHEAD_BYTES)
        hashed = self._executor.run(lambda: hashlib.sha256(data).hexdigest())
        digest, _ = await asyncio.gather(hashed, self._objects.put_new(key, data, headers))
        return len(data), f"sha256:{digest.value}"

    async def _put_chunks(
        self, caller: Caller, key: str, chunks: AsyncIterable[bytes], headers: dict[str, str]
    ) -> tuple[int, str]:
        available = await self._shelf.usage.available(caller.tenant) - FILE_OVERHEAD_BYTES
        hasher = hashlib.sha256()
        size = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size
            async for chunk in chunks:
                size += len(chunk)
                self._shelf.check_size(size, "file")
                if size > available:
                    raise self._shelf.usage.exceeded(caller.tenant)
                await self._executor.run(partial(hasher.update, chunk))
                yield chunk

        await self._objects.put_stream(key, counted(), headers)
        return size, f"sha256:{hasher.hexdigest()}"

    async def _files(self, caller: Caller, file_ids: Sequence[str]) -> tuple[StoredFile, ...]:
        """Return the files that exist of those that have times, in order."""
        files: tuple[StoredFile, ...] = ()
        for start in range(0, len(file_ids), _RECORDS_AT_A_TIME):
            some = file_ids[start : start + _RECORDS_AT_A_TIME]
            records = await asyncio.gather(
                *(self._shelf.record_of_id(caller.tenant, file_id) for file_id in some)
            )
            files += tuple(record.file for record in records if record is not None)
        return files

    async def _whole(self, caller: Caller, record: layout.FileRecord, folder: str) -> str:
        """Return the key of the bytes in one object, which is made where they are in parts."""
        sizes = record.part_sizes
        if len(sizes) == 1:
            return layout.part_key(folder, 0)
        key = layout.whole_key(folder)
        if any([one.key == key async for one in self._objects.walk(folder)]):
            return key
        size = record.file.size_bytes
        await self._shelf.usage.require(caller.tenant, size)
        headers = {"Content-Type": record.file.content_type, "Content-Disposition": "attachment"}
        blocks = self._shelf.read_parts(folder, sizes, 0, size)
        await self._objects.put_stream(key, blocks, headers)
        self._shelf.usage.add(caller.tenant, size)
        return key


async def _ahead(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield blocks while the next one is being read."""
    reading = asyncio.ensure_future(_next(blocks))
    try:
        while (block := await reading) is not None:
            reading = asyncio.ensure_future(_next(blocks))
            yield block
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _next(blocks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(blocks, None)


async def _slices(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), _SLICE_BYTES):
        yield data[start : start + _SLICE_BYTES]


def _position(page_token: str) -> tuple[int, str] | None:
    if not page_token:
        return None
    match = _PAGE_TOKEN.fullmatch(page_token)
    if match is None:
        raise invalid_field("page_token", "is not one that a page of files gave")
    return int(match[1]), match[2]
