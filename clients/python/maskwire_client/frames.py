"""Frames for sessions, and where they come from: video files, folders of images, cameras.

Each source is an iterable of `Frame`, with pixels as they come or files as they are; `paced` gives
the frames of any source at a steady rate, as a camera would.
"""

from __future__ import annotations

import importlib
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .images import ImageInput

__all__ = ["Camera", "Frame", "FrameInput", "ImageFolder", "VideoFile", "paced"]

_IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A frame to send.

    Attributes:
        image: Its picture.
        frame_id: Its number at the source, unique within a session; None counts on.
        capture_time: When it was captured, with a time zone; echoed in the result.
    """

    image: ImageInput
    frame_id: int | None = None
    capture_time: datetime | None = None


FrameInput = Frame | ImageInput
"""A `Frame`, or just its picture."""


class VideoFile:
    """The frames of a video file, decoded by PyAV (`pip install 'maskwire[video]'`).

    Frames are upright RGB arrays of shape (height, width, 3), uint8, numbered from 0 in display
    order; their capture time is the presentation time after the beginning of 1970, UTC. Each
    iteration opens the file anew.

    Args:
        path: A file that FFmpeg reads.

    Raises:
        ModuleNotFoundError: PyAV is not installed.
        FileNotFoundError: There is no such file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._av = _optional("av", "reading video files", "pip install 'maskwire[video]'")
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"no such video file: {self.path}")

    @property
    def frames_per_second(self) -> float | None:
        """The average rate, or None where the container does not tell.

        Raises:
            ValueError: The file is no video.
        """
        with self._open() as container:
            rate = container.streams.video[0].average_rate
            return float(rate) if rate else None

    @property
    def frame_count(self) -> int | None:
        """The number of frames, or None where the container does not tell.

        Raises:
            ValueError: The file is no video.
        """
        with self._open() as container:
            return container.streams.video[0].frames or None

    def __iter__(self) -> Iterator[Frame]:
        """Give the frames.

        Raises:
            ValueError: The file is no video, or broken where it is read.
        """
        with self._open() as container:
            decoded = container.decode(video=0)
            for frame_id in itertools.count():
                try:
                    picture = next(decoded)
                except StopIteration:
                    return
                except self._av.FFmpegError as error:
                    raise ValueError(f"{self.path} is broken at frame {frame_id}") from error
                shown = timedelta(seconds=picture.time or 0.0)
                yield Frame(_upright(picture), frame_id, _EPOCH + shown)

    def _open(self) -> Any:
        try:
            container = self._av.open(os.fspath(self.path))
        except self._av.FFmpegError as error:
            raise ValueError(f"{self.path} is no video that FFmpeg reads: {error}") from error
        if not container.streams.video:
            container.close()
            raise ValueError(f"{self.path} holds no video stream")
        return container


class ImageFolder:
    """The image files of a folder, in the order of their names, as they are: nothing is decoded.

    Args:
        path: The folder; files of other kinds and subfolders are passed over.

    Raises:
        NotADirectoryError: There is no such folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise NotADirectoryError(f"no such folder: {self.path}")

    def __iter__(self) -> Iterator[Frame]:
        """Give the frames, numbered from 0."""
        files = sorted(
            file
            for file in self.path.iterdir()
            if file.suffix.lower() in _IMAGE_SUFFIXES and file.is_file()
        )
        for frame_id, file in enumerate(files):
            yield Frame(file.read_bytes(), frame_id)


class Camera:
    """A camera, read by OpenCV (`pip install opencv-python-headless`), until it gives no more.

    Frames are RGB arrays of shape (height, width, 3), uint8, with the time of their arrival. Close
    it, or use it in a `with` block.

    Args:
        index: The camera's number, from 0.
        width_px: Width to ask the camera for; None leaves it as it is.
        height_px: Height to ask the camera for; None leaves it as it is.

    Raises:
        ModuleNotFoundError: OpenCV is not installed.
        OSError: The camera cannot be opened.
    """

    def __init__(
        self, index: int = 0, *, width_px: int | None = None, height_px: int | None = None
    ) -> None:
        cv2 = _optional("cv2", "reading a camera", "pip install opencv-python-headless")
        self._capture = cv2.VideoCapture(index)
        if not self._capture.isOpened():
            self._capture.release()
            raise OSError(f"camera {index} cannot be opened")
        # An old frame is worth nothing: of what the driver holds back, as little as it allows.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if width_px is not None:
            self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, width_px)
        if height_px is not None:
            self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height_px)

    def __iter__(self) -> Iterator[Frame]:
        """Give the frames as they come."""
        for frame_id in itertools.count():
            has_frame, blue_green_red = self._capture.read()
            if not has_frame:
                return
            pixels: NDArray[np.uint8] = np.ascontiguousarray(blue_green_red[..., ::-1])
            yield Frame(pixels, frame_id, datetime.now(UTC))

    def close(self) -> None:
        """Let go of the camera."""
        self._capture.release()

    def __enter__(self) -> Self:
        """Return the camera itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let go of the camera."""
        self.close()


def paced(
    frames: Iterable[FrameInput],
    frames_per_second: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[FrameInput]:
    """Give frames at a steady rate, the first at once; none is left out, late ones come at once.

    Frames keep the times that they would have had, so that the mean rate holds after a delay.

    Args:
        frames: Any source.
        frames_per_second: The rate.
        clock: Gives the time in seconds; monotonic.
        sleep: Waits so many seconds.

    Raises:
        ValueError: The rate is not greater than 0.
    """
    if not frames_per_second > 0:
        raise ValueError(f"frames_per_second must be greater than 0, not {frames_per_second}")
    return _paced(frames, 1.0 / frames_per_second, clock, sleep)


def _paced(
    frames: Iterable[FrameInput],
    interval_s: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Iterator[FrameInput]:
    start: float | None = None
    for number, frame in enumerate(frames):
        if start is None:
            start = clock()
        early_s = start + number * interval_s - clock()
        if early_s > 0:
            sleep(early_s)
        yield frame


def _upright(picture: Any) -> NDArray[np.uint8]:
    """Return the pixels of a decoded frame, turned as its container says, as phones do."""
    pixels: NDArray[np.uint8] = picture.to_ndarray(format="rgb24")
    quarter_turns = round(picture.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns)) if quarter_turns else pixels


def _optional(module: str, purpose: str, remedy: str) -> Any:
    """Import a package that only this needs.

    Raises:
        ModuleNotFoundError: It is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{purpose} needs {module}: {remedy}", name=module) from error
