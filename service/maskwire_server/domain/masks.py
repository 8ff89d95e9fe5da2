"""Encoded masks: the forms that a bitmap travels in, and the way there and back.

The encodings themselves are in `rle.py`, `mask_encodings.py` (PNG) and `polygons.py`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import invalid_field
from .geometry import ImageSize
from .mask_encodings import decode_png, encode_png
from .polygons import Polygon, bitmap_to_polygons, polygons_to_bitmap
from .rle import decode_counts, decode_rle, encode_counts, encode_rle


class MaskEncoding(enum.Enum):
    """The form that a caller wants masks in; the members are the contract's."""

    COCO_RLE = "coco_rle"
    """Compressed COCO run lengths, byte for byte those of pycocotools."""
    COCO_RLE_UNCOMPRESSED = "coco_rle_uncompressed"
    """COCO run lengths as a list of numbers."""
    PNG_1BIT = "png_1bit"
    """PNG of one bit per pixel."""
    PNG_8BIT = "png_8bit"
    """PNG of eight bits per pixel, 255 for the object."""
    POLYGONS = "polygons"
    """Polygons with holes, along pixel edges."""
    NONE = "none"
    """No mask at all: scores, areas and boxes only."""


@dataclass(frozen=True, slots=True)
class EncodedRle:
    """A mask as compressed COCO run lengths.

    Attributes:
        counts: The string that pycocotools holds under `counts`.
        size: Size of the mask.
    """

    counts: bytes
    size: ImageSize


@dataclass(frozen=True, slots=True, eq=False)
class EncodedRleCounts:
    """A mask as uncompressed COCO run lengths.

    Attributes:
        counts: Shape (runs,), uint32: background and object in turn, down the columns.
        size: Size of the mask.
    """

    counts: NDArray[np.uint32]
    size: ImageSize


@dataclass(frozen=True, slots=True)
class EncodedPng:
    """A mask as a PNG file, which knows its own size and depth.

    Attributes:
        data: The file; object is what is brighter than half.
    """

    data: bytes


@dataclass(frozen=True, slots=True, eq=False)
class EncodedPolygons:
    """A mask as the union of polygons with holes.

    Attributes:
        polygons: In the image frame; none for an empty mask.
        size: Size of the mask.
    """

    polygons: tuple[Polygon, ...]
    size: ImageSize


EncodedMask = EncodedRle | EncodedRleCounts | EncodedPng | EncodedPolygons


def encode_mask(bitmap: NDArray[np.bool_], encoding: MaskEncoding) -> EncodedMask:
    """Encode a bitmap.

    Args:
        bitmap: Shape (height, width), bool, not empty in either direction.
        encoding: Any but `NONE`.

    Raises:
        ValueError: For `NONE`, which is no form of a mask.
    """
    size = ImageSize(width_px=bitmap.shape[1], height_px=bitmap.shape[0])
    match encoding:
        case MaskEncoding.COCO_RLE:
            return EncodedRle(encode_rle(bitmap), size)
        case MaskEncoding.COCO_RLE_UNCOMPRESSED:
            return EncodedRleCounts(encode_counts(bitmap), size)
        case MaskEncoding.PNG_1BIT:
            return EncodedPng(encode_png(bitmap, bit_depth=1))
        case MaskEncoding.PNG_8BIT:
            return EncodedPng(encode_png(bitmap, bit_depth=8))
        case MaskEncoding.POLYGONS:
            return EncodedPolygons(bitmap_to_polygons(bitmap), size)
        case MaskEncoding.NONE:
            raise ValueError("there is nothing to encode for MaskEncoding.NONE")


def decode_mask(
    encoded: EncodedMask, expected_size: ImageSize, field: str = "mask"
) -> NDArray[np.bool_]:
    """Decode an untrusted mask, which must have the size of its image.

    Args:
        encoded: The mask.
        expected_size: Size of the image; checked before anything is decoded.
        field: Path of the encoded mask in the request, for errors.

    Returns:
        Shape (height, width), bool, contiguous.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` naming the field and the rule.
    """
    match encoded:
        case EncodedRle():
            _check_size(encoded.size, expected_size, f"{field}.coco_rle.size")
            return decode_rle(encoded.counts, expected_size, field=f"{field}.coco_rle.counts")
        case EncodedRleCounts():
            _check_size(encoded.size, expected_size, f"{field}.coco_rle_counts.size")
            path = f"{field}.coco_rle_counts.counts"
            return decode_counts(encoded.counts, expected_size, field=path)
        case EncodedPng():
            return decode_png(encoded.data, expected_size, field=f"{field}.png.data")
        case EncodedPolygons():
            _check_size(encoded.size, expected_size, f"{field}.polygons.size")
            path = f"{field}.polygons.polygons"
            return polygons_to_bitmap(encoded.polygons, expected_size, field=path)


def _check_size(size: ImageSize, expected: ImageSize, field: str) -> None:
    if size != expected:
        raise invalid_field(
            field,
            f"must be {expected.width_px} x {expected.height_px} pixels as the image is, "
            f"not {size.width_px} x {size.height_px}",
        )
