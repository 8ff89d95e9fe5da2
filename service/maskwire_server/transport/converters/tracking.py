"""Masks of tracked objects, which live sessions and stored video share."""

from __future__ import annotations

from collections.abc import Mapping

from maskwire.v1 import realtime_pb2

from ...domain.geometry import ImageSize
from ...domain.segmentation import MaskOptions
from ...domain.tracked_masks import ObjectState, TrackedMask
from .geometry import box_to_proto
from .segmentation import segmented_mask_to_proto

_OBJECT_STATES: Mapping[ObjectState, realtime_pb2.ObjectState.ValueType] = {
    ObjectState.TRACKED: realtime_pb2.OBJECT_STATE_TRACKED,
    ObjectState.LOST: realtime_pb2.OBJECT_STATE_LOST,
    ObjectState.FOUND_AGAIN: realtime_pb2.OBJECT_STATE_FOUND_AGAIN,
}


def tracked_mask_to_proto(
    mask: TrackedMask, options: MaskOptions, size: ImageSize
) -> realtime_pb2.TrackedMask:
    """Write the mask of an object in a frame of this size; of it only what was asked for."""
    return realtime_pb2.TrackedMask(
        mask=segmented_mask_to_proto(mask.mask, options, size),
        state=_OBJECT_STATES[mask.state],
        unchanged=mask.unchanged,
        crop=None if mask.crop is None else box_to_proto(mask.crop),
        is_new=mask.is_new,
    )
