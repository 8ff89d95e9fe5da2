"""Files that the service keeps for its callers: what they are, and where they are kept.

What callers upload and what the service makes (pictures, artifacts of jobs) is one kind of thing: a
file with a name that the server made, of one tenant, until it expires. The interface is here, the
adapters are in `storage/`; uploads that can be resumed are in `uploads.py`.
"""

from __future__ import annotations

import abc
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ..errors import ErrorCode, MaskwireError, invalid_field
from ..geometry import ImageSize

if TYPE_CHECKING:  # results of segmentation may hold stored files
    from ..segmentation import Caller

FILE_NAME_PREFIX = "files/"
"""How the resource name of every stored file begins."""

MAX_CHUNK_BYTES = 2**20
"""Most bytes that `FileStore.read` yields at a time."""

_ID_BYTES = 16
_LONGEST_FILE_NAME = 255
_CONTENT_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,64}/[A-Za-z0-9!#$&^_.+-]{1,64}(;[ -~]*)?")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """What a stored file is; its bytes are read by its name.

    Attributes:
        name: Resource name, `files/` and 32 hexadecimal digits that the server drew.
        file_name: Name to save it under, without folders; only a suggestion.
        content_type: Media type, e.g. `image/png`.
        size_bytes: Size.
        digest: `sha256:` and the hexadecimal digest of the bytes.
        create_time: When it was stored, in UTC.
        expire_time: When it is gone, in UTC.
        image_size: Size of the picture, for pictures.
        uri: Address of the bytes outside this service; empty where there is none.
    """

    name: str
    file_name: str
    content_type: str
    size_bytes: int
    digest: str
    create_time: datetime
    expire_time: datetime
    image_size: ImageSize | None = None
    uri: str = ""


@dataclass(frozen=True, slots=True)
class FilePage:
    """A page of files, newest first, and the token of the next page, empty at the end."""

    files: tuple[StoredFile, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class DownloadUrl:
    """A presigned URL: whoever has it can fetch the file until `expire_time` (UTC)."""

    url: str
    expire_time: datetime


@dataclass(frozen=True, slots=True)
class FileLimits:
    """What may be stored, and for how long.

    Attributes:
        max_file_bytes: Largest file.
        max_tenant_bytes: Most bytes that a tenant may have stored; every file counts as at least
            4096, which bounds their number too.
        time_to_live: How long files are kept, by default and at most.
        upload_time_to_live: How long an upload on which nothing happens is kept.
        max_uploads: Uploads that run at a time, each of which holds up to 24 MiB of memory.
    """

    max_file_bytes: int
    max_tenant_bytes: int
    time_to_live: timedelta
    upload_time_to_live: timedelta
    max_uploads: int


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep removed and what it left.

    Attributes:
        expired_files: Files that had expired.
        leftovers: Unfinished uploads that nobody resumed, and remains of crashes.
        stored_bytes: Bytes of all tenants that are left.
    """

    expired_files: int
    leftovers: int
    stored_bytes: int


class FileStore(abc.ABC):
    """Keeps files by name, each within the caller's tenant.

    A file of another tenant, one that expired and one that never was are the same: not found. Every
    method may raise `MaskwireError` with `STORAGE_UNAVAILABLE` when the store itself fails.
    """

    @abc.abstractmethod
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
        """Store a file under a new name; it exists once this returns, wholly or not at all.

        Args:
            caller: Whose tenant the file belongs to.
            data: The bytes, or chunks of them; chunks are not gathered in memory.
            content_type: Media type.
            file_name: Name to suggest to those who save it; folders in it are dropped.
            image_size: Size of the picture, for pictures.
            time_to_live: How long to keep it; None and what is longer mean the server's limit.
            file_id: 32 hexadecimal digits for its name that nobody else stores under, such as those
                of a job's attempt; None draws them.

        Raises:
            MaskwireError: `PAYLOAD_TOO_LARGE` beyond the largest file, `QUOTA_EXCEEDED` beyond the
                tenant's stored bytes.
        """

    @abc.abstractmethod
    async def get(self, caller: Caller, name: str) -> StoredFile:
        """Return what a file is.

        Raises:
            MaskwireError: `FILE_NOT_FOUND`.
        """

    @abc.abstractmethod
    def read(
        self, caller: Caller, name: str, offset: int = 0, limit: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a file in chunks of at most `MAX_CHUNK_BYTES`.

        Args:
            caller: Whose file it is.
            name: Resource name of the file.
            offset: Byte to start at; the size of the file gives nothing.
            limit: Most bytes to yield; None means all.

        Raises:
            MaskwireError: `FILE_NOT_FOUND`; `OUT_OF_RANGE` for an offset past the end.
        """

    @abc.abstractmethod
    async def list(self, caller: Caller, *, page_size: int, page_token: str = "") -> FilePage:
        """Return a page of the tenant's files, newest first.

        Raises:
            MaskwireError: `INVALID_ARGUMENT` for a page token that no page gave.
        """

    @abc.abstractmethod
    async def delete(self, caller: Caller, name: str) -> None:
        """Remove a file at once.

        Raises:
            MaskwireError: `FILE_NOT_FOUND`.
        """

    @abc.abstractmethod
    async def presigned_url(
        self, caller: Caller, name: str, time_to_live: timedelta
    ) -> DownloadUrl:
        """Return a URL that fetches the file without this service, until then or its expiry.

        Raises:
            MaskwireError: `FILE_NOT_FOUND`; `SOURCE_DISABLED` where the store has no such URLs.
        """

    @abc.abstractmethod
    async def sweep(self) -> Swept:
        """Remove what expired and what crashes and vanished uploaders left, of all tenants."""


def new_file_id() -> str:
    """Draw the identifier of a new file: 128 random bits in hexadecimal."""
    return secrets.token_hex(_ID_BYTES)


def file_not_found(name: str) -> MaskwireError:
    """Make the error for a file that the caller's tenant does not have, whatever the reason."""
    return MaskwireError(ErrorCode.FILE_NOT_FOUND, f"no file {name} is stored here", resource=name)


def suggested_name(file_name: str) -> str:
    """Return the last part of a path of any system, without what is not printable."""
    last = re.split(r"[/\\]", file_name)[-1]
    name = "".join(one for one in last if one.isprintable())[:_LONGEST_FILE_NAME]
    return "" if name in (".", "..") else name


def check_content_type(content_type: str, field: str) -> None:
    """Refuse what is no media type.

    Raises:
        MaskwireError: `INVALID_ARGUMENT`.
    """
    if len(content_type) > 127 or not _CONTENT_TYPE.fullmatch(content_type):
        raise invalid_field(field, "must be a media type, for example video/mp4")
