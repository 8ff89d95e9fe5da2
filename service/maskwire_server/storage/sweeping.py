"""Removes what expired and what crashes left, by the keys and dates of objects alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ..domain.files.store import Swept
from . import layout
from .objects import StoredObject
from .shelf import Shelf


@dataclass(slots=True)
class _Folder:
    """What a listing tells of one file."""

    newest: datetime
    size_bytes: int = 0
    expires_ms: int | None = None
    has_record: bool = False


@dataclass(slots=True)
class _Tenant:
    """What a listing tells of one tenant: its files by identifier, its uploads, all bytes."""

    files: dict[str, _Folder]
    uploads: list[StoredObject]
    size_bytes: int = 0


async def sweep(shelf: Shelf) -> Swept:
    """Sweep every tenant; `FileStore.sweep` says what that is."""
    expired_files = leftovers = stored_bytes = 0
    for name in await shelf.objects.folders():
        tenant = await _look(shelf, name)
        expired, left, removed_bytes = await _sweep_files(shelf, name, tenant)
        left += await _sweep_uploads(shelf, tenant)
        expired_files += expired
        leftovers += left
        stored_bytes += tenant.size_bytes - removed_bytes
    return Swept(expired_files, leftovers, stored_bytes)


async def _look(shelf: Shelf, name: str) -> _Tenant:
    tenant = _Tenant({}, [])
    async for one in shelf.objects.walk(name):
        tenant.size_bytes += one.size_bytes
        _, kind, *rest = one.key.split("/")
        if kind == "uploads":
            tenant.uploads.append(one)
        elif kind == "files" and len(rest) == 2:
            folder = tenant.files.setdefault(rest[0], _Folder(one.modified))
            folder.newest = max(folder.newest, one.modified)
            folder.size_bytes += one.size_bytes
            times = layout.times_of_key(one.key)
            if times is not None:
                # Two calls that finished one upload at once may each have written times.
                folder.expires_ms = max(times[1], folder.expires_ms or 0)
            folder.has_record |= rest[1] == "file.json"
    return tenant


async def _sweep_files(shelf: Shelf, name: str, tenant: _Tenant) -> tuple[int, int, int]:
    """Remove files that expired and leftovers; return the number of each and their bytes."""
    now = shelf.now()
    abandoned = now - shelf.limits.upload_time_to_live
    expired = leftovers = size_bytes = 0
    for file_id, folder in list(tenant.files.items()):
        ends = folder.expires_ms
        if folder.has_record and ends is not None and layout.time_of_ms(ends) <= now:
            expired += 1
        elif not folder.has_record and folder.newest < abandoned:
            leftovers += 1
        else:
            continue
        await shelf.remove(f"{name}/files/{file_id}")
        size_bytes += folder.size_bytes
        del tenant.files[file_id]
    return expired, leftovers, size_bytes


async def _sweep_uploads(shelf: Shelf, tenant: _Tenant) -> int:
    """Forget uploads on which nothing happened for long; return their number."""
    abandoned = shelf.now() - shelf.limits.upload_time_to_live
    forgotten = 0
    for one in tenant.uploads:
        if one.modified >= abandoned:
            continue
        data = await shelf.objects.get(one.key)
        upload_id = one.key.rpartition("/")[2].removesuffix(".json")
        file_id = "" if data is None else layout.read_upload(upload_id, data)[1]
        folder = tenant.files.get(file_id)
        if folder is None or folder.newest < abandoned:
            await shelf.objects.delete([one.key])
            forgotten += 1
    return forgotten
