"""Where automatic segmentation looks: crop windows of an image, and a grid of points on each.

The rules are those of SAM's automatic mask generation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..geometry import ImageSize
from ..packed_masks import Window


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of the image that is encoded and searched by itself.

    Attributes:
        layer: 0 for the whole image; layer i has 2^i × 2^i crops.
        window: What part it is.
    """

    layer: int
    window: Window

    @property
    def size(self) -> ImageSize:
        """Width and height of the part."""
        width = self.window.right - self.window.left
        return ImageSize(width_px=width, height_px=self.window.bottom - self.window.top)


def crops(size: ImageSize, layers: int, overlap_ratio: float) -> tuple[Crop, ...]:
    """Return the whole image and the crops of each layer, columns before rows.

    Args:
        size: Size of the image.
        layers: Layers besides the whole image.
        overlap_ratio: Overlap of the crops of the first layer, as a fraction of the image's shorter
            side; each next layer has half of it.
    """
    found = [Crop(0, Window.covering(size))]
    for layer in range(1, layers + 1):
        per_side = 2**layer
        overlap = int(overlap_ratio * min(size.width_px, size.height_px) * (2 / per_side))
        found += [
            Crop(layer, Window(left, top, right, bottom))
            for left, right in _spans(size.width_px, per_side, overlap)
            for top, bottom in _spans(size.height_px, per_side, overlap)
        ]
    return tuple(crop for crop in found if not crop.window.is_empty)


def _spans(extent: int, count: int, overlap: int) -> Iterator[tuple[int, int]]:
    length = math.ceil((overlap * (count - 1) + extent) / count)
    for number in range(count):
        start = (length - overlap) * number
        yield start, min(start + length, extent)


def points_per_side(layer: int, of_the_image: int, downscale_factor: int) -> int:
    """Return how many points a side of the grid of a layer has; at least one."""
    return max(1, of_the_image // int(downscale_factor**layer))


def point_grid(per_side: int, size: ImageSize) -> NDArray[np.float32]:
    """Return the points of a grid in the middle of equal cells, row by row.

    Returns:
        Shape (per_side², 2), float32, x and y in pixels.
    """
    ticks = np.linspace(1 / (2 * per_side), 1 - 1 / (2 * per_side), per_side)
    columns, rows = np.meshgrid(ticks, ticks)
    points = np.stack([columns.ravel() * size.width_px, rows.ravel() * size.height_px], axis=1)
    return points.astype(np.float32)
