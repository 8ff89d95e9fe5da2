"""What may be changed in masks before they are measured, encoded and drawn.

Works on one mask at a time: from logits to the bitmap (`to_bitmap`), or on a bitmap that is there
already (`clean_bitmap`); and on whole sets: which masks go for their scores (`is_good_enough`) and
which for overlapping better ones (`without_overlaps`). Everything looks at the bounding box of the
object only, not at the image. All of it blocks, and runs on the executor for pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .geometry import ImageSize
from .logits import MaskLogits
from .packed_masks import PackedMask, Window, object_window

_CONNECTIVITY = 8  # pixels that touch at a corner belong together, as in SAM's own clean-up
_SIDES_PER_STRUCTURE = 200  # the clean-up's disc is this fraction of the shorter side wide
_MIN_STRUCTURE_PX = 3


@dataclass(frozen=True, slots=True)
class PostprocessOptions:
    """What to change in masks; the fields are the contract's, and by default nothing changes.

    Attributes:
        max_hole_area_px: Fills holes of fewer pixels than this.
        min_region_area_px: Removes islands of fewer pixels than this, but never the largest.
        smoothing_radius_px: Smooths the outline with a Gaussian of this standard deviation.
        morphological_cleanup: Opening, then closing, with a disc of 1/200 of the shorter side.
        refine: Draws masks anew from windows around them (`refinement`), of still images only.
        min_score: Drops masks that score less, 0 to 1; None drops none.
        max_overlap_iou: Drops the worse of two objects' masks that overlap by more, 0 to 1; None
            drops none.
        coarse_masks: Thresholds logits at the model's resolution and enlarges the bitmap.
    """

    max_hole_area_px: int = 0
    min_region_area_px: int = 0
    smoothing_radius_px: float = 0.0
    morphological_cleanup: bool = False
    refine: bool = False
    min_score: float | None = None
    max_overlap_iou: float | None = None
    coarse_masks: bool = False


@dataclass(frozen=True, slots=True)
class ScoredMask:
    """A mask in a set from which overlapping ones are dropped.

    Attributes:
        mask: The mask.
        object_id: The object; masks of one object never drop one another.
        score: The higher, the better.
    """

    mask: PackedMask
    object_id: int
    score: float


def to_bitmap(
    logits: MaskLogits, size: ImageSize, options: PostprocessOptions
) -> NDArray[np.bool_]:
    """Return the bitmap of logits at an image's size, with every change to a single mask made.

    Returns:
        Shape (height, width), bool, contiguous.
    """
    coarse = options.coarse_masks
    return clean_bitmap(_coarse_bitmap(logits, size) if coarse else logits.to_bitmap(size), options)


def clean_bitmap(bitmap: NDArray[np.bool_], options: PostprocessOptions) -> NDArray[np.bool_]:
    """Return a bitmap with holes filled, islands removed, cleaned up and smoothed, in this order.

    Args:
        bitmap: Shape (height, width), bool; not changed.
        options: What to do; those for sets of masks and for logits do not matter here.

    Returns:
        The same bitmap where nothing changed, else a new one. An object never vanishes entirely.
    """
    if options.max_hole_area_px:
        bitmap = fill_holes(bitmap, options.max_hole_area_px)
    if options.min_region_area_px:
        bitmap = remove_islands(bitmap, options.min_region_area_px)
    if options.morphological_cleanup:
        bitmap = _clean_up(bitmap)
    if options.smoothing_radius_px > 0:
        bitmap = _smooth(bitmap, options.smoothing_radius_px)
    return bitmap


def is_good_enough(score: float, options: PostprocessOptions) -> bool:
    """Whether a mask of this score stays."""
    return options.min_score is None or score >= options.min_score


def without_overlaps(masks: Sequence[ScoredMask], options: PostprocessOptions) -> list[int]:
    """Return the indices of the masks that stay, ascending.

    The best mask stays, and drops every worse one of another object that overlaps it by more than
    `max_overlap_iou`; then the best of the others, and so on. Of equals the earlier is better.
    """
    if options.max_overlap_iou is None:
        return list(range(len(masks)))
    kept: list[int] = []
    for index in sorted(range(len(masks)), key=lambda index: -masks[index].score):
        one = masks[index]
        if not any(
            masks[better].object_id != one.object_id
            and masks[better].mask.overlaps_more(one.mask, options.max_overlap_iou)
            for better in kept
        ):
            kept.append(index)
    return sorted(kept)


def fill_holes(bitmap: NDArray[np.bool_], max_area_px: int) -> NDArray[np.bool_]:
    """Fill background regions of fewer than `max_area_px` pixels, at the image's border too.

    This is what SAM's automatic mask generator does. Pixels that touch at a corner belong to one
    region.
    """
    window = object_window(bitmap)
    if window.is_empty:
        return bitmap
    height, width = bitmap.shape
    size = ImageSize(width_px=width, height_px=height)
    # What is left of the image on a side is one region with whatever touches it; as long as it is
    # too large to fill, everything that touches it can be left alone.
    sides = (
        window.left * height,
        window.top * width,
        (width - window.right) * height,
        (height - window.bottom) * width,
    )
    if any(0 < strip < max_area_px for strip in sides):
        seen, outside = Window(0, 0, width, height), np.empty(0, dtype=np.int32)
        labels, areas = _regions(~bitmap)
    else:
        seen = window.grown(1, size)
        labels, areas = _regions(~bitmap[seen.slices])
        outside = _labels_outside(labels, seen, window)
    fills = areas < max_area_px
    fills[0] = False
    fills[outside] = False
    if not fills.any():
        return bitmap
    filled = bitmap.copy()
    filled[seen.slices] |= fills[labels]
    return filled


def remove_islands(bitmap: NDArray[np.bool_], min_area_px: int) -> NDArray[np.bool_]:
    """Remove regions of fewer than `min_area_px` pixels; where all are smaller, the largest stays.

    Pixels that touch at a corner belong to one region.
    """
    window = object_window(bitmap)
    if window.is_empty:
        return bitmap
    labels, areas = _regions(bitmap[window.slices])
    stays = areas >= min_area_px
    stays[0] = False
    if not stays.any():
        stays[1 + int(np.argmax(areas[1:]))] = True
    if stays[1:].all():
        return bitmap
    cleaned = np.zeros_like(bitmap)
    cleaned[window.slices] = stays[labels]
    return cleaned


def _regions(bitmap: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the label of each pixel, 0 where it is false, and the area of each label."""
    source = np.ascontiguousarray(bitmap).view(np.uint8)
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(source, connectivity=_CONNECTIVITY)
    return np.asarray(labels, np.int32), np.asarray(statistics[:, cv2.CC_STAT_AREA], np.int32)


