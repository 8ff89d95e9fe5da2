"""Where untrusted files become arrays: the interface, and the plain way in the process itself.

`decoders/` has the other way, in child processes with limits. Of masks only PNGs are files; their
other encodings are lists of numbers, which are read where they are (`mask_reading.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from .geometry import ImageSize
from .images import ImageLimits, decode_image
from .mask_encodings import decode_png
from .reconstruction.geometry import Intrinsics
from .reconstruction.point_maps import read_depth_map, read_point_map
from .video.opened import OpenedVideo, VideoLimits
from .video.reader import VideoReader

NOT_WITHIN_LIMITS = "could not be decoded within the limits"
"""The rule that a file broke whose decoder crashed, or took too much memory or time."""


@dataclass(frozen=True, slots=True)
class MaskFile:
    """A mask as an untrusted PNG.

    Attributes:
        data: The file.
        field: Path of the bytes in the request, for errors.
    """

    data: bytes
    field: str


class FileDecoder(ABC):
    """Decodes untrusted files of one tenant.

    Every method blocks, and several threads may call at a time. Beside the errors that each method
    names, `INVALID_ARGUMENT` with the rule `NOT_WITHIN_LIMITS` says that a decoder crashed or was
    stopped, and `OVERLOADED` that none was to be had.
    """

    @abstractmethod
    def image(
        self, data: bytes, limits: ImageLimits, *, field: str = "image.data"
    ) -> NDArray[np.uint8]:
        """Decode an image; as `images.decode_image`."""

    @abstractmethod
    def masks(self, files: Sequence[MaskFile], size: ImageSize) -> list[NDArray[np.bool_]]:
        """Decode masks of an image of that size; each as `mask_encodings.decode_png`.

        All at once, because masks come by the dozen. The first that is refused is the error.
        """

    @abstractmethod
    def point_map(
        self, data: bytes, size: ImageSize, field: str, max_bytes: int
    ) -> NDArray[np.float32]:
        """Read a point map; as `point_maps.read_point_map`."""

    @abstractmethod
    def depth_map(
        self,
        data: bytes,
        size: ImageSize,
        intrinsics: Intrinsics,
        unit_m: float,
        field: str,
        max_bytes: int,
    ) -> NDArray[np.float32]:
        """Read a depth map; as `point_maps.read_depth_map`."""

    @abstractmethod
    def open_video(self, file: BinaryIO, limits: VideoLimits, *, field: str) -> OpenedVideo:
        """Open a video; as `VideoReader`, which also says what becomes of the file."""


class FileDecoders(ABC):
    """Gives each tenant a decoder: what a hostile file of one may do to it is no other's matter."""

    def prepare(self) -> None:  # noqa: B027  # nothing needs to be done
        """Begin to get ready for the first file; returns at once."""

    def close(self) -> None:  # noqa: B027  # nothing needs to be done
        """Free everything; no method of any decoder is called from then on."""

    @abstractmethod
    def of_tenant(self, tenant: str) -> FileDecoder:
        """Return what decodes a tenant's files; costs nothing."""


class InProcessDecoders(FileDecoders):
    """Decodes everybody's files in this process."""

    def of_tenant(self, tenant: str) -> FileDecoder:
        """Return the decoder, which is the same for all."""
        return InProcessDecoder()


class InProcessDecoder(FileDecoder):
    """Decodes in this process: what crashes a decoder ends the process."""

    def image(
        self, data: bytes, limits: ImageLimits, *, field: str = "image.data"
    ) -> NDArray[np.uint8]:
        """Decode an image; as the interface says."""
        return decode_image(data, limits, field=field)

    def masks(self, files: Sequence[MaskFile], size: ImageSize) -> list[NDArray[np.bool_]]:
        """Decode masks; as the interface says."""
        return [decode_png(one.data, size, field=one.field) for one in files]

    def point_map(
        self, data: bytes, size: ImageSize, field: str, max_bytes: int
    ) -> NDArray[np.float32]:
        """Read a point map; as the interface says."""
        return read_point_map(data, size, field, max_bytes)

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
        return read_depth_map(data, size, intrinsics, unit_m, field, max_bytes)

    def open_video(self, file: BinaryIO, limits: VideoLimits, *, field: str) -> OpenedVideo:
        """Open a video; as the interface says."""
        return VideoReader(file, limits, field=field)
