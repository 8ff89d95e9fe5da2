"""From the source of a video to a file that can be read here and now."""

from __future__ import annotations

import io
import tempfile
from functools import partial
from typing import BinaryIO, cast

from ..errors import ErrorCode, MaskwireError, too_large
from ..executor import BoundedExecutor
from ..files.store import FILE_NAME_PREFIX, FileStore
from ..segmentation import Caller
from .requests import InlineVideo, VideoSource


class VideoAccess:
    """Finds videos, scoped to the caller's tenant."""

    def __init__(
        self, files: FileStore | None, pixel_executor: BoundedExecutor, max_bytes: int
    ) -> None:
        """Take what is needed.

        Args:
            files: The store of uploaded files; None where there is none.
            pixel_executor: Where files are written.
            max_bytes: Largest video.
        """
        self._files = files
        self._pixels = pixel_executor
        self._max_bytes = max_bytes

    async def open(self, source: VideoSource, caller: Caller) -> tuple[BinaryIO, str]:
        """Return the video as a seekable file, which the caller closes, and the source's field.

        A stored file is copied into a temporary one.

        Raises:
            MaskwireError: `SOURCE_DISABLED` for URIs that this server does not fetch,
                `FILE_NOT_FOUND`, `PAYLOAD_TOO_LARGE`, `STORAGE_UNAVAILABLE`, `OVERLOADED`.
        """
        if isinstance(source, InlineVideo):
            return io.BytesIO(source.data), "video.data"
        if self._files is None or not source.uri.startswith(FILE_NAME_PREFIX):
            scheme = source.uri.partition(":")[0][:16]
            raise MaskwireError(
                ErrorCode.SOURCE_DISABLED,
                "video.uri: this server reads uploaded files (files/...) only, "
                f"not {scheme!r}; send the video's bytes or upload it",
            )
        return await self._copy(self._files, source.uri, caller), "video.uri"

    async def _copy(self, files: FileStore, name: str, caller: Caller) -> BinaryIO:
        stored = await files.get(caller, name)
        if stored.size_bytes > self._max_bytes:
            rule = f"{stored.size_bytes} bytes exceed the limit of {self._max_bytes}"
            raise too_large("video.uri", rule)
        opened = await self._pixels.run(tempfile.TemporaryFile)
        copy = cast(BinaryIO, opened.value)
        try:
            async for chunk in files.read(caller, name):
                await self._pixels.run(partial(copy.write, chunk), is_refusable=False)
        except BaseException:
            copy.close()
            raise
        return copy
