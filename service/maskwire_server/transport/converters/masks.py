"""Masks in every encoding, mask logits, and what may be changed in masks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from maskwire.v1 import mask_pb2

from ...domain.errors import invalid_field
from ...domain.logits import MaskLogits
from ...domain.masks import (
    EncodedMask,
    EncodedPng,
    EncodedPolygons,
    EncodedRle,
    EncodedRleCounts,
    MaskEncoding,
)
from ...domain.polygons import Polygon
from ...domain.postprocessing import PostprocessOptions
from .geometry import box_from_proto, box_to_proto, image_size_from_proto, image_size_to_proto

_ENCODINGS: Mapping[mask_pb2.MaskEncoding.ValueType, MaskEncoding] = {
    mask_pb2.MASK_ENCODING_UNSPECIFIED: MaskEncoding.COCO_RLE,
    mask_pb2.MASK_ENCODING_COCO_RLE: MaskEncoding.COCO_RLE,
    mask_pb2.MASK_ENCODING_COCO_RLE_UNCOMPRESSED: MaskEncoding.COCO_RLE_UNCOMPRESSED,
    mask_pb2.MASK_ENCODING_PNG_1BIT: MaskEncoding.PNG_1BIT,
    mask_pb2.MASK_ENCODING_PNG_8BIT: MaskEncoding.PNG_8BIT,
    mask_pb2.MASK_ENCODING_POLYGONS: MaskEncoding.POLYGONS,
    mask_pb2.MASK_ENCODING_NONE: MaskEncoding.NONE,
}
_LOGITS_TYPE = np.dtype("<f4")


def mask_encoding_from_proto(value: mask_pb2.MaskEncoding.ValueType) -> MaskEncoding:
    """Read the form that masks are wanted in; unspecified means compressed run lengths."""
    return _ENCODINGS[value]


def postprocess_options_from_proto(
    message: mask_pb2.PostprocessOptions,
) -> PostprocessOptions:
    """Read what to change in masks; a second pass of the model may be part of it."""
    return PostprocessOptions(
        max_hole_area_px=message.max_hole_area_px,
        min_region_area_px=message.min_region_area_px,
        smoothing_radius_px=message.smoothing_radius_px,
        morphological_cleanup=message.morphological_cleanup,
        refine=message.refine,
        min_score=message.min_score if message.HasField("min_score") else None,
        max_overlap_iou=message.max_overlap_iou if message.HasField("max_overlap_iou") else None,
        coarse_masks=message.coarse_masks,
    )


def single_pass_options_from_proto(
    message: mask_pb2.PostprocessOptions, field: str, remedy: str
) -> PostprocessOptions:
    """Read what to change in masks where the model has no second pass.

    Args:
        message: The options.
        field: Path of the message in the request.
        remedy: What to do instead.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` where one is asked for.
    """
    if message.refine:
        raise invalid_field(f"{field}.refine", f"only SegmentImage has a second pass; {remedy}")
    return postprocess_options_from_proto(message)


def mask_to_proto(mask: EncodedMask) -> mask_pb2.EncodedMask:
    """Write a mask in the encoding that it has."""
    match mask:
        case EncodedRle(counts, size):
            rle = mask_pb2.CocoRle(size=image_size_to_proto(size), counts=counts)
            return mask_pb2.EncodedMask(coco_rle=rle)
        case EncodedRleCounts(numbers, size):
            runs = mask_pb2.CocoRleCounts(size=image_size_to_proto(size), counts=numbers.tolist())
            return mask_pb2.EncodedMask(coco_rle_counts=runs)
        case EncodedPng(data):
            return mask_pb2.EncodedMask(png=mask_pb2.PngMask(data=data))
        case EncodedPolygons(polygons, size):
            outlines = mask_pb2.PolygonMask(
                size=image_size_to_proto(size),
                polygons=[_polygon_to_proto(polygon) for polygon in polygons],
            )
            return mask_pb2.EncodedMask(polygons=outlines)


def mask_from_proto(message: mask_pb2.EncodedMask, field: str) -> EncodedMask:
    """Read a mask; whether its data is well-formed shows when it is decoded.

    Args:
        message: The mask.
        field: Path of the mask in the request.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` where no mask is set or a ring's coordinates are odd.
    """
    match message.WhichOneof("encoding"):
        case "coco_rle":
            return EncodedRle(message.coco_rle.counts, image_size_from_proto(message.coco_rle.size))
        case "coco_rle_counts":
            runs = message.coco_rle_counts
            counts = np.array(runs.counts, dtype=np.uint32)
            return EncodedRleCounts(counts, image_size_from_proto(runs.size))
        case "png":
            return EncodedPng(message.png.data)
        case "polygons":
            return EncodedPolygons(
                tuple(
                    _polygon_from_proto(polygon, f"{field}.polygons.polygons[{index}]")
                    for index, polygon in enumerate(message.polygons.polygons)
                ),
                image_size_from_proto(message.polygons.size),
            )
        case _:
            raise invalid_field(f"{field}.encoding", "exactly one encoding is required")


def mask_logits_to_proto(logits: MaskLogits) -> mask_pb2.MaskLogits:
    """Write mask logits."""
    rows, columns = logits.values.shape
    return mask_pb2.MaskLogits(
        window=box_to_proto(logits.window),
        rows=rows,
        columns=columns,
        values=logits.values.astype(_LOGITS_TYPE, copy=False).tobytes(),
    )


def mask_logits_from_proto(message: mask_pb2.MaskLogits, field: str) -> MaskLogits:
    """Read mask logits.

    Args:
        message: The logits.
        field: Path of the logits in the request.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` where there are not rows × columns numbers.
    """
    if len(message.values) != message.rows * message.columns * _LOGITS_TYPE.itemsize:
        raise invalid_field(
            f"{field}.values", "values must hold rows * columns single-precision numbers"
        )
    values = np.frombuffer(message.values, dtype=_LOGITS_TYPE).astype(np.float32)
    return MaskLogits(
        values=values.reshape(message.rows, message.columns),
        window=box_from_proto(message.window),
    )


def _polygon_to_proto(polygon: Polygon) -> mask_pb2.Polygon:
    return mask_pb2.Polygon(
        outer=_ring_to_proto(polygon.outer),
        holes=[_ring_to_proto(hole) for hole in polygon.holes],
    )


def _polygon_from_proto(message: mask_pb2.Polygon, field: str) -> Polygon:
    return Polygon(
        outer=_ring_from_proto(message.outer, f"{field}.outer"),
        holes=tuple(
            _ring_from_proto(hole, f"{field}.holes[{index}]")
            for index, hole in enumerate(message.holes)
        ),
    )


def _ring_to_proto(ring: NDArray[np.float32]) -> mask_pb2.Ring:
    return mask_pb2.Ring(coordinates=ring.ravel().tolist())


def _ring_from_proto(message: mask_pb2.Ring, field: str) -> NDArray[np.float32]:
    if len(message.coordinates) % 2:
        raise invalid_field(f"{field}.coordinates", "coordinates must come in pairs")
    return np.array(message.coordinates, dtype=np.float32).reshape(-1, 2)
