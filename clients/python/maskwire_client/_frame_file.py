"""Reads the file of frames that a queued `TrackVideo` leaves, in whatever pieces it comes."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.message import DecodeError

from maskwire.v1 import video_pb2

from ._mask_memory import MaskMemory
from ._video_messages import video_frame
from .errors import DataLoss
from .videos import TrackProgress, VideoFrame, VideoInfo

_LONGEST_PREFIX = 10  # bytes of a varint


class FrameFile:
    """Takes the bytes of the file and gives the frames that are complete.

    Args:
        info: What the video is.
    """

    def __init__(self, info: VideoInfo) -> None:
        self._info = info
        self._memory = MaskMemory(has_masks=True)
        self._rest = bytearray()
        self._count = 0

    def write(self, data: bytes, /) -> int:
        """Take the next bytes."""
        self._rest += data
        return len(data)

    def complete(self) -> Iterator[VideoFrame]:
        """Yield the frames whose bytes are all there.

        Raises:
            DataLoss: The bytes are no frames.
        """
        position = 0
        while (message := self._message(position)) is not None:
            start, end = message
            try:
                frame = video_pb2.VideoFrameResult.FromString(bytes(self._rest[start:end]))
            except DecodeError as error:
                raise DataLoss("the file holds no frames", status="DATA_LOSS") from error
            position = end
            self._count += 1
            progress = TrackProgress(self._count, 0)
            yield video_frame(frame, self._info, self._memory, progress)
        del self._rest[:position]

    def finish(self) -> None:
        """Note that there are no more bytes.

        Raises:
            DataLoss: The last frame is cut off.
        """
        if self._rest:
            raise DataLoss("the last frame of the file is cut off", status="DATA_LOSS")

    def _message(self, position: int) -> tuple[int, int] | None:
        """Return where the message at a position starts and ends; None while it is not there."""
        size = 0
        for number, byte in enumerate(self._rest[position : position + _LONGEST_PREFIX]):
            size |= (byte & 0x7F) << (7 * number)
            if byte < 0x80:
                start = position + number + 1
                return (start, start + size) if start + size <= len(self._rest) else None
        if len(self._rest) - position >= _LONGEST_PREFIX:
            raise DataLoss("the file holds no frames", status="DATA_LOSS")
        return None
