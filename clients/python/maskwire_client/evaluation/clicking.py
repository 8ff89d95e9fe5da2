"""Simulated clicking, as the literature on interactive segmentation does it.

The first click is set in the middle of the object, each next one in the middle of the largest
error: where object is missed or background is taken, at the pixel that lies deepest in it. Of
errors equally deep a missed object goes first; no pixel is clicked twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .distances import deepest_pixel

__all__ = ["Click", "clicks_needed", "first_click", "next_click"]


@dataclass(frozen=True, slots=True)
class Click:
    """A pixel that is clicked, and whether it is of the object."""

    column: int
    row: int
    is_foreground: bool

    @property
    def x(self) -> float:
        """The middle of the pixel, in pixels from the picture's left edge."""
        return self.column + 0.5

    @property
    def y(self) -> float:
        """The middle of the pixel, in pixels from the picture's top edge."""
        return self.row + 0.5


def first_click(truth: NDArray[np.bool_]) -> Click:
    """Return the click in the middle of an object.

    Args:
        truth: Its mask, shape (height, width).

    Raises:
        ValueError: The mask is empty.
    """
    found = deepest_pixel(truth)
    if found is None:
        raise ValueError("an object without a pixel cannot be clicked")
    column, row, _ = found
    return Click(column, row, is_foreground=True)


def next_click(
    truth: NDArray[np.bool_], answer: NDArray[np.bool_], clicks: Sequence[Click]
) -> Click | None:
    """Return the click that corrects an answer.

    Args:
        truth: The object's mask, shape (height, width).
        answer: The mask to correct, of the same shape.
        clicks: Those that were made.

    Returns:
        The click; None where nothing is wrong but at pixels that were clicked.
    """
    missed, taken = truth & ~answer, answer & ~truth
    for click in clicks:
        missed[click.row, click.column] = taken[click.row, click.column] = False
    in_missed, in_taken = deepest_pixel(missed), deepest_pixel(taken)
    if in_missed is not None and (in_taken is None or in_missed[2] >= in_taken[2]):
        return Click(in_missed[0], in_missed[1], is_foreground=True)
    if in_taken is not None:
        return Click(in_taken[0], in_taken[1], is_foreground=False)
    return None


def clicks_needed(curve: Sequence[float], target_iou: float, most: int) -> int:
    """Return the number of clicks (NoC) to an IoU; `most` where it is not reached.

    Args:
        curve: IoU after 1, 2, ... clicks.
        target_iou: What to reach.
        most: Clicks that were allowed.
    """
    reached = (clicks for clicks, value in enumerate(curve, start=1) if value >= target_iou)
    return next(reached, most)
