"""The frames of `maskwire live`: from a camera, a video or a folder, at a rate, until the end."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..frames import Camera, Frame, FrameInput, ImageFolder, VideoFile, paced
from .exit_codes import ExitCode
from .failures import CommandFailure

__all__ = ["LiveFrames", "open_source"]


class LiveFrames:
    """Gives frames to a session and keeps those that wait for their masks.

    The session takes the frames in a thread of its own; everything else is called in another.

    Args:
        source: Where they come from; it is closed at the end, if it can be.
        frames_per_second: Rate at which to give them; None is the source's own.
        seconds: When to stop, from the first frame on; None never does.
        keeps: Whether to keep the pictures of frames for `take`. The caller takes each that is
            answered and forgets each that is not, so as many are kept as the session lets wait.
    """

    def __init__(
        self,
        source: Iterable[Frame],
        frames_per_second: float | None,
        seconds: float | None,
        *,
        keeps: bool,
    ) -> None:
        self._source = source
        self._frames_per_second = frames_per_second
        self._seconds = seconds
        self._keeps = keeps
        self._stopped = threading.Event()
        self._kept: dict[int, Frame] = {}
        self._start: datetime | None = None

    def __iter__(self) -> Iterator[FrameInput]:
        """Give the frames, numbered from 0.

        Raises:
            ValueError: The source is a video that is broken from here on.
        """
        rate = self._frames_per_second
        frames = self._numbered()
        yield from paced(frames, rate, sleep=self._wait) if rate is not None else frames

    def stop(self) -> None:
        """Give no more frames; what waits for the next one goes on at once."""
        self._stopped.set()

    def take(self, frame_id: int) -> tuple[NDArray[np.uint8], float] | None:
        """Return the pixels (RGB) of a kept frame and its seconds after the first; forget it."""
        frame = self._kept.pop(frame_id, None)
        if frame is None:
            return None
        image = frame.image
        if not isinstance(image, np.ndarray):
            assert isinstance(image, bytes)
            image = np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))
        return image, self._seconds_after_first(frame, frame_id)

    def forget(self, frame_ids: Iterable[int]) -> None:
        """Forget kept frames that will not be answered."""
        for frame_id in frame_ids:
            self._kept.pop(frame_id, None)

    def _numbered(self) -> Iterator[Frame]:
        end: float | None = None
        try:
            for number, frame in enumerate(self._source):
                now = time.monotonic()
                end = now + self._seconds if end is None and self._seconds is not None else end
                if self._stopped.is_set() or (end is not None and now >= end):
                    return
                if number == 0:
                    self._start = frame.capture_time
                numbered = Frame(frame.image, number, frame.capture_time)
                if self._keeps:
                    self._kept[number] = numbered
                yield numbered
        finally:
            if isinstance(self._source, Camera):
                self._source.close()

    def _wait(self, seconds: float) -> None:
        self._stopped.wait(seconds)

    def _seconds_after_first(self, frame: Frame, frame_id: int) -> float:
        if frame.capture_time is not None and self._start is not None:
            return (frame.capture_time - self._start).total_seconds()
        return frame_id / (self._frames_per_second or 30.0)


def open_source(
    camera: int | None, video: Path | None, frames_per_second: float | None
) -> tuple[Iterable[Frame], float | None]:
    """Open a camera, a video file or a folder of images; return it and the rate to send it at.

    Args:
        camera: Number of the camera; None for none.
        video: File or folder; None for none.
        frames_per_second: The rate that was asked for; None is the camera's or the video's own, and
            30 for folders.

    Raises:
        CommandFailure: It is not exactly one of both, cannot be opened, or a package is missing.
    """
    try:
        match camera, video:
            case int(number), None:
                return Camera(number), frames_per_second
            case None, Path() as path if path.is_dir():
                return ImageFolder(path), frames_per_second or 30.0
            case None, Path() as path:
                file = VideoFile(path)
                return file, frames_per_second or file.frames_per_second
    except ModuleNotFoundError as error:
        raise CommandFailure(str(error), ExitCode.USAGE) from error
    except (OSError, ValueError) as error:
        raise CommandFailure(f"there are no frames: {error}", ExitCode.USAGE) from error
    raise CommandFailure("name either a camera or a video", ExitCode.USAGE)
