"""Writes pictures as a video file, MP4 or GIF, one by one as they come."""

from __future__ import annotations

import abc
import importlib
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .drawing import PALETTE
from .exit_codes import ExitCode
from .failures import CommandFailure

if TYPE_CHECKING:
    import av

__all__ = ["GifWriter", "Mp4Writer", "VideoWriter", "video_library"]

_MP4_TIME_BASE = Fraction(1, 90_000)
_MP4_QUALITY = "20"  # x264's constant rate factor: 18 cannot be told from the source, 23 is usual
_GIF_TIME_BASE = Fraction(1, 100)  # the format counts hundredths of a second
_GIF_SHORTEST = 2  # viewers take a shorter delay for a mistake and play slowly
_GIF_WIDTH_PX = 480
_GIF_PICTURES_PER_PALETTE = 50
_OBJECT_SHADES = [
    tuple((channel + ground) // 2 for channel in colour)
    for colour in PALETTE
    for ground in (0, 128, 255)
]


def video_library() -> Any:
    """Return the module `av`, which a plain client install does not have.

    Raises:
        CommandFailure: It is not installed.
    """
    try:
        return importlib.import_module("av")
    except ModuleNotFoundError as error:
        raise CommandFailure(
            "this command reads and writes video, which needs av",
            ExitCode.USAGE,
            "install it with: pip install 'maskwire[video]'",
        ) from error


class VideoWriter(abc.ABC):
    """A video file in the making: a context manager that finishes the file, whatever happens.

    Args:
        path: The file; its folder must exist.

    Raises:
        CommandFailure: The package `av` is not installed.
        OSError: The file cannot be written.
    """

    _TIME_BASE: Fraction
    _SHORTEST = 1

    def __init__(self, path: Path) -> None:
        self._library = video_library()
        self._container: av.container.OutputContainer = self._library.open(str(path), "w")
        self._stream: av.VideoStream | None = None
        self._latest: int | None = None

    def add(self, pixels: NDArray[np.uint8], time_s: float) -> None:
        """Append a picture.

        Args:
            pixels: Shape (height, width, 3), uint8, RGB; the same for all pictures.
            time_s: When it is shown, from any zero; later than the one before, or else right after.
        """
        frame = self._frame(pixels)
        if self._stream is None:
            self._stream = self._begin(frame)
        pts = round(time_s / self._TIME_BASE)
        if self._latest is not None:
            pts = max(pts, self._latest + self._SHORTEST)
        self._latest = frame.pts = pts
        frame.time_base = self._TIME_BASE
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file; one without pictures plays nowhere."""
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))
        self._container.close()

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Finish the file, so that what came before a failure can be seen."""
        self.close()

    @abc.abstractmethod
    def _frame(self, pixels: NDArray[np.uint8]) -> av.VideoFrame:
        """Return a picture in the form that the encoder takes."""

    @abc.abstractmethod
    def _begin(self, frame: av.VideoFrame) -> av.VideoStream:
        """Return the file's stream, for pictures like this first one."""


class Mp4Writer(VideoWriter):
    """H.264 in MP4, as every player and browser shows it."""

    _TIME_BASE = _MP4_TIME_BASE

    def _frame(self, pixels: NDArray[np.uint8]) -> av.VideoFrame:
        height, width = pixels.shape[:2]
        if height % 2 or width % 2:  # colour is stored for blocks of two by two pixels
            pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame: av.VideoFrame = self._library.VideoFrame.from_ndarray(
            np.ascontiguousarray(pixels), format="rgb24"
        )
        return frame

    def _begin(self, frame: av.VideoFrame) -> av.VideoStream:
        options = {"crf": _MP4_QUALITY, "preset": "veryfast"}
        stream: av.VideoStream = self._container.add_stream("libx264", rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
        stream.codec_context.time_base = _MP4_TIME_BASE
        return stream


class GifWriter(VideoWriter):
    """A GIF at most 480 pixels wide, of 256 colours that are chosen anew every 50 pictures.

    While the colours stay, only what moved is stored: a tenth of the size where the camera rests.
    """

    _TIME_BASE = _GIF_TIME_BASE
    _SHORTEST = _GIF_SHORTEST

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._pictures = 0
        self._palette = Image.new("P", (1, 1))

    def _frame(self, pixels: NDArray[np.uint8]) -> av.VideoFrame:
        picture = Image.fromarray(pixels)
        if picture.width > _GIF_WIDTH_PX:
            height = max(1, round(picture.height * _GIF_WIDTH_PX / picture.width))
            picture = picture.resize((_GIF_WIDTH_PX, height), Image.Resampling.LANCZOS)
        if self._pictures % _GIF_PICTURES_PER_PALETTE == 0:
            self._palette = _palette(picture)
        self._pictures += 1
        indexed = picture.quantize(palette=self._palette, dither=Image.Dither.NONE)
        colours = np.array(self._palette.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
        palette = np.full((256, 4), 255, dtype=np.uint8)
        palette[: len(colours), 1:] = colours
        frame: av.VideoFrame = self._library.VideoFrame.from_ndarray(
            (np.asarray(indexed), palette), format="pal8"
        )
        return frame

    def _begin(self, frame: av.VideoFrame) -> av.VideoStream:
        stream: av.VideoStream = self._container.add_stream("gif", rate=100)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "pal8"
        stream.codec_context.time_base = _GIF_TIME_BASE
        return stream


def _palette(picture: Image.Image) -> Image.Image:
    """Return an image whose palette suits a picture and objects that may yet appear in it."""
    kept = 256 - len(_OBJECT_SHADES)
    # 2 ms; the default method takes 140 ms for what looks the same.
    indexed = picture.quantize(kept, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    colours = (indexed.getpalette("RGB") or [])[: 3 * kept]
    holder = Image.new("P", (1, 1))
    holder.putpalette([*colours, *(channel for shade in _OBJECT_SHADES for channel in shade)])
    return holder
