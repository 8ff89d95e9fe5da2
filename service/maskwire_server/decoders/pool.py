"""Decodes untrusted files in child processes: a crash costs one request, and nobody else anything.

A file goes to a child that is free, and its values come back through shared memory. Children are
replaced after so many files, after a large one, and when they crash or run out of time or memory;
the caller whose file that was is told that it could not be decoded within the limits. How often
children may crash in a second is bounded: past that, callers are told to come again.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import BinaryIO, TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from ..domain.errors import ErrorCode, MaskwireError, invalid_field, too_large
from ..domain.file_decoder import NOT_WITHIN_LIMITS, FileDecoder
from ..domain.geometry import ImageSize
from ..domain.images import ImageLimits, check_file
from ..domain.observer import Observer
from ..domain.reconstruction.geometry import Intrinsics
from ..domain.video.opened import OpenedVideo, VideoLimits
from . import messages
from .child import ChildLimits
from .child_handle import ChildHandle, ChildLostError
from .nursery_handle import NurseryHandle, NurseryLostError
from .videos import ChildVideo, readable_descriptor

Value = TypeVar("Value")

_log = structlog.get_logger(__name__)

_MAX_CRASHES_PER_S = 20
_RETRY_AFTER = timedelta(seconds=1)
_RESOURCE = "decoders"
_LARGE_BYTES = 40_000_000
"""A child that has written more is replaced, which frees what it holds; a photograph of 12
megapixels is not so large."""
_PAGE_BYTES = 4096
_VALUES_PER_PIXEL = 3


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """What decoding may use.

    Attributes:
        processes: Children for images and maps; videos have one each beside them.
        child: What each may use.
        timeout_s: Longest time for a file, or for one frame of a video.
        recycle_after: Files after which a child is replaced.
        max_file_bytes: Largest file but a video's.
        max_pixels: Most pixels of an image or map.
    """

    processes: int
    child: ChildLimits
    timeout_s: float
    recycle_after: int
    max_file_bytes: int
    max_pixels: int


class DecoderPool(FileDecoder):
    """Decodes in child processes; they are started as they are needed."""

    def __init__(self, limits: PoolLimits, observer: Observer) -> None:
        self._limits = limits
        self._observer = observer
        self._nursery = NurseryHandle()
        self._slots = threading.BoundedSemaphore(limits.processes)
        self._lock = threading.Lock()
        self._idle: list[ChildHandle] = []
        self._crashes: deque[float] = deque(maxlen=_MAX_CRASHES_PER_S)
        self._has_warned = self._is_closed = False
        self._offset = -(-limits.max_file_bytes // _PAGE_BYTES) * _PAGE_BYTES
        self._memory_size = self._offset + limits.max_pixels * _VALUES_PER_PIXEL * 4

    def prepare(self) -> None:
        """Begin to load what decodes; as the interface says."""
        try:
            self._nursery.prepare()
        except NurseryLostError as error:
            _log.error("decoders cannot be started", error=str(error))

    def close(self) -> None:
        """End all children; as the interface says."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for child in idle:
            child.end()
        self._nursery.close()

    def image(
        self, data: bytes, limits: ImageLimits, *, field: str = "image.data"
    ) -> NDArray[np.uint8]:
        """Decode an image; as the interface says."""
        check_file(data, limits, field)
        if len(data) > self._limits.max_file_bytes:
            raise too_large(field, f"{len(data)} bytes are more than decoders take")
        most = min(limits.max_pixels, self._limits.max_pixels)
        order = {
            "do": "image",
            "limits": [limits.max_bytes, most, limits.max_side_px],
        }

        def decode(child: ChildHandle) -> NDArray[np.uint8]:
            answer = self._order(child, order, data, field)
            shape = messages.shape_from_fields(answer.get("shape"), most * _VALUES_PER_PIXEL)
            pixels = np.empty(shape, np.uint8)
            child.take(pixels, self._offset)
            return pixels

        return self._run(decode, field)

    def point_map(
        self, data: bytes, size: ImageSize, field: str, max_bytes: int
    ) -> NDArray[np.float32]:
        """Read a point map; as the interface says."""
        return self._map({"do": "point_map"}, data, size, field, max_bytes)

    def depth_map(
        self,
        data: bytes,
        size: ImageSize,
        intrinsics: Intrinsics,
        unit_m: float,
        field: str,
        max_bytes: int,
    ) -> NDArray[np.float32]:
        """Read a depth map; as the interface says."""
        camera = [
            intrinsics.focal_length_x_px,
            intrinsics.focal_length_y_px,
            intrinsics.principal_point_x_px,
            intrinsics.principal_point_y_px,
        ]
        order = {"do": "depth_map", "intrinsics": camera, "unit_m": unit_m}
        return self._map(order, data, size, field, max_bytes)

    def open_video(self, file: BinaryIO, limits: VideoLimits, *, field: str) -> OpenedVideo:
        """Open a video in a child of its own; as the interface says."""
        try:
            frame_bytes = limits.max_pixels * _VALUES_PER_PIXEL
            with readable_descriptor(file) as descriptor:
                child = self._start(frame_bytes, descriptor)
            video = ChildVideo(child, limits, field, self._limits.timeout_s, self._finish_video)
        except NurseryLostError as error:
            raise self._overloaded() from error
        file.close()
        return video

    def _map(
        self, order: messages.Fields, data: bytes, size: ImageSize, field: str, max_bytes: int
    ) -> NDArray[np.float32]:
        if len(data) > min(max_bytes, self._limits.max_file_bytes):
            raise too_large(field, f"{len(data)} bytes exceed the limit of {max_bytes}")
        if size.pixels > self._limits.max_pixels:
            raise too_large(field, f"{size.pixels} points are more than decoders take")
        image_size = [size.width_px, size.height_px]
        order = {**order, "image_size": image_size, "max_bytes": max_bytes}

        def read(child: ChildHandle) -> NDArray[np.float32]:
            self._order(child, order, data, field)
            points = np.empty((size.height_px, size.width_px, _VALUES_PER_PIXEL), np.float32)
            child.take(points, self._offset)
            return points

        return self._run(read, field)

    def _order(
        self, child: ChildHandle, order: messages.Fields, data: bytes, field: str
    ) -> dict[str, object]:
        child.put(data)
        placed = {"size_bytes": len(data), "offset": self._offset, "field": field}
        return child.ask({**order, **placed}, self._limits.timeout_s)

    def _run(self, work: Callable[[ChildHandle], NDArray[Value]], field: str) -> NDArray[Value]:  # type: ignore[type-var]
        """Do work with a child that is free, and see what becomes of the child."""
        with self._slot():
            child = self._take()
            try:
                values = work(child)
            except MaskwireError:
                self._give_back(child)
                raise
            except (ChildLostError, ValueError) as error:
                self._replace(child, error)
                raise invalid_field(field, NOT_WITHIN_LIMITS) from error
            except BaseException:
                child.end()
                raise
            self._give_back(child, values.nbytes)
            return values

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if not self._slots.acquire(timeout=self._limits.timeout_s):
            raise self._overloaded()
        try:
            yield
        finally:
            self._slots.release()

    def _take(self) -> ChildHandle:
        """Return a child that is alive: an idle one, or a new one."""
        while True:
            with self._lock:
                if not self._idle:
                    break
                child = self._idle.pop()
            if child.is_alive:
                return child
            self._replace(child, ChildLostError("crashed", "while it was idle"))
        try:
            return self._start(self._memory_size)
        except NurseryLostError as error:
            _log.error("a decoder cannot be started", error=str(error))
            raise self._overloaded() from error

    def _start(self, memory_size: int, *files: int) -> ChildHandle:
        with self._lock:
            is_full = len(self._crashes) == _MAX_CRASHES_PER_S
            if is_full and time.monotonic() - self._crashes[0] < 1:
                raise NurseryLostError("too many decoders crashed in the last second")
        child = ChildHandle(self._nursery, memory_size, self._limits.child, *files)
        if not child.is_filtered and not self._has_warned:
            self._has_warned = True
            _log.warning(
                "this system filters no system calls: decoders are limited by rlimits only"
            )
        return child

    def _give_back(self, child: ChildHandle, size_bytes: int = 0) -> None:
        child.pictures += 1
        if child.pictures < self._limits.recycle_after and size_bytes < _LARGE_BYTES:
            with self._lock:
                if not self._is_closed:
                    self._idle.append(child)
                    return
        child.end()
        self._observer.decoder_ended("recycled")

    def _replace(self, child: ChildHandle, error: Exception) -> None:
        """End a child that is of no more use; the next file that needs one starts another."""
        with self._lock:
            self._crashes.append(time.monotonic())
        status = child.end()
        reason = error.reason if isinstance(error, ChildLostError) else "nonsense"
        if status == -signal.SIGPROF:
            reason = "time"
        self._observer.decoder_ended(reason)
        _log.warning("a decoder ended", reason=reason, status=status, detail=str(error))

    def _finish_video(self, child: ChildHandle, error: Exception | None) -> None:
        if error is not None:
            self._replace(child, error)
            return
        child.end()
        self._observer.decoder_ended("recycled")

    def _overloaded(self) -> MaskwireError:
        self._observer.overload_refused(_RESOURCE)
        return MaskwireError(
            ErrorCode.OVERLOADED,
            "no decoder is to be had now",
            retry_after=_RETRY_AFTER,
            resource=_RESOURCE,
        )
