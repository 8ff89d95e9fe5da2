"""The asyncio iterator over the frames of a tracked video: `_video` with `await`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any, Self

import grpc

from ._errors import error_from_rpc
from ._video_messages import VideoReader
from .errors import Cancelled
from .videos import TrackProgress, VideoFrame, VideoInfo, VideoSummary


class AsyncVideoTrack(AsyncIterator[VideoFrame]):
    """The frames of a stored video with their masks; `AsyncClient.track_video` makes it.

    It does what `VideoTrack` does. Iterating begins the call; so do `async with` and awaiting it,
    which also wait until the video is described.

    Args:
        begin: Reads the video and returns the call in progress.
        has_masks: Whether masks are sent at all.
        request_id: Identifier of the call.
    """

    def __init__(
        self, begin: Callable[[], Awaitable[Any]], *, has_masks: bool, request_id: str
    ) -> None:
        self.request_id = request_id
        self._begin = begin
        self._call: Any = None
        self._responses: AsyncIterator[Any] | None = None
        self._reader = VideoReader(has_masks=has_masks)
        self._early: VideoFrame | None = None
        self._is_closed = False

    @property
    def info(self) -> VideoInfo:
        """What the video is.

        Raises:
            RuntimeError: The server has not said so yet.
        """
        if self._reader.info is None:
            raise RuntimeError("the video is not described yet: await the call, or a first frame")
        return self._reader.info

    @property
    def progress(self) -> TrackProgress:
        """How far the work is, as of the latest response."""
        return self._reader.progress

    @property
    def summary(self) -> VideoSummary | None:
        """The end; None until the iteration has come there."""
        return self._reader.summary

    async def open(self) -> Self:
        """Begin the call and wait until the video is described.

        Raises:
            MaskwireError: The call failed.
        """
        if self._reader.info is None:
            self._early = await self._next_frame(until_info=True)
        return self

    async def __anext__(self) -> VideoFrame:
        """Return the next frame, waiting for it; raises as `VideoTrack.__next__`."""
        early, self._early = self._early, None
        frame = early if early is not None else await self._next_frame(until_info=False)
        if frame is None:
            raise StopAsyncIteration
        return frame

    async def close(self) -> None:
        """Cancel what is not done."""
        self._is_closed = True
        if self._call is not None:
            self._call.cancel()

    def __await__(self) -> Generator[Any, None, Self]:
        """Open it."""
        return self.open().__await__()

    async def __aenter__(self) -> Self:
        """Open it and return the iterator itself."""
        return await self.open()

    async def __aexit__(self, *exception: object) -> None:
        """Cancel what is not done."""
        await self.close()

    async def _next_frame(self, *, until_info: bool) -> VideoFrame | None:
        """Return the next frame; None at the end, or as soon as the video is described."""
        if self._is_closed:
            # grpc.aio would raise asyncio.CancelledError, as if this task had been cancelled.
            raise Cancelled("the call was closed", status="CANCELLED", request_id=self.request_id)
        try:
            if self._responses is None:
                self._call = await self._begin()
                self._responses = aiter(self._call)
            async for response in self._responses:
                frame = self._reader.receive(response)
                if frame is not None or (until_info and self._reader.info is not None):
                    return frame
        except grpc.RpcError as error:
            raise error_from_rpc(error, self.request_id) from None
        return None
