"""From a request to what an engine is given: pixels, masks, points.

Used twice: before a job is accepted, so that bad input is the caller's error at once, and by the
worker, which reads the accepted job the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..errors import ErrorCode, MaskwireError, invalid_field, too_large
from ..executor import BoundedExecutor
from ..file_decoder import FileDecoders, InProcessDecoders
from ..files.store import FILE_NAME_PREFIX, FileStore
from ..geometry import Box, ImageSize
from ..image_access import ImageAccess, LocatedImage
from ..images import identify_format
from ..mask_reading import SentMask, decode_masks
from ..masks import EncodedMask
from ..remote_sources import BUCKET_SCHEMES, RemoteSources, WantedContent
from ..segmentation import Caller, ImageInfo, ImageSource
from .arrays import NPY_SIGNATURE, ZIP_SIGNATURE
from .engine import BodyScene, ObjectScene
from .geometry import Intrinsics
from .point_maps import PNG_SIGNATURE, check_points
from .requests import (
    ArraySource,
    BodiesRequest,
    GeometrySource,
    ObjectsRequest,
    PointMapSource,
)

_ARRAY_MEDIA_TYPES = frozenset(
    ("application/x-npy", "application/x-npz", "application/zip", "image/png")
)


@dataclass(frozen=True, slots=True)
class InputLimits:
    """What a request may bring.

    Attributes:
        max_objects: Most objects or people.
        max_geometry_bytes: Most bytes of a point map or depth map, unpacked.
    """

    max_objects: int
    max_geometry_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class ReadImage:
    """An image that was read.

    Attributes:
        info: What it is.
        data: The encoded bytes.
        pixels: Shape (height, width, 3), uint8, RGB.
        decode_s: Seconds that decoding took.
    """

    info: ImageInfo
    data: bytes
    pixels: NDArray[np.uint8]
    decode_s: float


@dataclass(frozen=True, slots=True, eq=False)
class ReadGeometry:
    """A point map or depth map that was read.

    Attributes:
        data: The bytes of its file.
        points: Shape (height, width, 3), float32, metres in the camera frame, NaN where unknown.
        intrinsics: The camera that came with it, if one did.
    """

    data: bytes
    points: NDArray[np.float32]
    intrinsics: Intrinsics | None


class InputReader:
    """Reads and checks what requests for reconstruction bring."""

    def __init__(
        self,
        images: ImageAccess,
        files: FileStore,
        pixel_executor: BoundedExecutor,
        limits: InputLimits,
        sources: RemoteSources | None = None,
        decoders: FileDecoders | None = None,
    ) -> None:
        self._decoders = decoders or InProcessDecoders()
        self._sources = sources
        self._images = images
        self._files = files
        self._pixels = pixel_executor
        self._limits = limits

    async def image(self, source: ImageSource, caller: Caller) -> ReadImage:
        """Read an image.

        Raises:
            MaskwireError: As `ImageAccess.locate` and `ImageAccess.embedding`.
        """
        located = await self._images.locate(source, caller)
        decoded: LocatedImage = await self._images.decode(located, caller)
        assert decoded.decoded is not None
        assert decoded.data is not None
        height, width = decoded.decoded.value.shape[:2]
        info = ImageInfo(
            located.digest,
            ImageSize(width_px=width, height_px=height),
            identify_format(decoded.data).value,
        )
        return ReadImage(info, decoded.data, decoded.decoded.value, decoded.decoded.run_s)

    async def objects(
        self, request: ObjectsRequest, image: ReadImage, caller: Caller
    ) -> tuple[ObjectScene, ReadGeometry | None]:
        """Read all else of a request for objects, whose prompts were segmented before.

        Raises:
            MaskwireError: `INVALID_ARGUMENT` naming the field and the rule, `PAYLOAD_TOO_LARGE`,
                `FILE_NOT_FOUND`, `SOURCE_DISABLED`.
        """
        size = image.info.size
        masks = await self._masks(request.masks, size, caller)
        if not masks:
            masks = (np.ones((size.height_px, size.width_px), dtype=np.bool_),)
        geometry = await self._geometry(request.geometry, size, caller)
        if geometry is not None:
            points, field = geometry.points, _field_of(request.geometry)
            await self._pixels.run(lambda: check_points(points, masks, field))
        scene = ObjectScene(
            pixels=image.pixels,
            masks=masks,
            points=None if geometry is None else geometry.points,
            intrinsics=None if geometry is None else geometry.intrinsics,
            seed=request.seed,
        )
        return scene, geometry

    async def bodies(
        self, request: BodiesRequest, image: ReadImage, caller: Caller
    ) -> tuple[BodyScene, ReadGeometry | None]:
        """Read all else of a request for bodies; errors as `objects`."""
        size = image.info.size
        self.check_count(len(request.boxes), "boxes")
        if request.boxes and request.masks and len(request.boxes) != len(request.masks):
            raise invalid_field(
                "masks", f"{len(request.masks)} masks do not fit {len(request.boxes)} boxes"
            )
        for index, box in enumerate(request.boxes):
            _check_overlap(box, size, f"boxes[{index}]")
        masks = await self._masks(request.masks, size, caller)
        geometry = await self._geometry(request.point_map, size, caller)
        scene = BodyScene(
            pixels=image.pixels,
            boxes=request.boxes,
            masks=masks,
            points=None if geometry is None else geometry.points,
            intrinsics=request.intrinsics,
        )
        return scene, geometry

    def check_count(self, count: int, field: str) -> None:
        """Refuse more objects than may be.

        Raises:
            MaskwireError: `INVALID_ARGUMENT`.
        """
        if count > self._limits.max_objects:
            raise invalid_field(
                field, f"{count} objects are more than the limit of {self._limits.max_objects}"
            )

    async def _masks(
        self, masks: Sequence[EncodedMask], size: ImageSize, caller: Caller
    ) -> tuple[NDArray[np.bool_], ...]:
        self.check_count(len(masks), "masks")
        if not masks:
            return ()
        sent = [SentMask(mask, f"masks[{index}]") for index, mask in enumerate(masks)]
        decoder = self._decoders.of_tenant(caller.tenant)
        decoded = await self._pixels.run(partial(decode_masks, sent, size, decoder))
        for one, bitmap in zip(sent, decoded.value, strict=True):
            if not bitmap.any():
                raise invalid_field(one.field, "it must hold at least one pixel of the object")
        return tuple(decoded.value)

    async def _geometry(
        self, geometry: GeometrySource | None, size: ImageSize, caller: Caller
    ) -> ReadGeometry | None:
        if geometry is None:
            return None
        data = await self._array(geometry.source, caller)
        field, most = geometry.source.field, self._limits.max_geometry_bytes
        decoder = self._decoders.of_tenant(caller.tenant)
        if isinstance(geometry, PointMapSource):
            read = await self._pixels.run(partial(decoder.point_map, data, size, field, most))
            return ReadGeometry(data, read.value, None)
        depth = geometry
        reading = partial(
            decoder.depth_map, data, size, depth.intrinsics, depth.unit_m, field, most
        )
        read = await self._pixels.run(reading)
        return ReadGeometry(data, read.value, depth.intrinsics)

    async def _array(self, source: ArraySource, caller: Caller) -> bytes:
        most = self._limits.max_geometry_bytes
        if source.data is not None:
            return source.data
        if source.uri.startswith(FILE_NAME_PREFIX):
            stored = await self._files.get(caller, source.uri)
            if stored.size_bytes > most:
                rule = f"{stored.size_bytes} bytes exceed the limit of {most}"
                raise too_large(source.field, rule)
            chunks = [chunk async for chunk in self._files.read(caller, source.uri)]
        elif self._sources is not None:
            wanted = WantedContent(
                source.field,
                most,
                _ARRAY_MEDIA_TYPES,
                partial(_check_array_start, field=source.field),
                schemes=BUCKET_SCHEMES,
            )
            chunks = await self._sources.fetch(source.uri, wanted, caller)
        else:
            raise MaskwireError(
                ErrorCode.SOURCE_DISABLED,
                f"{source.field}: this server reads uploaded files (files/...) only; "
                "send the file's bytes or upload it",
            )
        return (await self._pixels.run(lambda: b"".join(chunks))).value


def _check_array_start(start: bytes, field: str) -> None:
    if not start.startswith((NPY_SIGNATURE, ZIP_SIGNATURE, PNG_SIGNATURE)):
        raise invalid_field(field, "must be an NPY or NPZ file, or a PNG for a depth map")


def _field_of(geometry: GeometrySource | None) -> str:
    assert geometry is not None
    return geometry.source.field


def _check_overlap(box: Box, size: ImageSize, field: str) -> None:
    if not (
        box.x_min < box.x_max
        and box.y_min < box.y_max
        and box.x_max > 0
        and box.y_max > 0
        and box.x_min < size.width_px
        and box.y_min < size.height_px
    ):
        raise invalid_field(
            field, f"it does not overlap the image of {size.width_px} x {size.height_px} pixels"
        )
