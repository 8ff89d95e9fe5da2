"""An opened video as those who track through it see it, wherever its decoder runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .requests import VideoInfo


@dataclass(frozen=True, slots=True)
class VideoLimits:
    """What a video may be at most.

    Attributes:
        max_bytes: Size of the encoded file.
        max_pixels: Width times height of a frame.
        max_side_px: Width and height each.
        max_frames: Frames in all.
        max_duration_s: How long it may be, in seconds.
        reverse_buffer_bytes: Memory for decoded frames when going backward; one frame is always
            held.
    """

    max_bytes: int
    max_pixels: int
    max_side_px: int
    max_frames: int
    max_duration_s: float
    reverse_buffer_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class VideoPicture:
    """A decoded frame.

    Attributes:
        index: Its number, counted from 0 in display order.
        time_s: When it is shown, in seconds from the first frame on.
        pixels: Shape (height, width, 3), uint8, RGB, contiguous, upright.
    """

    index: int
    time_s: float
    pixels: NDArray[np.uint8]


class PictureStream(ABC):
    """Frames on their way out of an `OpenedVideo`; another one of the same video ends it.

    Attributes:
        is_at_end: Whether the last frame was read.
    """

    is_at_end: bool

    @abstractmethod
    def read(self, patience_s: float) -> VideoPicture | None:
        """Return the next frame; None where it takes longer than that, or at the end.

        Raises:
            MaskwireError: `DATA_LOSS` where the file is broken, `INVALID_ARGUMENT` where its
                decoder fails altogether.
        """


class OpenedVideo(ABC):
    """An open video.

    Every method but `close` is called by one thread at a time; `close` waits for the others.

    Attributes:
        info: What the video is.
        field: Path of the video in the request, for errors.
    """

    info: VideoInfo
    field: str

    @property
    @abstractmethod
    def readable_frames(self) -> int:
        """Frames that are there to be decoded."""

    @property
    @abstractmethod
    def is_whole(self) -> bool:
        """Whether all of the file is there; what is there may still turn out to be broken."""

    @abstractmethod
    def pictures(self, order: range) -> PictureStream:
        """Return the frames whose numbers `order` counts up or down, to be read one by one.

        Going down costs more: decoding starts at keyframes and goes up, and only so many frames
        fit the buffer; a stretch between keyframes longer than that is decoded several times.
        """

    @abstractmethod
    def close(self) -> None:
        """Free everything; waits for a read that is under way."""
