"""How files lie in a store: the keys of their objects and what is written about them.

    {tenant}/files/{id}/data-{offset}       the bytes, in one part or several
    {tenant}/files/{id}/times-{from}-{to}   empty; when the file was made and when it expires, in ms
    {tenant}/files/{id}/file.json           what the file is: written last, and the file exists
    {tenant}/files/{id}/whole               the bytes in one object, made for a presigned URL
    {tenant}/uploads/{upload}.json          which file an upload will be
    {tenant}/jobs/{job}/{key}               what a job carries: its request, its result

The times are in a key so that listings and sweeps need no object's content.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ..domain.files.store import FILE_NAME_PREFIX, StoredFile
from ..domain.files.uploads import UploadDescription
from ..domain.geometry import ImageSize

_FILE_ID = re.compile(r"[0-9a-f]{32}")
_TIMES = re.compile(r"times-([0-9]{1,15})-([0-9]{1,15})")
_LONGEST_TENANT = 100
_LEFT_AS_IT_IS = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-")


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A stored file and the sizes of its parts, in order."""

    file: StoredFile
    part_sizes: tuple[int, ...]


def tenant_folder(tenant: str) -> str:
    """Return the folder of a tenant: the same for no two, on file systems without case too."""
    if not tenant:
        return "anonymous"
    encoded = tenant.encode(errors="surrogatepass")
    escaped = "".join(chr(one) if one in _LEFT_AS_IT_IS else f"_{one:02x}" for one in encoded)
    if len(escaped) > _LONGEST_TENANT:
        return f"h-{hashlib.sha256(encoded).hexdigest()}"
    return f"t-{escaped}"


def files_folder(tenant: str) -> str:
    """Return the folder of all files of a tenant."""
    return f"{tenant_folder(tenant)}/files"


def file_folder(tenant: str, file_id: str) -> str:
    """Return the folder of one file."""
    return f"{files_folder(tenant)}/{file_id}"


def part_key(folder: str, offset: int) -> str:
    """Return the key of the part of a file that begins at `offset`."""
    return f"{folder}/data-{offset:016x}"


def record_key(folder: str) -> str:
    """Return the key of what is written about a file."""
    return f"{folder}/file.json"


def whole_key(folder: str) -> str:
    """Return the key of a file's bytes in one object."""
    return f"{folder}/whole"


def times_key(folder: str, file: StoredFile) -> str:
    """Return the key that tells when a file was made and when it expires."""
    return f"{folder}/times-{_milliseconds(file.create_time)}-{_milliseconds(file.expire_time)}"


def times_of_key(key: str) -> tuple[int, int] | None:
    """Return when a file was made and when it expires, in ms since 1970, if the key tells it."""
    match = _TIMES.fullmatch(key.rpartition("/")[2])
    return None if match is None else (int(match[1]), int(match[2]))


def upload_key(tenant: str, upload_id: str) -> str:
    """Return the key of what is written about an upload, whose identifier is a UUID."""
    return f"{tenant_folder(tenant)}/uploads/{uuid.UUID(upload_id)}.json"


def job_folder(tenant: str, job_id: str) -> str:
    """Return the folder of what a job carries."""
    return f"{tenant_folder(tenant)}/jobs/{job_id}"


def job_content_key(tenant: str, job_id: str, key: str) -> str:
    """Return the key of something that a job carries."""
    return f"{job_folder(tenant, job_id)}/{key}"


def file_id_of_name(name: str) -> str | None:
    """Return the identifier in a resource name, or None where it is none that a server made."""
    file_id = name.removeprefix(FILE_NAME_PREFIX)
    return file_id if name != file_id and _FILE_ID.fullmatch(file_id) else None


def write_record(record: FileRecord) -> bytes:
    """Write what a file is."""
    file = record.file
    size = file.image_size
    return json.dumps(
        {
            "file_name": file.file_name,
            "content_type": file.content_type,
            "size_bytes": file.size_bytes,
            "digest": file.digest,
            "create_time_ms": _milliseconds(file.create_time),
            "expire_time_ms": _milliseconds(file.expire_time),
            "image_size_px": None if size is None else [size.width_px, size.height_px],
            "part_sizes_bytes": list(record.part_sizes),
        }
    ).encode()


def read_record(file_id: str, data: bytes) -> FileRecord:
    """Read what a file is."""
    values = json.loads(data)
    size = values["image_size_px"]
    file = StoredFile(
        name=f"{FILE_NAME_PREFIX}{file_id}",
        file_name=values["file_name"],
        content_type=values["content_type"],
        size_bytes=values["size_bytes"],
        digest=values["digest"],
        create_time=time_of_ms(values["create_time_ms"]),
        expire_time=time_of_ms(values["expire_time_ms"]),
        image_size=None if size is None else ImageSize(*size),
    )
    return FileRecord(file, tuple(values["part_sizes_bytes"]))


def write_upload(description: UploadDescription, file_id: str) -> bytes:
    """Write what an upload is."""
    to_live = description.time_to_live
    return json.dumps(
        {
            "file_id": file_id,
            "content_type": description.content_type,
            "file_name": description.file_name,
            "size_bytes": description.size_bytes,
            "digest": description.digest,
            "time_to_live_s": None if to_live is None else to_live.total_seconds(),
        }
    ).encode()


def read_upload(upload_id: str, data: bytes) -> tuple[UploadDescription, str]:
    """Read what an upload is, and the identifier of its file."""
    values = json.loads(data)
    to_live = values["time_to_live_s"]
    description = UploadDescription(
        upload_id=upload_id,
        content_type=values["content_type"],
        file_name=values["file_name"],
        size_bytes=values["size_bytes"],
        digest=values["digest"],
        time_to_live=None if to_live is None else timedelta(seconds=to_live),
    )
    return description, values["file_id"]


def time_of_ms(milliseconds: int) -> datetime:
    """Return a time from milliseconds since 1970."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


def whole_milliseconds(time: datetime) -> datetime:
    """Return a time as precisely as it is written."""
    return time_of_ms(_milliseconds(time))


def _milliseconds(time: datetime) -> int:
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
