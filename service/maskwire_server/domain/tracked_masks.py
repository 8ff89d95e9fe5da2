"""From a tracker's sightings to the masks of an answer: states, what changed, what is sent.

Shared by live sessions and stored video. `ObjectHistory` remembers of each object how it fared and
which mask was sent last; everything else here is pure. Works on full-resolution bitmaps, so it
runs on the executor for pixels.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .geometry import Box, ImageSize
from .logits import MaskLogits
from .mask_measures import bounding_box
from .masks import MaskEncoding, encode_mask
from .packed_masks import PackedMask
from .postprocessing import (
    PostprocessOptions,
    ScoredMask,
    is_good_enough,
    to_bitmap,
    without_overlaps,
)
from .segmentation import MaskOptions, ScoreKind, SegmentedMask
from .tracking import ObjectSighting

VISIBLE_FROM = 0.5
"""Presence from which an object counts as visible: the sign of SAM 2's object score."""


class ObjectState(enum.Enum):
    """How a tracked object fares; the members are the contract's."""

    TRACKED = "tracked"
    """It is seen."""
    LOST = "lost"
    """It is not seen in this frame."""
    FOUND_AGAIN = "found_again"
    """It is seen again after it was lost."""


@dataclass(frozen=True, slots=True)
class MaskDelta:
    """How masks that hardly change are sent; the fields are the contract's `MaskDelta`."""

    mark_unchanged: bool = False
    crop_to_box: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """An object in a frame, at the frame's resolution.

    Attributes:
        object_id: The object.
        bitmap: Shape (height, width), bool; all false where the object is lost.
        box: Tight box of the bitmap, None where it is empty.
        logits: The mask at the engine's resolution.
        presence: Probability that the object is visible, 0 to 1.
        state: How it fares.
        is_new: Whether it appeared in this frame.
        text: The text that found it; empty where none did.
        confidence: How surely it shows what the text says, 0 to 1; None where no text found it.
    """

    object_id: int
    bitmap: NDArray[np.bool_]
    box: Box | None
    logits: MaskLogits
    presence: float
    state: ObjectState
    is_new: bool
    text: str = ""
    confidence: float | None = None

    @property
    def score(self) -> float:
        """The confidence where a text found it, the presence otherwise."""
        return self.presence if self.confidence is None else self.confidence


@dataclass(frozen=True, slots=True)
class TrackedMask:
    """The mask of an object in a frame of a video; the fields are the contract's `TrackedMask`.

    Attributes:
        mask: The mask; `encoded` is None where unchanged or lost.
        state: How the object fares.
        unchanged: Whether the mask equals the last one sent for the object.
        crop: What part of the frame the encoded mask covers; None for all of it.
        is_new: Whether the object appeared in this frame.
    """

    mask: SegmentedMask
    state: ObjectState
    unchanged: bool
    crop: Box | None
    is_new: bool


