"""Resolves masks that were sent in short: unchanged, cropped or lost; for sessions and video."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from typing import TypeGuard

from maskwire.v1 import realtime_pb2

from ._enums import from_wire
from ._responses import box_result, mask_result
from .geometry import ImageSize
from .masks import CocoRle, CocoRleCounts, CroppedMask, EncodedMask, PngMask, PolygonMask
from .sessions import ObjectState, TrackedMask


class MaskMemory:
    """The mask last sent for each object, which markers of unchanged masks refer to.

    Bounded by the number of objects: of those that are gone nothing is kept.

    Args:
        has_masks: Whether masks are sent at all, or only their scores, areas and boxes.
    """

    def __init__(self, *, has_masks: bool) -> None:
        self._has_masks = has_masks
        self._last: dict[int, EncodedMask] = {}

    def resolve(
        self, messages: Iterable[realtime_pb2.TrackedMask], size: ImageSize
    ) -> tuple[TrackedMask, ...]:
        """Return masks at the frame's full size, and remember them.

        Args:
            messages: The masks as they came.
            size: Of the frame.
        """
        return tuple(self._resolve(message, size) for message in messages)

    def keep_only(self, object_ids: Collection[int]) -> None:
        """Forget all objects but these."""
        for object_id in self._last.keys() - set(object_ids):
            del self._last[object_id]

    def _resolve(self, message: realtime_pb2.TrackedMask, size: ImageSize) -> TrackedMask:
        mask = mask_result(message.mask)
        state = from_wire(realtime_pb2.ObjectState.DESCRIPTOR, ObjectState, message.state)
        encoded = mask.encoded
        if state is ObjectState.LOST:
            encoded = CocoRleCounts(size, (size.width_px * size.height_px,))
        elif message.unchanged:
            encoded = self._last.get(mask.object_id)
        elif message.HasField("crop") and _is_plain(encoded):
            encoded = CroppedMask(size, box_result(message.crop), encoded)
        if not self._has_masks:
            encoded = None
        if encoded is not None and mask.alternative == 0:
            self._last[mask.object_id] = encoded
        fields = {field.name: getattr(mask, field.name) for field in dataclasses.fields(mask)}
        fields["encoded"] = encoded
        return TrackedMask(
            **fields,
            state=state or ObjectState.UNSPECIFIED,
            is_new=message.is_new,
            unchanged=message.unchanged,
        )


def _is_plain(
    mask: EncodedMask | None,
) -> TypeGuard[CocoRle | CocoRleCounts | PngMask | PolygonMask]:
    return mask is not None and not isinstance(mask, CroppedMask)