def _labels_outside(labels: NDArray[np.int32], seen: Window, inner: Window) -> NDArray[np.int32]:
    """Return the labels on the sides where the seen window reaches beyond the inner one."""
    sides = (
        labels[0] if seen.top < inner.top else None,
        labels[-1] if seen.bottom > inner.bottom else None,
        labels[:, 0] if seen.left < inner.left else None,
        labels[:, -1] if seen.right > inner.right else None,
    )
    present = [side for side in sides if side is not None]
    return np.unique(np.concatenate(present)) if present else np.empty(0, dtype=np.int32)


def _coarse_bitmap(logits: MaskLogits, size: ImageSize) -> NDArray[np.bool_]:
    """Threshold at the grid's own resolution and give each pixel the cell that it lies in."""
    rows, columns = logits.values.shape
    window = logits.window
    row = _cells(size.height_px, window.y_min, window.height, rows)
    column = _cells(size.width_px, window.x_min, window.width, columns)
    # A false cell all around stands for what lies outside the window.
    cells = np.zeros((rows + 2, columns + 2), dtype=np.bool_)
    cells[1:-1, 1:-1] = logits.values > 0
    return cells[row][:, column]


def _cells(pixels: int, start: float, extent: float, cells: int) -> NDArray[np.intp]:
    """Return the cell of each pixel's centre along one axis, from 1; 0 and beyond are outside."""
    position = np.floor((np.arange(pixels) + 0.5 - start) / extent * cells) + 1
    return np.asarray(np.clip(position, 0, cells + 1), dtype=np.intp)


def _clean_up(bitmap: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Open, then close, with a disc; an object that opening would remove is only closed."""
    diameter = max(_MIN_STRUCTURE_PX, round(min(bitmap.shape) / _SIDES_PER_STRUCTURE) | 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))

    def change(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, disc)
        kept = opened if opened.any() else mask
        return np.asarray(cv2.morphologyEx(kept, cv2.MORPH_CLOSE, disc), np.uint8)

    return _changed_within(bitmap, diameter, change)


def _smooth(bitmap: NDArray[np.bool_], radius_px: float) -> NDArray[np.bool_]:
    """Blur, then threshold at half; an object that would vanish stays as it is."""

    def change(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        blurred = cv2.GaussianBlur(mask, (0, 0), radius_px, borderType=cv2.BORDER_REPLICATE)
        smooth = np.asarray(blurred > 127, np.uint8)
        return smooth if smooth.any() else mask

    return _changed_within(bitmap, round(3 * radius_px) + 1, change)


def _changed_within(
    bitmap: NDArray[np.bool_],
    margin_px: int,
    change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
) -> NDArray[np.bool_]:
    """Apply a change to the object's surroundings as a picture of 0 and 255; the rest is false."""
    window = object_window(bitmap)
    if window.is_empty:
        return bitmap
    size = ImageSize(width_px=bitmap.shape[1], height_px=bitmap.shape[0])
    seen = window.grown(margin_px, size)
    grey = np.ascontiguousarray(bitmap[seen.slices]).view(np.uint8) * np.uint8(255)
    changed = np.zeros_like(bitmap)
    changed[seen.slices] = change(grey) > 0
    return changed
