"""Square windows of an image: where to look, and how to cut, scale and put back.

Windows lie on whole pixels and may reach beyond the image; what lies beyond is grey. Training cuts
its samples with the same functions, so that network and engine see the same thing. No torch here.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

PADDING = 115
"""Grey (uint8) of what lies beyond the image: the mean that the network subtracts."""

SMALLEST = 16
"""Smallest side of a window in pixels; less shows no context."""


@dataclass(frozen=True, slots=True)
class Window:
    """A square of `side` pixels whose outer top-left corner is (`left`, `top`) of the image."""

    left: int
    top: int
    side: int


def window_around(centre_x: float, centre_y: float, side: float, height: int, width: int) -> Window:
    """Return a window of about `side` pixels, moved into the image as far as it fits."""
    whole = max(SMALLEST, round(side))
    left = _slide(centre_x - whole / 2, whole, width)
    top = _slide(centre_y - whole / 2, whole, height)
    return Window(left, top, whole)


def _slide(start: float, side: int, extent: int) -> int:
    """Shifts an interval into 0..extent where it fits, else centres it."""
    if side >= extent:
        return (extent - side) // 2
    return int(min(max(round(start), 0), extent - side))


def cut(
    picture: NDArray[np.uint8], window: Window, size: int, padding: int = PADDING
) -> NDArray[np.uint8]:
    """Cut a window out of a picture and scale it to `size` x `size`.

    `picture` is (height, width) or (height, width, 3), uint8; the result has the same channels.
    Shrinking averages areas, so that texture does not alias; enlarging is bilinear.
    """
    height, width = picture.shape[:2]
    rows = slice(max(window.top, 0), min(window.top + window.side, height))
    columns = slice(max(window.left, 0), min(window.left + window.side, width))
    seen = picture[rows, columns]
    if seen.shape[:2] != (window.side, window.side):
        full = np.full((window.side, window.side, *picture.shape[2:]), padding, np.uint8)
        top, left = rows.start - window.top, columns.start - window.left
        full[top : top + seen.shape[0], left : left + seen.shape[1]] = seen
        seen = full
    method = cv2.INTER_AREA if window.side > size else cv2.INTER_LINEAR
    scaled = cv2.resize(np.ascontiguousarray(seen), (size, size), interpolation=method)
    return np.asarray(scaled, np.uint8)


def mask_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """Return x_min, y_min, x_max, y_max (half open) of a bitmap's true pixels; None if empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
