"""What the file calls of both clients share: what is uploaded, where downloads go, when to go on.

Nothing here waits for the network; reading and hashing files blocks, so the asyncio client does it
in a thread.
"""

from __future__ import annotations

import hashlib
import io
import mimetypes
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias

from maskwire.v1 import file_pb2

from . import errors
from ._calls import Attempt, Deadline, Pause, Steps
from .results import StoredFile

CHUNK_BYTES = 2**20
"""Bytes of a file in one message of an upload."""

ACCEPTED_KEY = "maskwire-upload-accepted"
"""Initial metadata by which the server says that it takes an upload's bytes."""

MAX_RESUMES = 8
"""How often a broken upload or download goes on by itself."""

MAX_PAGE = 1000

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0

UploadInput: TypeAlias = "str | os.PathLike[str] | bytes"
"""What can be uploaded: a path, or the bytes themselves."""


@dataclass(frozen=True, slots=True)
class UploadSource:
    """A file to upload, with its description.

    Attributes:
        file: A path, or bytes.
        description: What it is.
        is_resumed: Whether an earlier call may have begun this upload.
    """

    file: Path | bytes
    description: file_pb2.UploadDescription
    is_resumed: bool

    def open(self) -> BinaryIO:
        """Open it for reading."""
        return io.BytesIO(self.file) if isinstance(self.file, bytes) else self.file.open("rb")

    def messages(
        self, offset: int, failures: list[OSError]
    ) -> Iterator[file_pb2.UploadFileRequest]:
        """Yield the messages of an upload from an offset on.

        What reading the file raises is put into `failures`: gRPC itself would hide it.
        """
        yield self.first_message(offset)
        try:
            with self.open() as opened:
                opened.seek(offset)
                while chunk := opened.read(CHUNK_BYTES):
                    yield file_pb2.UploadFileRequest(chunk=chunk)
        except OSError as error:
            failures.append(error)
            raise

    def first_message(self, offset: int) -> file_pb2.UploadFileRequest:
        """Return the message that describes the upload."""
        described = file_pb2.UploadDescription()
        described.CopyFrom(self.description)
        described.offset_bytes = offset
        return file_pb2.UploadFileRequest(description=described)


def upload_source(
    file: UploadInput,
    *,
    content_type: str,
    file_name: str,
    time_to_live: timedelta | None,
    upload_id: str | None,
) -> UploadSource:
    """Describe a file to upload; reads and hashes it.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is empty.
    """
    taken = file if isinstance(file, bytes) else Path(file)
    name = file_name or ("" if isinstance(taken, bytes) else taken.name)
    digest, size = _digest(taken)
    if size == 0:
        raise ValueError(f"{name or 'the file'} is empty: there is nothing to upload")
    description = file_pb2.UploadDescription(
        upload_id=upload_id or str(uuid.uuid4()),
        content_type=content_type or mimetypes.guess_type(name)[0] or "application/octet-stream",
        file_name=name,
        size_bytes=size,
        digest=digest,
    )
    if time_to_live is not None:
        description.time_to_live.FromTimedelta(time_to_live)
    return UploadSource(taken, description, is_resumed=upload_id is not None)


class Sink(Protocol):
    """Whatever takes bytes."""

    def write(self, data: bytes, /) -> int:
        """Take the next bytes; return how many they are."""


@dataclass(slots=True)
class Download:
    """A download in progress: where its bytes go, and how many are there.

    Attributes:
        sink: Receives the bytes.
        position: Bytes received.
        file: What the file is, once the server has said it.
    """

    sink: Sink
    position: int = 0
    file: file_pb2.StoredFile | None = None
    _hasher: Any = field(default_factory=hashlib.sha256)

    def request(self, name: str) -> file_pb2.DownloadFileRequest:
        """Return the request for the bytes that are missing."""
        return file_pb2.DownloadFileRequest(name=name, offset_bytes=self.position)

    def resume(self, held: BinaryIO) -> None:
        """Go on after bytes of an earlier download, which are read, and left at their end."""
        while block := held.read(CHUNK_BYTES):
            self._hasher.update(block)
            self.position += len(block)

    def take(self, answer: file_pb2.DownloadFileResponse) -> None:
        """Take a message of the stream."""
        if answer.HasField("file"):
            self.file = answer.file
        if answer.chunk:
            self.sink.write(answer.chunk)
            self._hasher.update(answer.chunk)
            self.position += len(answer.chunk)

    def finished(self) -> file_pb2.StoredFile:
        """Return what the file is, all of whose bytes are there.

        Raises:
            DataLoss: The bytes are not those that the server's digest says.
        """
        found = f"sha256:{self._hasher.hexdigest()}"
        if self.file is None or self.file.digest != found:
            raise errors.DataLoss(
                "the bytes that came are not those of the stored file", status="DATA_LOSS"
            )
        return self.file


def resuming_steps(deadline: Deadline, overload_retries: int) -> Steps[Any]:
    """Attempt a transfer, and go on with it where the connection broke or the server was full."""
    overloads_left, resumes_left = overload_retries, MAX_RESUMES
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            response = yield Attempt(deadline.remaining_s())
        except (errors.Unavailable, errors.InvalidArgument) as error:
            if resumes_left == 0 or not deadline.allows(pause_s) or not _is_broken(error):
                raise
            wait_s, resumes_left = pause_s, resumes_left - 1
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        except errors.ResourceExhausted as error:
            if error.retry_after is None and not isinstance(error, errors.Overloaded):
                raise  # waiting alone would not help
            wait_s = (error.retry_after or timedelta(seconds=1)).total_seconds()
            if overloads_left == 0 or not deadline.allows(wait_s):
                raise
            overloads_left -= 1
        else:
            return response
        yield Pause(wait_s)


def file_name_of(file: StoredFile | str) -> str:
    """Return the resource name of a stored file."""
    return file.name if isinstance(file, StoredFile) else file


def partial_path(path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Return where a download goes, and where its bytes are until all of them are there."""
    whole = Path(path)
    return whole, whole.with_name(f"{whole.name}.part")


def _is_broken(error: errors.MaskwireError) -> bool:
    """Whether a transfer may go on: the server may still be writing what a lost stream sent."""
    fields = {violation.field for violation in error.violations}
    return isinstance(error, errors.Unavailable) or fields == {"description.offset_bytes"}


def _digest(file: Path | bytes) -> tuple[str, int]:
    if isinstance(file, bytes):
        return f"sha256:{hashlib.sha256(file).hexdigest()}", len(file)
    with file.open("rb") as opened:
        return f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}", opened.tell()
