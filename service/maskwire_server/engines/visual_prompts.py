"""Prompts of objects to the tensors that the prompt encoders of SAM 2 and SAM 3 take.

Follows the conventions of upstream's `SAM2ImagePredictor`: coordinates scaled to the network's
square, a box as two points labelled 2 and 3 before the clicks, a mask as logits at a quarter of the
square's side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.prompts import ObjectPrompts

_BOX_LABELS = (2, 3)
# Upstream turns masks of 0 and 1 into logits of −10 and +10 where it takes a mask for an output.
_MASK_SCALE, _MASK_BIAS = 20.0, -10.0
# What upstream bounds its answers to before they may be prompts again.
_LOGIT_BOUND = 32.0


@dataclass(frozen=True, slots=True)
class PromptBatch:
    """Prompts of several objects that have the same structure.

    Attributes:
        positions: Where the objects stood in the request, in the order of the batch.
        coordinates: Shape (objects, points, 2), float32, x and y in pixels of the network's square;
            None where only masks prompt.
        labels: Shape (objects, points), int32: 0 background, 1 foreground, 2 and 3 a box's corners.
        masks: Shape (objects, 1, side, side), float32 logits; None where no mask prompts.
    """

    positions: tuple[int, ...]
    coordinates: torch.Tensor | None
    labels: torch.Tensor | None
    masks: torch.Tensor | None


def batched(
    objects: Sequence[ObjectPrompts],
    image_size: ImageSize,
    *,
    network_side: int,
    mask_side: int,
    batch_limit: int,
    device: torch.device,
) -> Iterator[PromptBatch]:
    """Yield batches of objects whose prompts have the same structure.

    Objects with different numbers of points never share a batch: the padding would be attended to
    and change their masks.

    Args:
        objects: Prompts in the image frame.
        image_size: Size of the image.
        network_side: Side of the network's square input in pixels.
        mask_side: Side of its mask prompts in cells.
        batch_limit: Most objects in a batch; bounds the device's memory.
        device: Where the tensors go.
    """
    groups: dict[tuple[int, bool, bool], list[int]] = {}
    for position, prompts in enumerate(objects):
        structure = (len(prompts.points), prompts.box is not None, prompts.mask is not None)
        groups.setdefault(structure, []).append(position)
    scale = np.float32(network_side)
    extent = np.array([image_size.width_px, image_size.height_px], dtype=np.float32)
    for (_, _, has_mask), positions in groups.items():
        for start in range(0, len(positions), batch_limit):
            chunk = tuple(positions[start : start + batch_limit])
            members = [objects[position] for position in chunk]
            coordinates = np.stack([_corners_and_points(prompts) for prompts in members])
            labels = np.stack([_labels(prompts) for prompts in members])
            has_points = labels.shape[1] > 0
            yield PromptBatch(
                positions=chunk,
                coordinates=_tensor(coordinates / extent * scale, device) if has_points else None,
                labels=_tensor(labels, device) if has_points else None,
                masks=_stacked_masks(members, image_size, mask_side, device) if has_mask else None,
            )


def mask_logits(
    mask: NDArray[np.bool_] | MaskLogits, image_size: ImageSize, side: int
) -> NDArray[np.float32]:
    """Bring a mask prompt to the network's form.

    Logits that the network itself could have answered (they cover the image with `side` × `side`
    cells) are used as they are, bounded to ±32 as upstream bounds what it returns. Other logits are
    resampled, −10 beyond their window. A bitmap becomes logits from −10 to +10 by the share of each
    cell that it covers.

    Returns:
        Shape (side, side), float32.
    """
    if not isinstance(mask, MaskLogits):
        coverage = functional.interpolate(
            torch.from_numpy(mask.astype(np.float32))[None, None],
            (side, side),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )
        return coverage[0, 0].numpy() * np.float32(_MASK_SCALE) + np.float32(_MASK_BIAS)
    image = Box.covering(image_size)
    if mask.window == image and mask.values.shape == (side, side):
        values = mask.values
    else:
        values = _resampled(mask, image, side)
    return np.clip(values, -_LOGIT_BOUND, _LOGIT_BOUND)


def filled_mask(
    mask: NDArray[np.bool_] | MaskLogits, image_size: ImageSize, side: int
) -> NDArray[np.bool_]:
    """Bring a mask prompt to the network's square, as a mask that is taken over as it is.

    A bitmap is resized as upstream resizes it: a cell is set where the mask covers half of it.
    Logits are resampled and thresholded at 0; beyond their window nothing is set.

    Returns:
        Shape (side, side), bool.
    """
    if isinstance(mask, MaskLogits):
        image = Box.covering(image_size)
        values = mask.resample(image, side, side)
        return (values > 0) & _is_inside(mask.window, image, side)
    if mask.shape == (side, side):
        return mask
    coverage = functional.interpolate(
        torch.from_numpy(mask.astype(np.float32))[None, None],
        (side, side),
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )
    return (coverage[0, 0] >= 0.5).numpy()


def _resampled(mask: MaskLogits, image: Box, side: int) -> NDArray[np.float32]:
    window = mask.window
    cells = (
        min(mask.values.shape[1], max(1, round(side * window.width / image.width))),
        min(mask.values.shape[0], max(1, round(side * window.height / image.height))),
    )
    # Averaging first where cells get larger: sampling alone would skip what lies between.
    averaged = np.asarray(
        cv2.resize(mask.values, cells, interpolation=cv2.INTER_AREA), dtype=np.float32
    )
    values = MaskLogits(averaged, window).resample(image, side, side)
    return np.where(_is_inside(window, image, side), values, np.float32(_MASK_BIAS))


def _is_inside(window: Box, image: Box, side: int) -> NDArray[np.bool_]:
    """Tell which cells of a square grid over the image have their centres in a window."""
    x = (np.arange(side) + 0.5) * (image.width / side)
    y = (np.arange(side) + 0.5) * (image.height / side)
    return np.outer(
        (y >= window.y_min) & (y < window.y_max), (x >= window.x_min) & (x < window.x_max)
    )


def _corners_and_points(prompts: ObjectPrompts) -> NDArray[np.float32]:
    if prompts.box is None:
        return prompts.points
    box = prompts.box
    corners = np.array([[box.x_min, box.y_min], [box.x_max, box.y_max]], dtype=np.float32)
    return np.concatenate([corners, prompts.points])


def _labels(prompts: ObjectPrompts) -> NDArray[np.int32]:
    labels = prompts.point_labels.astype(np.int32)
    return labels if prompts.box is None else np.array([*_BOX_LABELS, *labels], dtype=np.int32)


def _stacked_masks(
    members: Sequence[ObjectPrompts], image_size: ImageSize, side: int, device: torch.device
) -> torch.Tensor:
    masks = [
        mask_logits(prompts.mask, image_size, side)
        for prompts in members
        if prompts.mask is not None
    ]
    return _tensor(np.stack(masks)[:, None], device)


def _tensor(values: NDArray[np.float32] | NDArray[np.int32], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(values).to(device)
