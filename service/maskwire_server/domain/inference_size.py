"""Letting a model see a smaller copy of an image, while prompts and masks keep the image's frame.

SAM 1's hosted endpoint resized images to a side that callers chose; here it is the longest side
that the model gets to see. An image that is smaller already is never enlarged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from .auto_segmentation.proposals import Proposal
from .engine import ObjectPrediction
from .geometry import Box, ImageSize
from .logits import MaskLogits
from .prompts import ObjectPrompts


def reduced_size(size: ImageSize, longest_side_px: int) -> ImageSize:
    """Return the size that an image is reduced to; its own where it is small enough."""
    longest = max(size.width_px, size.height_px)
    if longest <= longest_side_px:
        return size
    return ImageSize(
        width_px=max(1, round(size.width_px * longest_side_px / longest)),
        height_px=max(1, round(size.height_px * longest_side_px / longest)),
    )


def shown_to_model(pixels: NDArray[np.uint8], longest_side_px: int | None) -> NDArray[np.uint8]:
    """Return what a model sees of an image of shape (height, width, 3), contiguous.

    That is a smaller copy, each pixel the average of the area that it covers, of an image with a
    longer side; the image itself of others, and where there is no limit.
    """
    size = ImageSize(width_px=pixels.shape[1], height_px=pixels.shape[0])
    seen = size if longest_side_px is None else reduced_size(size, longest_side_px)
    if seen == size:
        return np.ascontiguousarray(pixels)
    reduced = cv2.resize(pixels, (seen.width_px, seen.height_px), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(reduced, dtype=np.uint8)


def reduce_prompts(
    objects: Iterable[ObjectPrompts], size: ImageSize, reduced: ImageSize
) -> tuple[ObjectPrompts, ...]:
    """Bring prompts from the frame of an image into that of its smaller copy.

    Args:
        objects: In the frame of the image.
        size: Size of the image.
        reduced: Size of the copy.
    """
    return tuple(
        replace(
            one,
            points=reduce_points(one.points, size, reduced),
            box=None if one.box is None else move_box(one.box, size, reduced),
            mask=None if one.mask is None else _reduce_mask(one.mask, size, reduced),
        )
        for one in objects
    )


def reduce_points(
    points: NDArray[np.float32], size: ImageSize, reduced: ImageSize
) -> NDArray[np.float32]:
    """Bring points, shape (n, 2), from the frame of an image into that of its smaller copy."""
    scale = (reduced.width_px / size.width_px, reduced.height_px / size.height_px)
    return points * np.array(scale, dtype=np.float32)


def move_logits(logits: MaskLogits, source: ImageSize, target: ImageSize) -> MaskLogits:
    """Bring logits from the frame of an image into that of a larger or smaller copy."""
    return MaskLogits(logits.values, move_box(logits.window, source, target))


def enlarge_predictions(
    predictions: Iterable[ObjectPrediction], reduced: ImageSize, size: ImageSize
) -> list[ObjectPrediction]:
    """Bring a model's answers from the frame of the smaller copy back into that of the image."""
    return [
        replace(
            prediction,
            candidates=tuple(
                replace(one, logits=move_logits(one.logits, reduced, size))
                for one in prediction.candidates
            ),
        )
        for prediction in predictions
    ]


def enlarge_proposals(
    proposals: Iterable[Proposal], reduced: ImageSize, size: ImageSize
) -> tuple[Proposal, ...]:
    """Bring proposals from the frame of the smaller copy back into that of the picture."""
    return tuple(replace(one, logits=move_logits(one.logits, reduced, size)) for one in proposals)


def _reduce_mask(
    mask: NDArray[np.bool_] | MaskLogits, size: ImageSize, reduced: ImageSize
) -> NDArray[np.bool_] | MaskLogits:
    if isinstance(mask, MaskLogits):
        return move_logits(mask, size, reduced)
    share = cv2.resize(
        mask.view(np.uint8) * np.uint8(255),
        (reduced.width_px, reduced.height_px),
        interpolation=cv2.INTER_AREA,
    )
    # A mask too thin to fill half a pixel still says where the object is.
    bitmap = np.asarray(share > 127)
    return bitmap if bitmap.any() else np.asarray(share > 0)


def move_box(box: Box, source: ImageSize, target: ImageSize) -> Box:
    """Scale a box from one frame to another; the edges of the images fall on each other exactly."""
    return Box(
        box.x_min * target.width_px / source.width_px,
        box.y_min * target.height_px / source.height_px,
        box.x_max * target.width_px / source.width_px,
        box.y_max * target.height_px / source.height_px,
    )
