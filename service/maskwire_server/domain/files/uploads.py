"""Uploads that can be resumed: what one is, and where its bytes are held until it is finished.

An upload belongs to the caller's tenant and to the identifier that the caller chose for it. Its
bytes arrive in parts, each of which is kept as soon as it is there, so that any replica may go on.
"""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

from ..segmentation import Caller
from .store import StoredFile


@dataclass(frozen=True, slots=True)
class UploadDescription:
    """What is about to be uploaded.

    Attributes:
        upload_id: Identifier that the caller chose.
        content_type: Media type.
        file_name: Name of the file at the caller; only a suggestion.
        size_bytes: Size of the whole file, at least 1.
        digest: `sha256:` and the hexadecimal digest of the whole file.
        time_to_live: How long to keep the file; None means the server's limit.
    """

    upload_id: str
    content_type: str
    file_name: str
    size_bytes: int
    digest: str
    time_to_live: timedelta | None = None


@dataclass(frozen=True, slots=True)
class UploadBeginning:
    """The first message of an upload's stream: what it is, and where its first chunk belongs."""

    description: UploadDescription
    offset_bytes: int


@dataclass(frozen=True, slots=True)
class Upload:
    """An unfinished upload.

    Attributes:
        description: What is uploaded.
        file_id: Identifier that the file will have.
        part_sizes: Bytes of the parts that are held, in order.
    """

    description: UploadDescription
    file_id: str
    part_sizes: tuple[int, ...]

    @property
    def received_bytes(self) -> int:
        """Bytes that are held: where the next part belongs."""
        return sum(self.part_sizes)


class UploadStore(abc.ABC):
    """Holds the parts of uploads and makes files of them.

    Every method may raise `MaskwireError` with `STORAGE_UNAVAILABLE` when the store itself fails.
    """

    @abc.abstractmethod
    async def open(self, caller: Caller, description: UploadDescription) -> Upload | StoredFile:
        """Begin an upload or find it again; one that is finished gives its file.

        Raises:
            MaskwireError: `PAYLOAD_TOO_LARGE` beyond the largest file, `QUOTA_EXCEEDED` beyond the
                tenant's stored bytes, `INVALID_ARGUMENT` where size, digest or type are not those
                that the upload began with.
        """

    @abc.abstractmethod
    async def find(self, caller: Caller, upload_id: str) -> Upload:
        """Return an unfinished upload.

        Raises:
            MaskwireError: `FILE_NOT_FOUND` for one that is unknown, finished or expired.
        """

    @abc.abstractmethod
    def read(self, caller: Caller, upload: Upload) -> AsyncIterator[bytes]:
        """Yield the bytes that are held, in order."""

    @abc.abstractmethod
    async def append(self, caller: Caller, upload: Upload, part: bytes) -> Upload:
        """Keep the next part, and return the upload with it.

        Raises:
            MaskwireError: `QUOTA_EXCEEDED`; `INVALID_ARGUMENT` where another stream has sent this
                part already.
        """

    @abc.abstractmethod
    async def finish(self, caller: Caller, upload: Upload) -> StoredFile:
        """Make the file, whose bytes and digest have been checked, and return it."""

    @abc.abstractmethod
    async def discard(self, caller: Caller, upload: Upload) -> None:
        """Forget an upload and its bytes."""
