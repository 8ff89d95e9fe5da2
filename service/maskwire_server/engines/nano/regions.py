"""Regions of like colour in an image: a cheap guess at where objects are, for nano to look at.

Colours are grouped a few at a time and many at a time, so that both an object of several shades and
its parts are among the regions. Nothing here says that a region is an object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskwire_server.domain.auto_segmentation.box_suppression import suppress
from maskwire_server.domain.geometry import Box

_SIDE_PX = 192
_COLOURS = (3, 5, 9)
_ROUNDS = 8
_SMALLEST_SHARE, _LARGEST_SHARE = 0.003, 0.6
_DUPLICATE_IOU = 0.75


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A connected region of like colour.

    Attributes:
        box: The tight box around it, in the image frame.
        point: Index of the grid point inside it that is deepest within.
    """

    box: Box
    point: int


def find_regions(pixels: NDArray[np.uint8], points: NDArray[np.float32], most: int) -> list[Region]:
    """Return the largest regions in which a point lies; takes 0.1 s whatever the image's size.

    Args:
        pixels: Shape (height, width, 3), uint8, RGB.
        points: Shape (n, 2), float32, in the image frame.
        most: Most regions.
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, _SIDE_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    smooth = cv2.cvtColor(cv2.bilateralFilter(small, 7, 30, 5), cv2.COLOR_RGB2LAB)
    cells = np.clip((points * [size[0] / width, size[1] / height]).astype(np.intp), 0, None)
    columns, rows = np.minimum(cells, [size[0] - 1, size[1] - 1]).T
    found = [
        region
        for colours in _COLOURS
        for region in _connected(_grouped(np.asarray(smooth), colours), columns, rows)
    ]
    if not found:
        return []
    boxes = np.array([box for box, _, _ in found], dtype=np.float32)
    areas = np.array([area for _, area, _ in found], dtype=np.float32)
    stretch = np.array([width / size[0], height / size[1]] * 2)
    return [
        Region(Box(*(boxes[index] * stretch).tolist()), found[index][2])
        for index in suppress(boxes, areas, _DUPLICATE_IOU)[:most]
    ]


def _grouped(picture: NDArray[Any], colours: int) -> NDArray[np.int32]:
    """Return which of a few colours each pixel is of; the same for the same picture."""
    values = picture.reshape(-1, 3).astype(np.float32)
    # Starts from pixels of evenly spread brightness, not from random ones.
    order = np.argsort(values[:, 0], kind="stable")
    starts = values[order[np.linspace(0, len(order) - 1, 2 * colours + 1).astype(np.intp)[1::2]]]
    nearest = _nearest(values, starts)
    for _ in range(_ROUNDS):
        counts = np.maximum(np.bincount(nearest, minlength=colours), 1)
        starts = np.stack(
            [np.bincount(nearest, values[:, c], minlength=colours) / counts for c in range(3)], 1
        ).astype(np.float32)
        nearest = _nearest(values, starts)
    return nearest.reshape(picture.shape[:2]).astype(np.int32)


def _nearest(values: NDArray[np.float32], colours: NDArray[np.float32]) -> NDArray[np.intp]:
    distances = (colours**2).sum(1) - 2 * values @ colours.T
    return np.asarray(distances.argmin(1), np.intp)


def _connected(
    groups: NDArray[np.int32], columns: NDArray[np.intp], rows: NDArray[np.intp]
) -> list[tuple[tuple[int, int, int, int], int, int]]:
    """Return box, area and deepest point of each connected region that a point lies in."""
    found = []
    for group in range(int(groups.max()) + 1):
        mask = (groups == group).astype(np.uint8)
        _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        depth = cv2.distanceTransform(mask, cv2.DIST_L2, 3)
        at_points, depth_at_points = labels[rows, columns], depth[rows, columns]
        for label in np.unique(at_points[at_points > 0]).tolist():
            left, top, width, height, area = (int(value) for value in statistics[label])
            if not _SMALLEST_SHARE <= area / groups.size <= _LARGEST_SHARE:
                continue
            inside = np.flatnonzero(at_points == label)
            point = int(inside[np.argmax(depth_at_points[inside])])
            found.append(((left, top, left + width, top + height), area, point))
    return found