class ObjectHistory:
    """How each object fared, and the mask last sent for it.

    Args:
        postprocess: What to change in masks before they are looked at, and which of them to drop.
    """

    def __init__(self, postprocess: PostprocessOptions | None = None) -> None:
        self._postprocess = postprocess or PostprocessOptions()
        self._visible: dict[int, bool] = {}
        self._sent: dict[int, PackedMask] = {}

    @property
    def size_bytes(self) -> int:
        """Memory that the remembered masks hold."""
        return sum(sent.bits.nbytes for sent in self._sent.values())

    def observe(
        self, sightings: Sequence[ObjectSighting], size: ImageSize
    ) -> tuple[Observation, ...]:
        """Bring sightings to the frame's resolution and tell how each object fares.

        Those that postprocessing drops are left out, but what they are is remembered.
        """
        options = self._postprocess
        observed = [self._observe(sighting, size) for sighting in sightings]
        kept = [one for one in observed if is_good_enough(one.score, options)]
        if options.max_overlap_iou is None:
            return tuple(kept)
        packed = [ScoredMask(PackedMask.pack(one.bitmap), one.object_id, one.score) for one in kept]
        return tuple(kept[index] for index in without_overlaps(packed, options))

    def has_changed(self, observations: Sequence[Observation], iou_threshold: float) -> bool:
        """Whether an answer is due that is sent on change only.

        That is: an object appeared, vanished, returned or is gone for good, or its IoU with the
        mask last sent fell below the threshold.
        """
        if {one.object_id for one in observations} != self._sent.keys():
            return True
        return any(_differs(self._sent[one.object_id], one, iou_threshold) for one in observations)

    def send(
        self, observations: Sequence[Observation], options: MaskOptions, delta: MaskDelta
    ) -> tuple[TrackedMask, ...]:
        """Encode observations for an answer, and remember them as sent."""
        return tuple(
            self._send(index, one, options, delta) for index, one in enumerate(observations)
        )

    def is_lost(self, object_id: int) -> bool:
        """Whether the object was not visible when it was last observed."""
        return not self._visible.get(object_id, True)

    def resume(self, object_id: int, *, is_visible: bool) -> None:
        """Begin with an object that was tracked elsewhere."""
        self._visible[object_id] = is_visible

    def keep_sent(self, object_ids: Collection[int]) -> None:
        """Forget the masks of all objects but those that a whole frame's answer showed."""
        for object_id in self._sent.keys() - set(object_ids):
            del self._sent[object_id]

    def keep_only(self, object_ids: Collection[int]) -> None:
        """Forget all objects but these."""
        self.forget(self._visible.keys() - set(object_ids))

    def forget(self, object_ids: Collection[int]) -> None:
        """Forget objects."""
        for object_id in object_ids:
            self._visible.pop(object_id, None)
            self._sent.pop(object_id, None)

    def clear(self) -> None:
        """Forget all objects."""
        self._visible.clear()
        self._sent.clear()

    def _observe(self, sighting: ObjectSighting, size: ImageSize) -> Observation:
        is_visible = sighting.presence >= VISIBLE_FROM
        bitmap = (
            to_bitmap(sighting.logits, size, self._postprocess)
            if is_visible
            else np.zeros((size.height_px, size.width_px), dtype=np.bool_)
        )
        box = bounding_box(bitmap) if is_visible else None
        before = self._visible.get(sighting.object_id)
        self._visible[sighting.object_id] = box is not None
        state = ObjectState.TRACKED if box is not None else ObjectState.LOST
        if before is False and box is not None:
            state = ObjectState.FOUND_AGAIN
        return Observation(
            object_id=sighting.object_id,
            bitmap=bitmap,
            box=box,
            logits=sighting.logits,
            presence=sighting.presence,
            state=state,
            is_new=before is None,
            text=sighting.text,
            confidence=sighting.confidence,
        )

    def _send(
        self, index: int, one: Observation, options: MaskOptions, delta: MaskDelta
    ) -> TrackedMask:
        last, sent = self._sent.get(one.object_id), PackedMask.pack(one.bitmap)
        self._sent[one.object_id] = sent
        unchanged = delta.mark_unchanged and last is not None and last.equals(sent)
        crop = one.box if delta.crop_to_box else None
        encoded = None
        if not unchanged and one.box is not None and options.encoding is not MaskEncoding.NONE:
            shown = one.bitmap if crop is None else np.ascontiguousarray(_inside(one.bitmap, crop))
            encoded = encode_mask(shown, options.encoding)
        mask = SegmentedMask(
            index=index,
            object_id=one.object_id,
            alternative=0,
            score=one.score,
            score_kind=(
                ScoreKind.OBJECT_PRESENCE
                if one.confidence is None
                else ScoreKind.CONCEPT_CONFIDENCE
            ),
            stability_score=None,
            area_px=sent.area_px,
            box=one.box,
            encoded=encoded,
            logits=one.logits if options.include_logits and not unchanged else None,
            text=one.text,
        )
        shown_crop = crop if encoded is not None else None
        return TrackedMask(mask, one.state, unchanged, shown_crop, one.is_new)


def _inside(bitmap: NDArray[np.bool_], box: Box) -> NDArray[np.bool_]:
    return bitmap[int(box.y_min) : int(box.y_max), int(box.x_min) : int(box.x_max)]


def _differs(sent: PackedMask, one: Observation, iou_threshold: float) -> bool:
    """Whether an object vanished, returned, or moved by more than the threshold allows."""
    if sent.window.is_empty or one.box is None:
        return sent.window.is_empty != (one.box is None)
    return sent.iou(PackedMask.pack(one.bitmap)) < iou_threshold
