"""A small software rasteriser: triangles into depth, triangle and weights for each pixel.

Each triangle is compared with the pixel centres in its own box, all triangles at once, so that the
time goes with the pixels covered and the number of triangles, whatever their sizes. Nothing is
known here of colours or cameras.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MOST_CANDIDATES = 2**20  # pairs of triangle and pixel that are compared at a time
_NOTHING = -1
_EDGE = 1e-4  # weight by which a pixel may lie outside, so that rounding leaves no cracks


@dataclass(frozen=True, slots=True)
class Raster:
    """What is seen through each pixel of a square picture.

    Attributes:
        triangles: Shape (side, side), int32: index of the triangle; -1 where there is none.
        weights: Shape (side, side, 3), float32: barycentric weights of its corners.
    """

    triangles: NDArray[np.int32]
    weights: NDArray[np.float32]


def rasterize(positions: NDArray[np.float32], faces: NDArray[np.int32], side_px: int) -> Raster:
    """Find the nearest front side at each pixel centre, without perspective.

    Args:
        positions: Shape (n, 3), finite: x and y in pixels, x right and y down from the top left
            corner, z towards the viewer.
        faces: Shape (m, 3); front sides are those that appear counter-clockwise.
        side_px: Width and height of the picture.
    """
    shown, boxes = _facing(positions, faces, side_px)
    nearest = np.full(side_px * side_px, -np.inf, dtype=np.float32)
    triangles = np.full(side_px * side_px, _NOTHING, dtype=np.int32)
    weights = np.zeros((side_px * side_px, 3), dtype=np.float32)
    for some in _batches(boxes):
        corners = positions[faces[shown[some]]]
        owner, column, row = _candidates(boxes[some])
        inside, hit_weights = _inside(corners, owner, column, row)
        owner = owner[inside]
        pixel = row[inside].astype(np.intp) * side_px + column[inside].astype(np.intp)
        depth = np.einsum("ij,ij->i", hit_weights, corners[owner, :, 2])
        np.maximum.at(nearest, pixel, depth)
        wins = depth == nearest[pixel]
        triangles[pixel[wins]] = shown[some][owner[wins]]
        weights[pixel[wins]] = hit_weights[wins]
    return Raster(triangles.reshape(side_px, side_px), weights.reshape(side_px, side_px, 3))


def _facing(
    positions: NDArray[np.float32], faces: NDArray[np.int32], side_px: int
) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """Return the triangles that show their front and meet a pixel centre's row and column, with
    their boxes of pixels: left, top, right, bottom, half open.
    """
    x, y = np.ascontiguousarray(positions[:, 0]), np.ascontiguousarray(positions[:, 1])
    first, second, third = np.ascontiguousarray(faces.T)
    ax, bx, cx = x[first], x[second], x[third]
    ay, by, cy = y[first], y[second], y[third]
    # With y down, what appears counter-clockwise has a negative cross product.
    front = np.flatnonzero((bx - ax) * (cy - ay) < (cx - ax) * (by - ay))
    left, right = _pixel_range(ax[front], bx[front], cx[front], side_px)
    top, bottom = _pixel_range(ay[front], by[front], cy[front], side_px)
    has_pixels = np.flatnonzero((right > left) & (bottom > top))
    boxes = np.column_stack([one[has_pixels] for one in (left, top, right, bottom)])
    return front[has_pixels], boxes


def _pixel_range(
    a: NDArray[np.float32], b: NDArray[np.float32], c: NDArray[np.float32], side_px: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the first pixel whose centre lies among three numbers and the one after the last."""
    half = np.float32(0.5)
    start = np.ceil(np.minimum(np.minimum(a, b), c) - half)
    stop = np.floor(np.maximum(np.maximum(a, b), c) - half) + 1
    return (
        np.clip(start, 0, side_px).astype(np.int32),
        np.clip(stop, 0, side_px).astype(np.int32),
    )


def _batches(boxes: NDArray[np.int32]) -> Iterator[slice]:
    """Yield runs of triangles whose boxes have no more pixels together than may be compared."""
    ends = np.cumsum(_areas(boxes))
    start = 0
    while start < len(boxes):
        done = int(ends[start - 1]) if start else 0
        stop = int(np.searchsorted(ends, done + _MOST_CANDIDATES, side="right"))
        yield slice(start, max(stop, start + 1))
        start = max(stop, start + 1)


def _areas(boxes: NDArray[np.int32]) -> NDArray[np.int64]:
    widths, heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return widths.astype(np.int64) * heights


def _candidates(
    boxes: NDArray[np.int32],
) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]:
    """Return every pixel of every box: index of the box, column, row."""
    areas = _areas(boxes)
    owner = np.repeat(np.arange(len(boxes)), areas)
    starts = (np.cumsum(areas) - areas).astype(np.int32)
    within = np.arange(len(owner), dtype=np.int32) - starts[owner]
    left, top, right, _ = np.ascontiguousarray(boxes.T)
    width = (right - left)[owner]
    down = within // width
    column = (left[owner] + within - down * width).astype(np.float32)
    return owner, column, (top[owner] + down).astype(np.float32)


def _inside(
    corners: NDArray[np.float32],
    owner: NDArray[np.intp],
    column: NDArray[np.float32],
    row: NDArray[np.float32],
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return which candidates' pixel centres lie in their triangles, and their weights."""
    a, b, c = (np.ascontiguousarray(corners[:, index, :2].T) for index in range(3))
    (abx, aby), (acx, acy) = b - a, c - a
    area = abx * acy - aby * acx
    # Linear in x and y, with the division done once for each triangle.
    second_x, second_y, third_x, third_y = acy / area, -acx / area, -aby / area, abx / area
    half = np.float32(0.5)
    x, y = column + half - a[0][owner], row + half - a[1][owner]
    second = x * second_x[owner] + y * second_y[owner]
    third = x * third_x[owner] + y * third_y[owner]
    first = 1 - second - third
    inside = np.flatnonzero(np.minimum(np.minimum(first, second), third) >= -_EDGE)
    return inside, np.column_stack([first[inside], second[inside], third[inside]])
