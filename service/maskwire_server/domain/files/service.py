"""Files for callers: uploads that can be resumed, downloads from any byte, listing and removal.

The order of an upload's messages and what must agree is decided here; where bytes are kept, in the
stores behind `FileStore` and `UploadStore`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

from ..errors import ErrorCode, MaskwireError, invalid_field
from ..executor import BoundedExecutor
from ..quotas import UNLIMITED, InUse, QuotaLimit, TenantQuotas
from ..segmentation import Caller
from .store import DownloadUrl, FileLimits, FilePage, FileStore, StoredFile, check_content_type
from .uploads import Upload, UploadBeginning, UploadStore

PART_BYTES = 8 * 2**20
"""Bytes of an upload that are gathered before they are kept: what a broken stream sends again."""

_LEAST_BYTES = 2**16
"""What an upload must send in the time that it may send nothing, so that none just trickles."""

_RETRY_UPLOAD_AFTER = timedelta(seconds=1)

UploadMessage = UploadBeginning | bytes
"""A message of an upload's stream: the beginning first, then chunks."""


class FileService:
    """Answers calls about files on a file store and an upload store."""

    def __init__(
        self,
        files: FileStore,
        uploads: UploadStore,
        executor: BoundedExecutor,
        limits: FileLimits,
        *,
        upload_idle: timedelta,
        quotas: TenantQuotas = UNLIMITED,
    ) -> None:
        """Take the stores and the executor that computes digests.

        Args:
            files: Where files are.
            uploads: Where unfinished uploads are.
            executor: Computes digests.
            limits: What may be stored.
            upload_idle: How long an upload may send nothing before it is ended.
            quotas: How many uploads a tenant may have at a time.
        """
        self._files = files
        self._uploads = uploads
        self._executor = executor
        self._max_uploads = limits.max_uploads
        self._idle_s = upload_idle.total_seconds()
        self._quotas = quotas
        self._of_tenants = InUse(QuotaLimit.CONCURRENT_UPLOADS, "uploads")
        self._running = 0

    async def upload(
        self,
        messages: AsyncIterator[UploadMessage],
        caller: Caller,
        accepted: Callable[[], Awaitable[None]],
    ) -> StoredFile:
        """Receive a file, from its beginning or from where an earlier stream broke off.

        Args:
            messages: The beginning, then the bytes in order.
            caller: Whose file it is.
            accepted: Called once the beginning is found good, before any chunk is read.

        Raises:
            MaskwireError: `INVALID_ARGUMENT` naming the field and the rule, `PAYLOAD_TOO_LARGE`,
                `QUOTA_EXCEEDED`, `OVERLOADED`, `DEADLINE_EXCEEDED` for a stream that stands still,
                `STORAGE_UNAVAILABLE`.
        """
        most = self._quotas.of(caller.tenant).concurrent_uploads
        with self._of_tenants.one_more(caller.tenant, most), self._slot():
            arriving = _within(messages, self._idle_s)
            beginning = await anext(arriving, None)
            if not isinstance(beginning, UploadBeginning):
                raise invalid_field("description", "must be the first message of the stream")
            check_content_type(beginning.description.content_type, "description.content_type")
            opened = await self._uploads.open(caller, beginning.description)
            if isinstance(opened, StoredFile):
                return opened
            _check_offset(beginning.offset_bytes, opened)
            await accepted()
            receiver = _Receiver(self._uploads, self._executor, caller, opened)
            try:
                return await receiver.receive(arriving)
            finally:
                await receiver.close()

    async def get_upload(self, caller: Caller, upload_id: str) -> Upload:
        """Return an unfinished upload.

        Raises:
            MaskwireError: `FILE_NOT_FOUND`.
        """
        return await self._uploads.find(caller, upload_id)

    async def download(
        self, caller: Caller, name: str, offset: int, limit: int | None
    ) -> tuple[StoredFile, AsyncGenerator[bytes, None]]:
        """Return what a file is, and its bytes from an offset.

        Raises:
            MaskwireError: `FILE_NOT_FOUND`; `OUT_OF_RANGE` for an offset past the end.
        """
        file = await self._files.get(caller, name)
        if offset > file.size_bytes:
            raise MaskwireError(
                ErrorCode.OUT_OF_RANGE,
                f"offset_bytes: {offset} is past the end of the file at {file.size_bytes}",
            )
        return file, self._files.read(caller, name, offset, limit)

    async def get(self, caller: Caller, name: str) -> StoredFile:
        """Return what a file is.

        Raises:
            MaskwireError: `FILE_NOT_FOUND`.
        """
        return await self._files.get(caller, name)

    async def list(self, caller: Caller, page_size: int, page_token: str) -> FilePage:
        """Return a page of the caller's files, newest first.

        Raises:
            MaskwireError: `INVALID_ARGUMENT` for a page token that no page gave.
        """
        return await self._files.list(caller, page_size=page_size, page_token=page_token)

    async def delete(self, caller: Caller, name: str) -> None:
        """Remove a file.

        Raises:
            MaskwireError: `FILE_NOT_FOUND`.
        """
        await self._files.delete(caller, name)

    async def download_url(self, caller: Caller, name: str, time_to_live: timedelta) -> DownloadUrl:
        """Return a presigned URL of a file.

        Raises:
            MaskwireError: `FILE_NOT_FOUND`; `SOURCE_DISABLED` where the store has none.
        """
        return await self._files.presigned_url(caller, name, time_to_live)

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if self._running >= self._max_uploads:
            raise MaskwireError(
                ErrorCode.OVERLOADED,
                f"the server has its limit of {self._max_uploads} uploads (storage.max_uploads)",
                retry_after=_RETRY_UPLOAD_AFTER,
            )
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1


