"""A video that a child of its own decodes, frame by frame as they are asked for.

Asking is what holds the child back: it decodes nothing that nobody waits for. One frame lies in the
shared memory at a time.
"""

from __future__ import annotations

import dataclasses
import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from ..domain.errors import invalid_field
from ..domain.file_decoder import NOT_WITHIN_LIMITS
from ..domain.video.opened import OpenedVideo, PictureStream, VideoLimits, VideoPicture
from . import messages
from .child_handle import ChildHandle, ChildLostError

_VALUES_PER_PIXEL = 3

FinishVideo = Callable[[ChildHandle, Exception | None], None]
"""Ends a child; the error says why, where it is not simply done."""


@contextmanager
def readable_descriptor(file: BinaryIO) -> Iterator[int]:
    """Give a descriptor from which a child can read what a file holds."""
    try:
        file.flush()
        yield file.fileno()
    except io.UnsupportedOperation:
        memory = os.memfd_create("maskwire-video", os.MFD_CLOEXEC)
        try:
            file.seek(0)
            with os.fdopen(os.dup(memory), "wb") as copy:
                copy.write(file.read())
            yield memory
        finally:
            os.close(memory)


class ChildVideo(OpenedVideo):
    """A video whose decoder is a child process."""

    def __init__(
        self,
        child: ChildHandle,
        limits: VideoLimits,
        field: str,
        timeout_s: float,
        finish: FinishVideo,
    ) -> None:
        """Open the video that the child was given.

        Raises:
            MaskwireError: As `VideoReader`; the child is ended then.
        """
        self.field = field
        self._child = child
        self._limits = limits
        self._timeout_s = timeout_s
        self._finish = finish
        self._lock = threading.Lock()
        self._is_closed = False
        order = {"do": "open_video", "limits": dataclasses.asdict(limits), "field": field}
        try:
            answer = self._ask(order)
            with self._checking():
                described = messages.video_from_fields(answer.get("video"), limits.max_side_px)
        except BaseException:
            self.close()
            raise
        self.info, self._readable_frames, self._is_whole = described

    @property
    def readable_frames(self) -> int:
        """Frames that are there to be decoded."""
        return self._readable_frames

    @property
    def is_whole(self) -> bool:
        """Whether all of the file is there; as the interface says."""
        return self._is_whole

    def pictures(self, order: range) -> PictureStream:
        """Return frames; as the interface says. The child hears of it with the first read."""
        return _ChildPictures(self, order)

    def close(self) -> None:
        """End the child; as the interface says."""
        with self._lock:
            self._close(None)

    def start_pictures(self, order: range) -> int | None:
        """Have the child begin with frames; None where the video is closed."""
        with self._lock:
            if self._is_closed:
                return None
            answer = self._ask({"do": "pictures", "order": [order.start, order.stop, order.step]})
            with self._checking():
                return _whole_number(answer.get("stream"))

    def read(self, stream: int, patience_s: float) -> tuple[VideoPicture | None, bool]:
        """Return the next frame of a stream, if there is one yet, and whether that was all."""
        with self._lock:
            if self._is_closed:
                return None, True
            order = {"do": "read", "stream": stream, "patience_s": patience_s, "offset": 0}
            answer = self._ask(order)
            if "is_at_end" in answer:
                return None, bool(answer["is_at_end"])
            with self._checking():
                return self._picture(answer), False

    def _picture(self, answer: messages.Fields) -> VideoPicture:
        most = self._limits.max_pixels * _VALUES_PER_PIXEL
        shape = messages.shape_from_fields(answer.get("shape"), most)
        expected = (self.info.size.height_px, self.info.size.width_px, _VALUES_PER_PIXEL)
        index, time_s = _whole_number(answer.get("index")), answer.get("time_s")
        if shape != expected or not isinstance(time_s, float | int):
            raise ValueError("no frame of this video")
        pixels = np.empty(shape, np.uint8)
        self._child.take(pixels, 0)
        return VideoPicture(index, float(time_s), pixels)

    def _ask(self, order: messages.Fields) -> dict[str, Any]:
        with self._checking():
            return self._child.ask(order, self._timeout_s)

    @contextmanager
    def _checking(self) -> Iterator[None]:
        """End the child where it fails or says nonsense, and blame the file."""
        try:
            yield
        except (ChildLostError, ValueError) as error:
            self._close(error)
            raise invalid_field(self.field, NOT_WITHIN_LIMITS) from error

    def _close(self, error: Exception | None) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._finish(self._child, error)


class _ChildPictures(PictureStream):
    """Frames on their way out of a `ChildVideo`."""

    def __init__(self, video: ChildVideo, order: range) -> None:
        self._video = video
        self._order = order
        self._stream: int | None = None
        self.is_at_end = False

    def read(self, patience_s: float) -> VideoPicture | None:
        """Return the next frame; as the interface says."""
        if self._stream is None:
            self._stream = self._video.start_pictures(self._order)
        if self._stream is None:
            self.is_at_end = True
            return None
        picture, self.is_at_end = self._video.read(self._stream, patience_s)
        return picture


def _whole_number(value: object) -> int:
    if isinstance(value, int) and value >= 0:
        return value
    raise ValueError("no whole number")
