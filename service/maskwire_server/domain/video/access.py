"""From the source of a video to a file that can be read here and now."""

from __future__ import annotations

import io
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import BinaryIO, cast

from ..errors import ErrorCode, MaskwireError, too_large
from ..executor import BoundedExecutor
from ..files.store import FILE_NAME_PREFIX, FileStore
from ..remote_sources import RemoteSources, WantedContent
from ..segmentation import Caller
from .format import VideoFormat, identify_video
from .requests import InlineVideo, VideoSource

_URI_FIELD = "video.uri"
_MEDIA_TYPES = frozenset(known.value for known in VideoFormat) | {"application/mp4"}


class VideoAccess:
    """Finds videos, scoped to the caller's tenant."""

    def __init__(
        self,
        files: FileStore | None,
        pixel_executor: BoundedExecutor,
        max_bytes: int,
        sources: RemoteSources | None = None,
    ) -> None:
        """Take what is needed.

        Args:
            files: The store of uploaded files; None where there is none.
            pixel_executor: Where files are written.
            max_bytes: Largest video.
            sources: Fetches from elsewhere; None where nothing is.
        """
        self._sources = sources
        self._files = files
        self._pixels = pixel_executor
        self._max_bytes = max_bytes

    async def open(self, source: VideoSource, caller: Caller) -> tuple[BinaryIO, str]:
        """Return the video as a seekable file, which the caller closes, and the source's field.

        A stored file is copied into a temporary one, and so is what is fetched.

        Raises:
            MaskwireError: `SOURCE_DISABLED` for URIs that this server does not fetch,
                `FILE_NOT_FOUND`, `PAYLOAD_TOO_LARGE`, `STORAGE_UNAVAILABLE`, `OVERLOADED`; what
                `RemoteSources.copy` raises.
        """
        if isinstance(source, InlineVideo):
            return io.BytesIO(source.data), "video.data"
        if self._files is not None and source.uri.startswith(FILE_NAME_PREFIX):
            return await self._copy(self._files, source.uri, caller), _URI_FIELD
        if self._sources is None:
            scheme = source.uri.partition(":")[0][:16]
            raise MaskwireError(
                ErrorCode.SOURCE_DISABLED,
                f"{_URI_FIELD}: this server reads uploaded files (files/...) only, "
                f"not {scheme!r}; send the video's bytes or upload it",
            )
        return await self._fetch(self._sources, source.uri, caller), _URI_FIELD

    async def _copy(self, files: FileStore, name: str, caller: Caller) -> BinaryIO:
        stored = await files.get(caller, name)
        if stored.size_bytes > self._max_bytes:
            rule = f"{stored.size_bytes} bytes exceed the limit of {self._max_bytes}"
            raise too_large(_URI_FIELD, rule)
        async with self._temporary_file() as copy:
            async for chunk in files.read(caller, name):
                await self._write(copy, chunk)
            return copy

    async def _fetch(self, sources: RemoteSources, uri: str, caller: Caller) -> BinaryIO:
        def check_start(start: bytes) -> None:
            identify_video(io.BytesIO(start), field=_URI_FIELD)

        wanted = WantedContent(_URI_FIELD, self._max_bytes, _MEDIA_TYPES, check_start)
        async with self._temporary_file() as copy:
            await sources.copy(uri, wanted, caller, partial(self._write, copy))
            return copy

    async def _write(self, file: BinaryIO, chunk: bytes) -> None:
        await self._pixels.run(partial(file.write, chunk), is_refusable=False)

    @asynccontextmanager
    async def _temporary_file(self) -> AsyncIterator[BinaryIO]:
        """Give a file to write into, which is closed where that fails."""
        file = cast(BinaryIO, (await self._pixels.run(tempfile.TemporaryFile)).value)
        try:
            yield file
        except BaseException:
            file.close()
            raise
