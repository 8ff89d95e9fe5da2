"""What a tenant's files are to the children of a pool: orders, and values in shared memory.

Whatever a child says is checked here: a shape is one that fits, a mask has two values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..domain.errors import invalid_field, too_large
from ..domain.file_decoder import NOT_WITHIN_LIMITS, FileDecoder, MaskFile
from ..domain.geometry import ImageSize
from ..domain.images import ImageLimits, check_file
from ..domain.reconstruction.geometry import Intrinsics
from ..domain.video.opened import OpenedVideo, VideoLimits
from . import messages
from .child_handle import ChildHandle, ChildLostError
from .videos import ChildVideo, readable_descriptor

if TYPE_CHECKING:  # the pool makes these decoders
    from .pool import DecoderPool

Value = TypeVar("Value")

_PAGE_BYTES = 4096
_VALUES_PER_PIXEL = 3
_MAX_MASKS = 64
"""Masks of an order, whose message has a field's path for each."""


@dataclass(frozen=True, slots=True)
class Room:
    """What the memory that is shared with a child holds: files at its beginning, then values.

    Attributes:
        max_file_bytes: Files, all of an order together.
        max_pixels: Pixels of an image or map.
        offset: Where values begin.
        memory_bytes: All of it; only what is used takes any.
    """

    max_file_bytes: int
    max_pixels: int
    offset: int
    memory_bytes: int

    @classmethod
    def of(cls, max_file_bytes: int, max_pixels: int) -> Room:
        """Return the room for files and maps (three 32-bit values a pixel) up to a size."""
        offset = -(-max_file_bytes // _PAGE_BYTES) * _PAGE_BYTES
        memory_bytes = offset + max_pixels * _VALUES_PER_PIXEL * 4
        return cls(max_file_bytes, max_pixels, offset, memory_bytes)


class PooledDecoder(FileDecoder):
    """Decodes one tenant's files in the children of a pool."""

    def __init__(self, pool: DecoderPool, tenant: str) -> None:
        self._pool = pool
        self._room = pool.room
        self._tenant = tenant

    def image(
        self, data: bytes, limits: ImageLimits, *, field: str = "image.data"
    ) -> NDArray[np.uint8]:
        """Decode an image; as the interface says."""
        check_file(data, limits, field)
        self._check_bytes(data, field)
        most = min(limits.max_pixels, self._room.max_pixels)
        order = {"do": "image", "limits": [limits.max_bytes, most, limits.max_side_px]}

        def decode(child: ChildHandle) -> NDArray[np.uint8]:
            answer = self._order(child, order, data, field)
            shape = messages.shape_from_fields(answer.get("shape"), most * _VALUES_PER_PIXEL)
            pixels = np.empty(shape, np.uint8)
            child.take(pixels, self._room.offset)
            return pixels

        return self._run(decode, field)

    def masks(self, files: Sequence[MaskFile], size: ImageSize) -> list[NDArray[np.bool_]]:
        """Decode masks, many in one order; as the interface says."""
        for one in files:
            self._check_bytes(one.data, one.field)
            if size.pixels > self._room.max_pixels:
                raise too_large(one.field, f"{size.pixels} pixels are more than decoders take")
        return [mask for batch in self._batches(files, size) for mask in self._batch(batch, size)]

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
        frame_bytes = limits.max_pixels * _VALUES_PER_PIXEL
        with readable_descriptor(file) as descriptor:
            child = self._pool.start_for_video(frame_bytes, descriptor)
        video = ChildVideo(child, limits, field, self._pool.timeout_s, self._pool.finish_video)
        file.close()
        return video

    def _batches(self, files: Sequence[MaskFile], size: ImageSize) -> Iterator[list[MaskFile]]:
        """Yield the masks of one order each: no more work than the largest image is."""
        most = min(_MAX_MASKS, self._room.max_pixels // size.pixels)
        batch: list[MaskFile] = []
        size_bytes = 0
        for one in files:
            size_bytes += len(one.data)
            if batch and (len(batch) == most or size_bytes > self._room.max_file_bytes):
                yield batch
                batch, size_bytes = [], len(one.data)
            batch.append(one)
        if batch:
            yield batch

    def _batch(self, batch: list[MaskFile], size: ImageSize) -> list[NDArray[np.bool_]]:
        try:
            return self._pool.run(self._tenant, partial(self._read_masks, batch, size))
        except ChildLostError as error:
            if len(batch) == 1:
                raise invalid_field(batch[0].field, NOT_WITHIN_LIMITS) from error
        # One of them is at fault: each alone shows which.
        return [mask for one in batch for mask in self._batch([one], size)]

    def _read_masks(
        self, batch: list[MaskFile], size: ImageSize, child: ChildHandle
    ) -> list[NDArray[np.bool_]]:
        child.put(*(one.data for one in batch))
        order = {
            "do": "masks",
            "sizes_bytes": [len(one.data) for one in batch],
            "fields": [one.field for one in batch],
            "image_size": [size.width_px, size.height_px],
            "offset": self._room.offset,
        }
        child.ask(order, self._pool.timeout_s)
        packed = np.empty((len(batch), -(-size.pixels // 8)), np.uint8)
        child.take(packed, self._room.offset)
        # Bits, because a byte that is neither 0 nor 1 would be no bool.
        shape = (size.height_px, size.width_px)
        return [
            np.unpackbits(bits, count=size.pixels).view(np.bool_).reshape(shape) for bits in packed
        ]

    def _map(
        self, order: messages.Fields, data: bytes, size: ImageSize, field: str, max_bytes: int
    ) -> NDArray[np.float32]:
        if len(data) > min(max_bytes, self._room.max_file_bytes):
            raise too_large(field, f"{len(data)} bytes exceed the limit of {max_bytes}")
        if size.pixels > self._room.max_pixels:
            raise too_large(field, f"{size.pixels} points are more than decoders take")
        image_size = [size.width_px, size.height_px]
        order = {**order, "image_size": image_size, "max_bytes": max_bytes}

        def read(child: ChildHandle) -> NDArray[np.float32]:
            self._order(child, order, data, field)
            points = np.empty((size.height_px, size.width_px, _VALUES_PER_PIXEL), np.float32)
            child.take(points, self._room.offset)
            return points

        return self._run(read, field)

    def _check_bytes(self, data: bytes, field: str) -> None:
        if len(data) > self._room.max_file_bytes:
            raise too_large(field, f"{len(data)} bytes are more than decoders take")

    def _order(
        self, child: ChildHandle, order: messages.Fields, data: bytes, field: str
    ) -> dict[str, Any]:
        child.put(data)
        placed = {"size_bytes": len(data), "offset": self._room.offset, "field": field}
        return child.ask({**order, **placed}, self._pool.timeout_s)

    def _run(self, work: Callable[[ChildHandle], Value], field: str) -> Value:
        """Do work with a child; the file is at fault where the child is lost."""
        try:
            return self._pool.run(self._tenant, work)
        except ChildLostError as error:
            raise invalid_field(field, NOT_WITHIN_LIMITS) from error
