"""Uploads on objects: their parts are the parts of the file to be, so finishing copies nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ..domain.errors import invalid_field
from ..domain.files.store import (
    FILE_NAME_PREFIX,
    StoredFile,
    file_not_found,
    new_file_id,
    suggested_name,
)
from ..domain.files.uploads import Upload, UploadDescription, UploadStore
from ..domain.observer import Observer
from ..domain.segmentation import Caller
from . import layout
from .shelf import Shelf
from .usage import FILE_OVERHEAD_BYTES, OBJECT_OVERHEAD_BYTES


class ObjectUploadStore(UploadStore):
    """Unfinished uploads as objects of one store; see `layout.py` for how they lie there."""

    def __init__(self, shelf: Shelf, observer: Observer) -> None:
        self._shelf = shelf
        self._objects = shelf.objects
        self._observer = observer

    async def open(self, caller: Caller, description: UploadDescription) -> Upload | StoredFile:
        """Begin an upload or find it again; as the interface says."""
        self._shelf.check_size(description.size_bytes, "description.size_bytes")
        file_id = new_file_id()
        key = layout.upload_key(caller.tenant, description.upload_id)
        found = await self._held(caller, description.upload_id)
        if found is None:
            size = description.size_bytes + FILE_OVERHEAD_BYTES
            await self._shelf.usage.require(caller.tenant, size)
            if await self._objects.put_new(key, layout.write_upload(description, file_id)):
                return Upload(description, file_id, ())
            found = await self._held(caller, description.upload_id)
            if found is None:
                raise file_not_found(description.upload_id)
        _check_same(found[0], description)
        stored = await self._shelf.record_of_id(caller.tenant, found[1])
        if stored is not None:
            return stored.file
        await self._shelf.remove_expired(caller.tenant, found[1])
        upload = await self._with_parts(caller, *found)
        left = description.size_bytes - upload.received_bytes
        await self._shelf.usage.require(caller.tenant, left)
        return upload

    async def find(self, caller: Caller, upload_id: str) -> Upload:
        """Return an unfinished upload; as the interface says."""
        found = await self._held(caller, upload_id)
        if found is None or await self._shelf.record_of_id(caller.tenant, found[1]) is not None:
            raise file_not_found(upload_id)
        return await self._with_parts(caller, *found)

    async def read(self, caller: Caller, upload: Upload) -> AsyncIterator[bytes]:
        """Yield the bytes that are held; as the interface says."""
        folder = layout.file_folder(caller.tenant, upload.file_id)
        received = upload.received_bytes
        try:
            async for block in self._shelf.read_parts(folder, upload.part_sizes, 0, received):
                yield block
        except FileNotFoundError as error:
            raise file_not_found(upload.description.upload_id) from error

    async def append(self, caller: Caller, upload: Upload, part: bytes) -> Upload:
        """Keep the next part; as the interface says."""
        await self._shelf.usage.require(caller.tenant, len(part))
        folder = layout.file_folder(caller.tenant, upload.file_id)
        offset = upload.received_bytes
        headers = {
            "Content-Type": upload.description.content_type,
            "Content-Disposition": "attachment",
        }
        if not await self._objects.put_new(layout.part_key(folder, offset), part, headers):
            raise invalid_field(
                "description.offset_bytes", f"another stream has sent the bytes from {offset} on"
            )
        self._shelf.usage.add(caller.tenant, len(part) + OBJECT_OVERHEAD_BYTES)
        return Upload(upload.description, upload.file_id, (*upload.part_sizes, len(part)))

    async def finish(self, caller: Caller, upload: Upload) -> StoredFile:
        """Make the file; as the interface says."""
        description = upload.description
        created, expires = self._shelf.times(description.time_to_live)
        file = StoredFile(
            name=f"{FILE_NAME_PREFIX}{upload.file_id}",
            file_name=suggested_name(description.file_name),
            content_type=description.content_type,
            size_bytes=upload.received_bytes,
            digest=description.digest,
            create_time=created,
            expire_time=expires,
        )
        stored = await self._shelf.commit(caller, layout.FileRecord(file, upload.part_sizes))
        self._observer.file_moved("put", file.size_bytes)
        return stored

    async def discard(self, caller: Caller, upload: Upload) -> None:
        """Forget an upload; as the interface says."""
        key = layout.upload_key(caller.tenant, upload.description.upload_id)
        await self._objects.delete([key])
        folder = layout.file_folder(caller.tenant, upload.file_id)
        removed = await self._shelf.remove(folder)
        self._shelf.usage.add(caller.tenant, -removed)

    async def _held(self, caller: Caller, upload_id: str) -> tuple[UploadDescription, str] | None:
        data = await self._objects.get(layout.upload_key(caller.tenant, upload_id))
        return None if data is None else layout.read_upload(upload_id, data)

    async def _with_parts(
        self, caller: Caller, description: UploadDescription, file_id: str
    ) -> Upload:
        """Return an upload with the parts that follow each other from the beginning."""
        folder = layout.file_folder(caller.tenant, file_id)
        held = {one.key: one.size_bytes async for one in self._objects.walk(folder)}
        sizes: list[int] = []
        offset = 0
        while (size := held.get(layout.part_key(folder, offset))) is not None:
            sizes.append(size)
            offset += size
        return Upload(description, file_id, tuple(sizes))


def _check_same(begun: UploadDescription, sent: UploadDescription) -> None:
    for field in ("size_bytes", "digest", "content_type"):
        if getattr(begun, field) != getattr(sent, field):
            raise invalid_field(f"description.{field}", "is not what this upload began with")
