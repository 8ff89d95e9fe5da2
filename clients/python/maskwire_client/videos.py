"""What tracking through stored video takes and gives; `track_video` of the clients does it."""

from __future__ import annotations

import enum
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

from .errors import MaskwireError
from .geometry import ImageSize
from .images import ImageReference
from .results import ProcessingInfo, StoredFile
from .sessions import TrackedMask

__all__ = [
    "OverlayVideo",
    "TrackDirection",
    "TrackProgress",
    "TrackedVideo",
    "VideoFrame",
    "VideoInfo",
    "VideoInput",
    "VideoSummary",
]

VideoInput: TypeAlias = str | os.PathLike[str] | bytes | bytearray | ImageReference
"""A video: path, or encoded bytes, which are sent with the call (for long ones upload first); a URI
or the name of an uploaded file, as a string with a scheme or as an `ImageReference`."""


class TrackDirection(enum.Enum):
    """Which way through the video to go from the prompts."""

    FORWARD = "forward"
    BACKWARD = "backward"
    BOTH = "both"
    """Forward, then backward."""


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a video is.

    Attributes:
        size: Of its frames.
        frame_count: Frames in all; 0 where the container does not tell.
        frames_per_second: On average.
        duration: How long it is.
        digest: `sha256:` and the digits of the encoded bytes' digest.
    """

    size: ImageSize
    frame_count: int
    frames_per_second: float
    duration: timedelta
    digest: str


@dataclass(frozen=True, slots=True)
class TrackProgress:
    """How far the work is; `frames_total` is 0 while it is not known."""

    frames_done: int
    frames_total: int


@dataclass(frozen=True, slots=True, eq=False)
class VideoFrame:
    """The masks of one frame of a video; iterating gives them too.

    Attributes:
        frame_index: The frame, counted from 0 in display order.
        time_s: When it is shown, in seconds from the start of the video.
        masks: One for each object.
        progress: How far the work is.
    """

    frame_index: int
    time_s: float
    masks: tuple[TrackedMask, ...]
    progress: TrackProgress

    def __iter__(self) -> Iterator[TrackedMask]:
        """Give the masks."""
        return iter(self.masks)

    def __len__(self) -> int:
        """Number of masks."""
        return len(self.masks)


@dataclass(frozen=True, slots=True)
class OverlayVideo:
    """The overlay video.

    Attributes:
        content_type: For example `video/mp4`.
        file_name: Name to save it under.
        data: The bytes; None where it is stored on the server.
        file: Where it is stored; None where it came with the answer.
    """

    content_type: str
    file_name: str
    data: bytes | None = None
    file: StoredFile | None = None

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the bytes to a file and return its path.

        Raises:
            ValueError: The bytes are stored on the server.
        """
        if self.data is None:
            raise ValueError(f"the video is stored on the server: {self.file}")
        target = Path(path)
        target.write_bytes(self.data)
        return target


@dataclass(frozen=True, slots=True)
class VideoSummary:
    """The end of a tracked video.

    Attributes:
        info: How the result came about.
        overlay: The overlay video, where one was asked for.
        decode_error: What stopped decoding before the end of the range, where something did.
    """

    info: ProcessingInfo
    overlay: OverlayVideo | None = None
    decode_error: MaskwireError | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrackedVideo:
    """What a queued `track_video` made; `TrackedVideoResult` also reads the frames.

    Attributes:
        video: What the video is.
        summary: The end.
        file: The frames, each a message of the contract (`VideoFrameResult`) in protobuf's
            delimited form.
    """

    video: VideoInfo
    summary: VideoSummary
    file: StoredFile
