"""Pixels to the network's input, with the arithmetic of upstream's `SAM2Transforms`."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

# Per-channel statistics of ImageNet, RGB, in units of 0 to 1: what SAM 2 was trained with.
_MEAN = (0.485, 0.456, 0.406)
_STANDARD_DEVIATION = (0.229, 0.224, 0.225)


def network_input(pixels: NDArray[np.uint8], side: int, device: torch.device) -> torch.Tensor:
    """Resize an image to the network's square and normalise it.

    Args:
        pixels: Shape (height, width, 3), uint8, RGB; not changed.
        side: Side of the square in pixels; the aspect ratio is not kept, as upstream.
        device: Where the result lives, and where resizing happens.

    Returns:
        Shape (1, 3, side, side), float32.
    """
    # Only bytes travel to the device; the floats, four times as large, are made there.
    planes = torch.from_numpy(np.stack(cv2.split(pixels))).to(device)
    image = planes.unsqueeze(0).to(torch.float32).div_(255.0)
    if image.shape[-2:] != (side, side):
        image = functional.interpolate(
            image, (side, side), mode="bilinear", align_corners=False, antialias=True
        )
    return image.sub_(_per_channel(_MEAN, device)).div_(_per_channel(_STANDARD_DEVIATION, device))


def _per_channel(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device).view(-1, 1, 1)
