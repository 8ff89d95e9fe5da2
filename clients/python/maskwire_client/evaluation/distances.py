"""Exact Euclidean distances between pixels, with numpy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["deepest_pixel", "squared_distances"]

_FARTHEST_PX = 30_000  # the sum of two such distances, squared, fits into 32 bits


def squared_distances(targets: NDArray[np.bool_], limit_px: int | None = None) -> NDArray[np.int32]:
    """Return how far each pixel is from the nearest target, from centre to centre, squared.

    The work grows with the largest distance: columns are looked through at once, rows step by step.

    Args:
        targets: Shape (height, width).
        limit_px: Distances above this need not be exact, only above it; None is no limit.

    Returns:
        Shape (height, width), in squared pixels; without any target, larger than any distance.
        Distances above 30,000 px come out as that.
    """
    height, width = targets.shape
    far = min(height + width, _FARTHEST_PX)
    down_columns = _distances_in_columns(targets, far) ** 2
    nearest = down_columns.copy()
    if not targets.any():
        return nearest
    for step in range(1, width if limit_px is None else min(width, limit_px + 1)):
        square = np.int32(step * step)
        if square >= nearest.max():
            break
        np.minimum(nearest[:, step:], down_columns[:, :-step] + square, out=nearest[:, step:])
        np.minimum(nearest[:, :-step], down_columns[:, step:] + square, out=nearest[:, :-step])
    return nearest


def deepest_pixel(region: NDArray[np.bool_]) -> tuple[int, int, int] | None:
    """Return the pixel farthest from all that is not of a region, beyond the picture's edge too.

    Args:
        region: Shape (height, width).

    Returns:
        Column, row and squared distance; of equals the first, line by line. None for no pixels.
    """
    rows = np.flatnonzero(region.any(axis=1))
    if rows.size == 0:
        return None
    columns = np.flatnonzero(region.any(axis=0))
    window = region[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    depths = squared_distances(np.pad(~window, 1, constant_values=True))[1:-1, 1:-1]
    row, column = np.unravel_index(int(depths.argmax()), depths.shape)
    depth = int(depths[row, column])
    return int(column) + int(columns[0]), int(row) + int(rows[0]), depth


def _distances_in_columns(targets: NDArray[np.bool_], far: int) -> NDArray[np.int32]:
    """Return the distance to the nearest target of the same column, `far` at most."""
    height = targets.shape[0]
    rows = np.arange(height, dtype=np.int32)[:, None]
    above = np.maximum.accumulate(np.where(targets, rows, np.int32(-far)), axis=0)
    below = np.minimum.accumulate(np.where(targets, rows, np.int32(height + far))[::-1], axis=0)
    nearest: NDArray[np.int32] = np.minimum(rows - above, below[::-1] - rows)
    return np.minimum(nearest, np.int32(far))
