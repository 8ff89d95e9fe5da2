"""How well a mask fits another: IoU, and the boundary measure of DAVIS.

The measures of the DAVIS benchmark (Perazzi et al., 2016): J is the IoU of the regions, F the
harmonic mean of the precision and recall of the outlines, where a pixel of one outline counts as
found if the other passes within 0.8 % of the picture's diagonal.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .distances import squared_distances

__all__ = ["boundary_f", "boundary_tolerance_px", "iou", "outline"]

_TOLERANCE = 0.008
"""Of the picture's diagonal."""


def iou(
    answer: NDArray[np.bool_], truth: NDArray[np.bool_], void: NDArray[np.bool_] | None = None
) -> float:
    """Return intersection over union of two masks of one shape; 1 where both are empty.

    Args:
        answer: Shape (height, width).
        truth: Shape (height, width).
        void: Pixels of which nothing is known; they do not count.
    """
    either, both = answer | truth, answer & truth
    if void is not None:
        either &= ~void
        both &= ~void
    union = int(np.count_nonzero(either))
    return float(np.count_nonzero(both) / union) if union else 1.0


def boundary_tolerance_px(height_px: int, width_px: int) -> int:
    """Return how far apart outlines may be, for a picture's size: 0.8 % of the diagonal, up."""
    return math.ceil(_TOLERANCE * math.hypot(height_px, width_px))


def outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of a mask's outline, one pixel wide, shape (height, width).

    They are those that differ from the pixel to the right, below, or below to the right. The edge
    of the picture is no outline: a mask that ends there has none along it.
    """
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    right, below, diagonal = padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    lines: NDArray[np.bool_] = (mask != right) | (mask != below) | (mask != diagonal)
    return lines


def boundary_f(
    answer: NDArray[np.bool_], truth: NDArray[np.bool_], void: NDArray[np.bool_] | None = None
) -> float:
    """Return the boundary measure F of DAVIS for two masks of one shape.

    Args:
        answer: Shape (height, width).
        truth: Shape (height, width).
        void: Pixels of which nothing is known; they count as background in both.

    Returns:
        0 to 1; 1 where neither has an outline, 0 where only one has.
    """
    if void is not None:
        answer, truth = answer & ~void, truth & ~void
    tolerance_px = boundary_tolerance_px(*truth.shape)
    found, wanted = outline(answer), outline(truth)
    if not found.any() or not wanted.any():
        return float(not found.any() and not wanted.any())
    window = _window(found | wanted)
    found, wanted = found[window], wanted[window]
    precision = _part_near(found, wanted, tolerance_px)
    recall = _part_near(wanted, found, tolerance_px)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _part_near(lines: NDArray[np.bool_], others: NDArray[np.bool_], tolerance_px: int) -> float:
    """Return what part of the pixels of some lines has one of others within a distance."""
    near = squared_distances(others, tolerance_px)[lines] <= tolerance_px**2
    return float(np.count_nonzero(near) / near.size)


def _window(lines: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the rows and columns that hold all lines."""
    rows, columns = np.flatnonzero(lines.any(axis=1)), np.flatnonzero(lines.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
