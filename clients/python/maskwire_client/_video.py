"""The blocking iterator over the frames of a tracked video; `_async_video` mirrors it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import grpc

from ._errors import error_from_rpc
from ._video_messages import VideoReader
from .errors import InternalError
from .videos import TrackProgress, VideoFrame, VideoInfo, VideoSummary


class VideoTrack(Iterator[VideoFrame]):
    """The frames of a stored video with their masks, as they come; `Client.track_video` makes it.

    Closing it, or leaving its `with` block, cancels what is not done, and frees the server's device
    within one frame. A video that is broken in the middle gives the frames before, and then raises
    `DataLoss`, with the summary at hand if the server sent one.

    Args:
        call: The call in progress.
        has_masks: Whether masks are sent at all.
        request_id: Identifier of the call.
    """

    def __init__(self, call: Any, *, has_masks: bool, request_id: str) -> None:
        self.request_id = request_id
        self._call = call
        self._reader = VideoReader(has_masks=has_masks)
        self._early: VideoFrame | None = None

    @property
    def info(self) -> VideoInfo:
        """What the video is; waits for the server's first response.

        Raises:
            MaskwireError: The call failed before.
        """
        if self._reader.info is None and self._early is None:
            self._early = self._next_frame(until_info=True)
        if self._reader.info is None:
            raise InternalError("the server did not describe the video")
        return self._reader.info

    @property
    def progress(self) -> TrackProgress:
        """How far the work is, as of the latest response."""
        return self._reader.progress

    @property
    def summary(self) -> VideoSummary | None:
        """The end; None until the iteration has come there."""
        return self._reader.summary

    def __next__(self) -> VideoFrame:
        """Return the next frame, waiting for it.

        Raises:
            DataLoss: The video is broken from here on.
            MaskwireError: The call failed.
        """
        early, self._early = self._early, None
        frame = early if early is not None else self._next_frame(until_info=False)
        if frame is None:
            raise StopIteration
        return frame

    def close(self) -> None:
        """Cancel what is not done."""
        self._call.cancel()

    def __enter__(self) -> Self:
        """Return the iterator itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Cancel what is not done."""
        self.close()

    def _next_frame(self, *, until_info: bool) -> VideoFrame | None:
        """Return the next frame; None at the end, or as soon as the video is described."""
        try:
            for response in self._call:
                frame = self._reader.receive(response)
                if frame is not None or (until_info and self._reader.info is not None):
                    return frame
        except grpc.RpcError as error:
            raise error_from_rpc(error, self.request_id) from None
        return None