class _Receiver:
    """Receives the chunks of one stream; a part is kept while the next one arrives."""

    def __init__(
        self, uploads: UploadStore, executor: BoundedExecutor, caller: Caller, upload: Upload
    ) -> None:
        self._uploads = uploads
        self._executor = executor
        self._caller = caller
        self._upload = upload
        self._hasher = hashlib.sha256()
        # One buffer, not a list: a list of tiny chunks would take many times their size.
        self._gathered = bytearray()
        self._keeping: asyncio.Task[None] | None = None

    async def receive(self, messages: AsyncIterator[UploadMessage]) -> StoredFile:
        """Receive all chunks, check the whole, and make the file."""
        async for block in self._uploads.read(self._caller, self._upload):
            await self._executor.run(partial(self._hasher.update, block))
        size = self._upload.description.size_bytes
        position = self._upload.received_bytes
        async for message in messages:
            if isinstance(message, UploadBeginning):
                raise invalid_field("description", "must be the first message only")
            position += len(message)
            if position > size:
                raise invalid_field("chunk", f"there are more than description.size_bytes ({size})")
            self._gathered += message
            if len(self._gathered) >= PART_BYTES:
                await self._keep_part()
        await self._keep_part()
        await self._settle()
        if position < size:
            raise invalid_field(
                "description.size_bytes",
                f"the stream ended at {position} of {size} bytes; resume the upload there",
            )
        return await self._finish()

    async def close(self) -> None:
        """End the keeping of a part that nobody waits for any more."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)

    async def _keep_part(self) -> None:
        await self._settle()
        if self._gathered:
            gathered, self._gathered = self._gathered, bytearray()
            self._keeping = asyncio.create_task(self._keep(gathered))

    async def _keep(self, gathered: bytearray) -> None:
        part = (await self._executor.run(lambda: _freeze_and_hash(gathered, self._hasher))).value
        self._upload = await self._uploads.append(self._caller, self._upload, part)

    async def _settle(self) -> None:
        if self._keeping is not None:
            await self._keeping
            self._keeping = None

    async def _finish(self) -> StoredFile:
        expected = self._upload.description.digest
        found = f"sha256:{self._hasher.hexdigest()}"
        if found != expected:
            await self._uploads.discard(self._caller, self._upload)
            raise invalid_field(
                "description.digest", f"the bytes have {found}; the upload must begin anew"
            )
        return await self._uploads.finish(self._caller, self._upload)


def _freeze_and_hash(gathered: bytearray, hasher: hashlib._Hash) -> bytes:
    part = bytes(gathered)
    hasher.update(part)
    return part


def _check_offset(offset: int, upload: Upload) -> None:
    received = upload.received_bytes
    if offset != received:
        raise invalid_field(
            "description.offset_bytes",
            f"must be {received}, the number of bytes that the server holds, not {offset}",
        )


async def _within(
    messages: AsyncIterator[UploadMessage], idle_s: float
) -> AsyncIterator[UploadMessage]:
    """Yield messages, and give up on a stream that stands still or only trickles.

    What waits for a message is left to the end of the call: a cancelled read of grpc.aio leaks.
    """
    loop = asyncio.get_running_loop()
    waited_s, received = 0.0, 0
    while True:
        began = loop.time()
        arriving = asyncio.ensure_future(_next(messages))
        arriving.add_done_callback(_ignore)
        done, _ = await asyncio.wait((arriving,), timeout=idle_s)
        waited_s += loop.time() - began
        if not done:
            raise _too_slow(f"nothing for {idle_s:g} s")
        message = arriving.result()
        if message is None:
            return
        yield message
        received += len(message) if isinstance(message, bytes) else 0
        if waited_s > idle_s:
            if received < _LEAST_BYTES:
                raise _too_slow(f"less than {_LEAST_BYTES} bytes in {idle_s:g} s")
            waited_s, received = 0.0, 0


def _too_slow(sent: str) -> MaskwireError:
    return MaskwireError(
        ErrorCode.DEADLINE_EXCEEDED, f"the upload sent {sent} (storage.upload_idle_s); resume it"
    )


async def _next(messages: AsyncIterator[UploadMessage]) -> UploadMessage | None:
    return await anext(messages, None)


def _ignore(finished: asyncio.Future[UploadMessage | None]) -> None:
    if not finished.cancelled():
        finished.exception()
