"""Pictures of masks without the image (black and white, label maps), and cut-outs of the image.

Overlays and outlines are in `overlay.py`; what may be asked for is in `renderings.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from .geometry import ImageSize
from .packed_masks import PackedMask, Window
from .palette import Colour


def union(masks: Iterable[PackedMask], size: ImageSize, *, invert: bool) -> NDArray[np.bool_]:
    """Return what any of the masks covers, or with `invert` what none does.

    Returns:
        Shape (height, width), bool.
    """
    covered = np.zeros((size.height_px, size.width_px), dtype=np.bool_)
    for mask in masks:
        if not mask.window.is_empty:
            covered[mask.window.slices] |= mask.crop()
    return np.invert(covered, out=covered) if invert else covered


def black_white(bitmap: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return a grey picture of a bitmap: 255 where it is true."""
    return np.ascontiguousarray(bitmap).view(np.uint8) * np.uint8(255)


def label_map(masks_by_object: Mapping[int, PackedMask], size: ImageSize) -> NDArray[np.uint16]:
    """Return the object id of each pixel, 0 for the background; where masks overlap, the smaller.

    Of equally large ones the later lies on top.

    Args:
        masks_by_object: Object id, at most 65535, to mask.
        size: Size of the image.

    Returns:
        Shape (height, width), uint16.
    """
    labels = np.zeros((size.height_px, size.width_px), dtype=np.uint16)
    for object_id, mask in sorted(masks_by_object.items(), key=lambda item: -item[1].area_px):
        if not mask.window.is_empty:
            labels[mask.window.slices][mask.crop()] = object_id
    return labels


def cut_out(
    pixels: NDArray[np.uint8],
    bitmap: NDArray[np.bool_],
    window: Window,
    background: Colour | None,
) -> NDArray[np.uint8]:
    """Return the part of an image within a window, without what the bitmap does not cover.

    Args:
        pixels: Shape (height, width, 3), uint8, RGB.
        bitmap: What to keep within the window, contiguous.
        window: What part of the image.
        background: What is around the objects; None makes it transparent, and black beneath.

    Returns:
        Shape (rows, columns, 3) RGB, or with transparency (rows, columns, 4) RGBA; uint8.
    """
    part = np.ascontiguousarray(pixels[window.slices])
    rows, columns = bitmap.shape
    if background is None:
        part = np.asarray(cv2.cvtColor(part, cv2.COLOR_RGB2RGBA), np.uint8)
        picture = np.zeros((rows, columns, 4), dtype=np.uint8)
    else:
        picture = np.empty((rows, columns, 3), dtype=np.uint8)
        picture[:] = background
    cv2.copyTo(part, bitmap.view(np.uint8), picture)
    return picture
