"""From the masks that automatic segmentation chose to finished ones, at the image's resolution.

Masks are cleaned up one at a time and kept packed; a mask is encoded only when it is told. All of
it blocks, and runs on the executor for pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..geometry import Box, ImageSize
from ..masks import MaskEncoding, encode_mask
from ..packed_masks import DrawableMask, PackedMask
from ..postprocessing import (
    PostprocessOptions,
    ScoredMask,
    clean_bitmap,
    fill_holes,
    remove_islands,
    to_bitmap,
    without_overlaps,
)
from ..segmentation import MaskOptions, ScoreKind, SegmentedMask
from .box_suppression import suppress
from .proposal_pool import Candidate
from .requests import AutoSegmentOptions


@dataclass(frozen=True, slots=True, eq=False)
class CleanMask:
    """A candidate at the image's resolution.

    Attributes:
        candidate: What it was made of.
        mask: The mask with every change made that was asked for.
        was_changed: Whether small islands or holes were removed.
    """

    candidate: Candidate
    mask: PackedMask
    was_changed: bool


def clean(
    candidates: Sequence[Candidate],
    size: ImageSize,
    min_region_area: int,
    postprocess: PostprocessOptions,
) -> list[CleanMask]:
    """Bring candidates to the image's resolution, one at a time, and make every change to them."""
    only_coarseness = PostprocessOptions(coarse_masks=postprocess.coarse_masks)
    cleaned = []
    for candidate in candidates:
        bitmap = to_bitmap(candidate.logits.restore(), size, only_coarseness)
        changed = bitmap
        if min_region_area:
            changed = remove_islands(fill_holes(bitmap, min_region_area), min_region_area)
        packed = PackedMask.pack(clean_bitmap(changed, postprocess))
        cleaned.append(CleanMask(candidate, packed, changed is not bitmap))
    return cleaned


def choose(
    masks: Sequence[CleanMask], options: AutoSegmentOptions, postprocess: PostprocessOptions
) -> list[CleanMask]:
    """Return the masks that count, best first.

    What was cleaned up may now be what another mask is: of two such the one that needed no change
    stays, as in SAM's automatic mask generation.
    """
    least = postprocess.min_score
    there = [
        one
        for one in masks
        if one.mask.area_px and (least is None or one.candidate.predicted_iou >= least)
    ]
    if options.min_mask_region_area and there:
        there = _without_duplicates(there, max(options.box_nms_thresh, options.crop_nms_thresh))
    scored = [
        ScoredMask(one.mask, number, one.candidate.predicted_iou)
        for number, one in enumerate(there)
    ]
    there = [there[index] for index in without_overlaps(scored, postprocess)]
    there.sort(key=lambda one: (-one.candidate.predicted_iou, -one.candidate.stability_score))
    return there[: options.max_masks]


def _without_duplicates(masks: Sequence[CleanMask], threshold: float) -> list[CleanMask]:
    windows = [one.mask.window for one in masks]
    boxes = np.array(
        [[seen.left, seen.top, seen.right - 1, seen.bottom - 1] for seen in windows],
        dtype=np.float32,
    )
    scores = np.array([0.0 if one.was_changed else 1.0 for one in masks], dtype=np.float32)
    return [masks[index] for index in suppress(boxes, scores, threshold)]


def segmented(one: CleanMask, index: int, options: MaskOptions) -> SegmentedMask:
    """Return a mask as it is told: encoded, and with its numbers."""
    candidate, window = one.candidate, one.mask.window
    encoding = options.encoding
    return SegmentedMask(
        index=index,
        object_id=index + 1,
        alternative=0,
        score=candidate.predicted_iou,
        score_kind=ScoreKind.PREDICTED_IOU,
        stability_score=candidate.stability_score,
        area_px=one.mask.area_px,
        box=Box(window.left, window.top, window.right, window.bottom),
        encoded=None if encoding is MaskEncoding.NONE else encode_mask(one.mask.unpack(), encoding),
        logits=candidate.logits.restore() if options.include_logits else None,
        grid_point=candidate.point,
    )


def drawables(masks: Sequence[CleanMask], indices: Sequence[int]) -> list[DrawableMask]:
    """Return what pictures are drawn from: large masks first, so that small ones lie on top."""
    drawn = [
        DrawableMask(index, index + 1, one.mask, score=one.candidate.predicted_iou)
        for one, index in zip(masks, indices, strict=True)
    ]
    return sorted(drawn, key=lambda one: -one.mask.area_px)
