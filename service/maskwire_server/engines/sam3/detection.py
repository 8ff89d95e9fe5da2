"""What SAM 3's detector says about a concept, as instances in the image frame.

The arithmetic is that of `transformers`' `Sam3Processor`: exemplars as shares of the image, score =
presence of the concept × score of the object, boxes scaled to the image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from maskwire_server.domain.concepts import ConceptPrompt, DetectedInstance
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits

# What `Sam3VideoModel` and upstream's demonstrations use.
DEFAULT_SCORE_THRESHOLD = 0.5
# Upstream resamples the probabilities of a detected mask, not its logits, and thresholds at 0.5.
# So that resampling gives the same mask, probabilities are brought to logits linearly, with the
# numbers with which the tracker takes a mask of 0 to 1 for logits.
_MASK_SCALE, _MASK_BIAS = 20.0, -10.0


def exemplars(
    concept: ConceptPrompt, size: ImageSize, device: torch.device
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Turn a concept's boxes into the detector's: shapes (1, n, 4) and (1, n), or None and None."""
    boxes = (*concept.positive_boxes, *concept.negative_boxes)
    if not boxes:
        return None, None
    corners = np.array([[box.x_min, box.y_min, box.x_max, box.y_max] for box in boxes], np.float32)
    extent = np.array([size.width_px, size.height_px] * 2, np.float32)
    shares = torch.from_numpy(corners / extent)
    low, high = shares[:, :2], shares[:, 2:]
    labels = [1] * len(concept.positive_boxes) + [0] * len(concept.negative_boxes)
    return (
        torch.cat([(low + high) / 2, high - low], dim=-1)[None].to(device),
        torch.tensor([labels], device=device),
    )


def instances(
    output: Any, size: ImageSize, threshold: float | None
) -> tuple[DetectedInstance, ...]:
    """Return the instances of at least a threshold, best first.

    Args:
        output: A `Sam3ImageSegmentationOutput` for one concept.
        size: Size of the image.
        threshold: Least score; None means the default.
    """
    least = DEFAULT_SCORE_THRESHOLD if threshold is None else threshold
    scores = (output.pred_logits.float().sigmoid() * output.presence_logits.float().sigmoid())[0]
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] >= least]
    masks = output.pred_masks[0, order].float().sigmoid() * _MASK_SCALE + _MASK_BIAS
    window = Box.covering(size)
    extent = torch.tensor([size.width_px, size.height_px] * 2, device=order.device)
    boxes = output.pred_boxes[0, order].float() * extent
    return tuple(
        DetectedInstance(MaskLogits(mask, window), _clipped(box, size), score)
        for mask, box, score in zip(
            masks.cpu().numpy(), boxes.tolist(), scores[order].tolist(), strict=True
        )
    )


def _clipped(corners: list[float], size: ImageSize) -> Box:
    x_min, x_max = (min(max(x, 0.0), float(size.width_px)) for x in corners[0::2])
    y_min, y_max = (min(max(y, 0.0), float(size.height_px)) for y in corners[1::2])
    return Box(x_min, y_min, x_max, y_max)
