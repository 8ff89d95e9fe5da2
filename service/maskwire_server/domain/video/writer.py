"""Overlay videos: MP4 files that are encoded frame by frame into a bounded temporary file.

Everything here blocks.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from fractions import Fraction
from typing import IO

import av
import cv2
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ..errors import too_large
from ..geometry import ImageSize
from ..overlay import OverlayOptions, render_overlay
from ..packed_masks import PackedMask
from .opened import VideoPicture

OVERLAY_VIDEO_TYPE = "video/mp4"
"""Media type of overlay videos."""

OVERLAY_VIDEO_NAME = "overlay.mp4"
"""Name to save overlay videos under."""

_CODECS = ("libx264", "mpeg4")
_TICKS_PER_S = 90_000  # the clock of MPEG video, which every frame rate divides well enough
_LARGEST_RATE = 120
_OPTIONS = {
    "libx264": {"preset": "veryfast", "crf": "20", "threads": "1"},
    "mpeg4": {"qscale": "4"},
}


class _BoundedFile:
    """A temporary file that refuses to grow beyond a limit."""

    def __init__(self, max_bytes: int) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `close`
        self._max_bytes = max_bytes
        self.overflowed = False

    def write(self, data: bytes) -> int:
        if self._file.tell() + len(data) > self._max_bytes:
            self.overflowed = True
            raise OSError("the file exceeds its limit")
        return self._file.write(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def close(self) -> None:
        self._file.close()


class OverlayVideoWriter:
    """Makes one overlay video; frames come in the order in which they are shown.

    It begins with the first frame; the others follow as far apart as they were.
    """

    def __init__(self, size: ImageSize, frames_per_second: float, max_bytes: int) -> None:
        """Begin a video.

        Args:
            size: Size of the frames; odd sides grow by one pixel, which H.264 needs.
            frames_per_second: About how many there will be; their own times decide.
            max_bytes: How large the file may become.
        """
        self._max_bytes = max_bytes
        self._file = _BoundedFile(max_bytes)
        self._padding = (size.height_px % 2, size.width_px % 2)
        self._container = av.open(self._file, "w", format="mp4")
        self._stream = self._add_stream(size, frames_per_second)
        self._start_s: float | None = None
        self._latest_tick = -1

    def add(self, picture: VideoPicture, masks_by_object: Mapping[int, PackedMask]) -> None:
        """Lay masks over a frame and encode it.

        Raises:
            MaskwireError: `PAYLOAD_TOO_LARGE` where the file outgrows its limit.
        """
        drawn = render_overlay(picture.pixels, masks_by_object, OverlayOptions())
        frame = av.VideoFrame.from_ndarray(self._padded(drawn), format="rgb24")
        if self._start_s is None:
            self._start_s = picture.time_s
        # Frames of a broken clock are kept apart; nothing else would be encoded.
        tick = round((picture.time_s - self._start_s) * _TICKS_PER_S)
        self._latest_tick = max(self._latest_tick + 1, tick)
        frame.pts, frame.time_base = self._latest_tick, Fraction(1, _TICKS_PER_S)
        self._write(frame)

    def finish(self) -> bytes:
        """End the video and return the file.

        Raises:
            MaskwireError: `PAYLOAD_TOO_LARGE` where the file outgrows its limit.
        """
        self._write(None)
        try:
            self._container.close()
        except (OSError, av.FFmpegError) as error:
            raise self._explained(error) from error
        self._file.seek(0)
        return self._file.read()

    def close(self) -> None:
        """Free everything, whether the video was finished or not."""
        try:
            self._container.close()
        except (OSError, av.FFmpegError):  # its file was full
            pass
        finally:
            self._file.close()

    def _add_stream(self, size: ImageSize, frames_per_second: float) -> VideoStream:
        rate = Fraction(min(max(frames_per_second, 1.0), _LARGEST_RATE)).limit_denominator(1001)
        codec = next(name for name in _CODECS if name in av.codecs_available)
        stream = self._container.add_stream(codec, rate=rate, options=_OPTIONS[codec])
        if not isinstance(stream, VideoStream):
            raise TypeError(f"{codec} encodes no video")
        stream.width = size.width_px + self._padding[1]
        stream.height = size.height_px + self._padding[0]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, _TICKS_PER_S)
        stream.codec_context.thread_count = 1  # side by side runs what the executor decides
        return stream

    def _padded(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._padding == (0, 0):
            return pixels
        bottom, right = self._padding
        padded = cv2.copyMakeBorder(pixels, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        return np.asarray(padded, np.uint8)

    def _write(self, frame: av.VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except (OSError, av.FFmpegError) as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> Exception:
        if not self._file.overflowed:
            return error
        return too_large(
            "render_overlay",
            f"the overlay video would exceed the limit of {self._max_bytes} bytes; "
            "ask for fewer frames",
        )
