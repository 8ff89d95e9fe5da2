"""What storing files and finishing uploads share: the record of a file, its time, its removal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

from ..domain.errors import ErrorCode, MaskwireError
from ..domain.files.store import FileLimits, StoredFile, file_not_found
from ..domain.segmentation import Caller
from . import layout
from .objects import Objects
from .usage import FILE_OVERHEAD_BYTES, TenantUsage

_BLOCK_BYTES = 2 * 2**20

Clock = Callable[[], datetime]
"""Gives the time, in UTC."""


def utc_now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)


class Shelf:
    """The files of one store as records and folders of objects.

    Attributes:
        objects: The store.
        limits: What may be stored, and for how long.
        usage: What tenants have stored.
        now: The clock.
    """

    def __init__(self, objects: Objects, limits: FileLimits, now: Clock) -> None:
        self.objects = objects
        self.limits = limits
        self.usage = TenantUsage(objects, limits.max_tenant_bytes)
        self.now = now

    def times(self, time_to_live: timedelta | None) -> tuple[datetime, datetime]:
        """Return when a file that is made now was made and expires, in whole milliseconds."""
        longest = self.limits.time_to_live
        created = self.now()
        ends = created + (longest if time_to_live is None else min(time_to_live, longest))
        return layout.whole_milliseconds(created), layout.whole_milliseconds(ends)

    def check_size(self, size_bytes: int, field: str) -> None:
        """Refuse files larger than the largest.

        Raises:
            MaskwireError: `PAYLOAD_TOO_LARGE`.
        """
        if size_bytes > self.limits.max_file_bytes:
            raise MaskwireError(
                ErrorCode.PAYLOAD_TOO_LARGE,
                f"{field}: a file may have at most storage.max_file_bytes "
                f"({self.limits.max_file_bytes})",
            )

    async def record(self, caller: Caller, name: str) -> tuple[layout.FileRecord, str]:
        """Return the record of a file that exists and has not expired, and its folder.

        Raises:
            MaskwireError: `FILE_NOT_FOUND`.
        """
        file_id = layout.file_id_of_name(name)
        record = None if file_id is None else await self.record_of_id(caller.tenant, file_id)
        if file_id is None or record is None:
            raise file_not_found(name)
        return record, layout.file_folder(caller.tenant, file_id)

    async def record_of_id(self, tenant: str, file_id: str) -> layout.FileRecord | None:
        """Return the record of a file that exists and has not expired, or None."""
        folder = layout.file_folder(tenant, file_id)
        data = await self.objects.get(layout.record_key(folder))
        record = None if data is None else layout.read_record(file_id, data)
        return record if record is not None and record.file.expire_time > self.now() else None

    async def commit(self, caller: Caller, record: layout.FileRecord) -> StoredFile:
        """Make a file of the parts that are stored; where another call just did, that is the file.

        The times come first: whatever happens in between, nothing exists that a sweep cannot date.
        """
        file_id = layout.file_id_of_name(record.file.name)
        assert file_id is not None
        folder = layout.file_folder(caller.tenant, file_id)
        await self.objects.put_new(layout.times_key(folder, record.file), b"")
        written = layout.write_record(record)
        if await self.objects.put_new(layout.record_key(folder), written):
            self.usage.add(caller.tenant, FILE_OVERHEAD_BYTES)
            return record.file
        winner = (await self.record(caller, record.file.name))[0].file
        if layout.times_key(folder, winner) != layout.times_key(folder, record.file):
            await self.objects.delete([layout.times_key(folder, record.file)])
        return winner

    async def read_parts(
        self, folder: str, part_sizes: tuple[int, ...], start: int, end: int
    ) -> AsyncIterator[bytes]:
        """Yield bytes `start` to `end` (exclusive) of a file in blocks of at most 2 MiB.

        Raises:
            FileNotFoundError: The file was removed meanwhile.
        """
        begin = 0
        for size in part_sizes:
            key = layout.part_key(folder, begin)
            position, stop = max(start - begin, 0), min(end - begin, size)
            while position < stop:
                length = min(_BLOCK_BYTES, stop - position)
                block = await self.objects.get_range(key, position, length)
                if block is None:
                    raise FileNotFoundError(key)
                yield block
                position += length
            begin += size

    async def remove_expired(self, tenant: str, file_id: str) -> None:
        """Remove a file that has a record and has expired, before the next sweep does."""
        folder = layout.file_folder(tenant, file_id)
        data = await self.objects.get(layout.record_key(folder))
        if data is not None and layout.read_record(file_id, data).file.expire_time <= self.now():
            await self.remove(folder)

    async def remove(self, folder: str) -> int:
        """Remove a file with all its objects, its record first; return how many bytes they had."""
        await self.objects.delete([layout.record_key(folder)])
        found = [one async for one in self.objects.walk(folder)]
        await self.objects.delete([one.key for one in found])
        return sum(one.size_bytes for one in found)
