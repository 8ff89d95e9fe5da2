"""The network of maskwire-nano: a small convolutional U-Net whose prompts are input channels.

It sees a square window of the image, cut and scaled around the prompts, with the box, the clicks
and the previous mask drawn as channels beside the colours, and answers four masks with an
estimate of the IoU of each. What is like the clicked places, and what can be reached from them
without crossing an edge, is drawn too (`reach`). Choosing windows and reading prompts are
`windows` and `engine`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from .reach import CLUE_CHANNELS, click_clues

CLICK_RADIUS = 0.03
"""Radius of a drawn click as a fraction of the window's side."""

SINGLE = 0
"""Index of the mask that answers alone; the others are the alternatives of an ambiguous prompt."""

MASKS = 4
"""Masks per window: the single answer and three alternatives."""

_PROMPT_CHANNELS = 4
_CLICKS_AT_ONCE = 16
_COLOUR_MEAN = 0.45
_COLOUR_DEVIATION = 0.27


@dataclass(frozen=True, slots=True)
class WindowPrompts:
    """The prompts of a batch of windows, in window coordinates 0..1 (x right, y down).

    Attributes:
        boxes: Shape (batch, 4), float32, x_min y_min x_max y_max; NaN where there is no box.
        clicks: Shape (batch, clicks, 3), float32, x, y and label (1 foreground, 0 background,
            -1 for an unused row).
        previous: Shape (batch, 1, size, size), float32, probability of an earlier mask; all -1
            where there is none.
    """

    boxes: Tensor
    clicks: Tensor
    previous: Tensor


def prompt_channels(prompts: WindowPrompts, size: int) -> Tensor:
    """Draw prompts as channels: box, foreground clicks, background clicks, previous mask.

    Returns shape (batch, 4, size, size), float32. Box and previous mask are -1 outside, 1 inside
    and 0 where there is none.
    """
    ticks = (torch.arange(size, dtype=torch.float32, device=prompts.boxes.device) + 0.5) / size
    x_min, y_min, x_max, y_max = prompts.boxes.unbind(1)
    columns = (ticks >= x_min[:, None]) & (ticks < x_max[:, None])
    rows = (ticks >= y_min[:, None]) & (ticks < y_max[:, None])
    inside = (rows[:, :, None] & columns[:, None, :]).float() * 2 - 1
    boxes = torch.where(torch.isnan(x_min)[:, None, None], torch.zeros_like(inside), inside)

    foreground = torch.zeros_like(boxes, dtype=torch.bool)
    background = torch.zeros_like(foreground)
    # A few at a time: thousands of clicks at once would take gigabytes.
    for start in range(0, prompts.clicks.shape[1], _CLICKS_AT_ONCE):
        clicks = prompts.clicks[:, start : start + _CLICKS_AT_ONCE]
        distance = (ticks - clicks[..., 0:1])[:, :, None, :] ** 2
        distance = distance + (ticks - clicks[..., 1:2])[:, :, :, None] ** 2
        discs = distance <= CLICK_RADIUS**2
        label = clicks[..., 2, None, None]
        foreground |= (discs & (label == 1)).any(1)
        background |= (discs & (label == 0)).any(1)

    previous = prompts.previous[:, 0]
    absent = previous.amin((1, 2), keepdim=True) < 0
    previous = torch.where(absent, torch.zeros_like(previous), previous * 2 - 1)
    return torch.stack([boxes, foreground.float(), background.float(), previous], 1)


class _Residual(nn.Module):
    """Two 3 x 3 convolutions with group normalisation around a skip connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.first_norm = nn.GroupNorm(8, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second_norm = nn.GroupNorm(8, channels)
        # Each block starts as the identity, so that a deep network trains from the first step.
        nn.init.zeros_(self.second_norm.weight)

    def forward(self, features: Tensor) -> Tensor:
        inner = functional.relu(self.first_norm(self.first(features)), inplace=True)
        return functional.relu(self.second_norm(self.second(inner)).add_(features), inplace=True)


class NanoNetwork(nn.Module):
    """U-Net from a window and its prompts to mask logits and predicted IoU.

    Args:
        widths: Channels per level; the first level works at half the window's resolution and each
            next one at half of the one before.
        depths: Residual blocks per level of the encoder; the decoder has one per level.
    """

    def __init__(
        self,
        widths: tuple[int, ...] = (32, 64, 128, 192, 256),
        depths: tuple[int, ...] = (1, 2, 2, 2, 2),
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(
            3 + _PROMPT_CHANNELS + CLUE_CHANNELS, widths[0], 4, stride=2, padding=1
        )
        self.encoder = nn.ModuleList(
            nn.Sequential(*(_Residual(width) for _ in range(depth)))
            for width, depth in zip(widths, depths, strict=True)
        )
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.up = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairs)
        self.decoder = nn.ModuleList(_Residual(width) for width in widths[:-1])
        self.mask_head = nn.Conv2d(widths[0], 4 * MASKS, 3, padding=1)
        self.quality_head = nn.Sequential(
            nn.Linear(widths[-1] + widths[0], 128), nn.ReLU(), nn.Linear(128, MASKS)
        )

    def forward(self, colours: Tensor, prompts: WindowPrompts) -> tuple[Tensor, Tensor]:
        """Answer a batch of windows.

        Args:
            colours: Shape (batch, 3, size, size), RGB in 0..1, float32; `size` a multiple of 32.
            prompts: The prompts of each window.

        Returns:
            Mask logits, shape (batch, 4, size, size), and predicted IoU as logits, (batch, 4);
            both float32.
        """
        drawn = prompt_channels(prompts, colours.shape[-1])
        clues = click_clues(colours, prompts.clicks)
        colours = (colours - _COLOUR_MEAN) / _COLOUR_DEVIATION
        features = torch.cat([colours, drawn, clues], 1).to(
            dtype=self.stem.weight.dtype, memory_format=torch.channels_last
        )
        features = self.stem(features)
        skips = []
        for level, blocks in enumerate(self.encoder):
            features = blocks(features)
            skips.append(features)
            if level < len(self.down):
                features = self.down[level](features)
        deepest = features.mean((2, 3))
        for level in reversed(range(len(self.up))):
            lifted = functional.interpolate(
                self.up[level](features), size=skips[level].shape[-2:], mode="nearest"
            )
            features = self.decoder[level](lifted.add_(skips[level]))
        logits = functional.pixel_shuffle(self.mask_head(features), 2)
        # The quality is judged from the whole object and from what was drawn.
        quality = self.quality_head(torch.cat([deepest, features.mean((2, 3))], 1))
        return logits.float(), quality.float()
