"""Rasterises polygons with holes: a pixel belongs to one if its centre lies inside (even-odd).

Only numpy and no drawing library, whose rules for pixels on the outline differ from the contract's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def fill(bitmap: NDArray[np.bool_], rings: Iterable[Sequence[float]]) -> None:
    """Set the pixels of `bitmap`, shape (height, width), whose centres the rings enclose.

    Args:
        bitmap: Changed in place; what was set stays set.
        rings: x and y of each point in turn; a point is inside if it is in an odd number of them.
    """
    height, width = bitmap.shape
    # Crossing an edge toggles every pixel to its right; the last column takes what lies outside.
    toggles = np.zeros((height, width + 1), dtype=np.bool_)
    for ring in rings:
        rows, columns = _crossings(np.asarray(ring, dtype=np.float64).reshape(-1, 2), width, height)
        np.logical_xor.at(toggles, (rows, columns), True)
    bitmap |= np.logical_xor.accumulate(toggles, axis=1)[:, :width]


def _crossings(
    points: NDArray[np.float64], width: int, height: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return row and first column to the right of each crossing of a ring with a row of centres."""
    start, end = points, np.roll(points, -1, axis=0)
    top = np.minimum(start[:, 1], end[:, 1])
    bottom = np.maximum(start[:, 1], end[:, 1])
    # Rows whose centre y = row + 0.5 is in [top, bottom): each vertex counts for one edge only.
    first = np.clip(np.ceil(top - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(bottom - 0.5), 0, height).astype(np.int64)
    lengths = last - first
    edges = np.repeat(np.arange(len(points)), lengths)
    within = np.arange(edges.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    rows = first[edges] + within
    slope = (end[edges, 0] - start[edges, 0]) / (end[edges, 1] - start[edges, 1])
    x = start[edges, 0] + (rows + 0.5 - start[edges, 1]) * slope
    return rows, np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
