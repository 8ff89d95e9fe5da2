"""The texture of an object: its part of the image, with nothing of what surrounds it.

The image is projected along the camera's rays onto the front and, through it, onto the back.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .grid import PixelBox

_MARGIN_TEXELS = 2
_LEAST_COVERED = 64  # of 255: a texel that the object covers less takes its neighbour's colour


@dataclass(frozen=True, slots=True)
class Texture:
    """A texture and where it comes from.

    Attributes:
        pixels: Shape (height, width, 3), uint8, RGB.
        box: The part of the image, reaching beyond it by a margin, that the texture shows.
    """

    pixels: NDArray[np.uint8]
    box: PixelBox

    def coordinates(self, positions: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return u and v (down), shape (n, 2), float32, 0 to 1, of positions of the image."""
        offsets = positions - [self.box.left, self.box.top]
        shares = offsets / [self.box.width, self.box.height]
        return np.clip(shares, 0, 1).astype(np.float32)

    def colors(self, coordinates: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the colours, shape (n, 3), float32, 0 to 1, of the nearest texels."""
        height, width = self.pixels.shape[:2]
        columns = np.clip((coordinates[:, 0] * width).astype(np.intp), 0, width - 1)
        rows = np.clip((coordinates[:, 1] * height).astype(np.intp), 0, height - 1)
        return np.asarray(self.pixels[rows, columns] / np.float32(255), np.float32)


def make_texture(
    pixels: NDArray[np.uint8], mask: NDArray[np.bool_], box: PixelBox, longest_px: int
) -> Texture:
    """Cut an object's texture out of an image.

    Texels outside the mask take the colour of the nearest one inside, so that filtering blends
    nothing foreign in at the silhouette. Where it is made smaller, only the object's own pixels are
    averaged.

    Args:
        pixels: Shape (height, width, 3), uint8, RGB.
        mask: Shape (height, width), bool, with at least one pixel.
        box: The mask's box.
        longest_px: Most texels along the longest side.
    """
    inner = max(1, longest_px - 2 * _MARGIN_TEXELS)
    scale = min(1.0, inner / max(box.width, box.height))
    margin = int(np.ceil(_MARGIN_TEXELS / scale))
    around = PixelBox(box.left - margin, box.top - margin, box.right + margin, box.bottom + margin)
    weights = np.pad(np.asarray(box.crop(mask)).astype(np.uint8) * np.uint8(255), margin)
    colors = np.zeros((*weights.shape, 3), np.uint8)
    colors[margin:-margin, margin:-margin] = box.crop(pixels)
    colors[weights == 0] = 0
    if scale < 1.0:
        longest = max(around.width, around.height)
        width = max(1, min(longest_px, round(around.width * longest_px / longest)))
        height = max(1, min(longest_px, round(around.height * longest_px / longest)))
        weights = cv2.resize(weights, (width, height), interpolation=cv2.INTER_AREA)
        colors = cv2.resize(colors, (width, height), interpolation=cv2.INTER_AREA)
    covered = weights >= min(_LEAST_COVERED, int(weights.max()))
    return Texture(_spread(_divided(colors, weights, covered), covered), around)


def _divided(
    colors: NDArray[np.uint8], weights: NDArray[np.uint8], covered: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Return colours that were averaged with zeros, as they were without them."""
    partly = covered & (weights < 255)
    whole = colors.copy()
    shares = weights[partly].astype(np.float32)[:, None] / np.float32(255)
    whole[partly] = np.clip(np.rint(colors[partly] / shares), 0, 255).astype(np.uint8)
    return whole


def _spread(colors: NDArray[np.uint8], covered: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return colours with those outside replaced by the nearest one inside."""
    _, labels = cv2.distanceTransformWithLabels(
        (~covered).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    palette = np.zeros((int(labels.max()) + 1, 3), np.uint8)
    palette[labels[covered]] = colors[covered]
    return np.asarray(palette[labels], np.uint8)
