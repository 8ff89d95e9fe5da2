"""What the network is taught: masks by cross-entropy and dice, their quality by true IoU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from maskwire_server.engines.nano.network import SINGLE

ALTERNATIVES_WEIGHT = 0.6
CROSS_ENTROPY_WEIGHT = 2.0
IDLE_ALTERNATIVE_WEIGHT = 0.05
"""Share of the loss that alternatives other than the best get, so that none dies."""


CLICK_SPREAD = 0.04
"""Standard deviation, over the window's side, of the weight around a click."""


@dataclass(frozen=True, slots=True)
class Loss:
    """`total` is what is minimised; `iou` (batch, masks) is the true IoU of every mask."""

    total: Tensor
    mask: Tensor
    quality: Tensor
    iou: Tensor


def true_iou(logits: Tensor, targets: Tensor) -> Tensor:
    """IoU of thresholded masks (batch, masks, s, s) with targets (batch, 1, s, s) in 0..1."""
    answer, truth = logits > 0, targets > 0.5
    overlap = (answer & truth).sum((2, 3)).float()
    union = (answer | truth).sum((2, 3)).float()
    return overlap / union.clamp(min=1)


def click_weights(clicks: Tensor, size: int, extra: float) -> Tensor | None:
    """Weight of each pixel's cross-entropy: 1, and up to `1 + extra` at clicks, on average 1.

    Args:
        clicks: Shape (batch, clicks, 3), in window coordinates, label -1 for unused rows.
        size: Side of the window in pixels.
        extra: What a click adds; with 0 there are no weights.

    Returns:
        Shape (batch, 1, size, size), or None.
    """
    if extra == 0:
        return None
    ticks = (torch.arange(size, dtype=torch.float32, device=clicks.device) + 0.5) / size
    across = torch.exp(-((ticks - clicks[..., 0:1]) ** 2) / (2 * CLICK_SPREAD**2))
    down = torch.exp(-((ticks - clicks[..., 1:2]) ** 2) / (2 * CLICK_SPREAD**2))
    near = down[..., :, None] * across[..., None, :]
    near = near * (clicks[..., 2] >= 0)[..., None, None]
    weights = 1 + extra * near.amax(1, keepdim=True)
    return weights / weights.mean((2, 3), keepdim=True)


def mask_losses(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy, weighted by pixels, plus dice of each mask, shape (batch, masks)."""
    truth = targets.expand_as(logits)
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, weights, reduction="none")
    probability = logits.sigmoid()
    overlap = (probability * truth).sum((2, 3))
    total = (probability + truth).sum((2, 3))
    dice = 1 - (2 * overlap + 1) / (total + 1)
    return CROSS_ENTROPY_WEIGHT * entropy.mean((2, 3)) + dice


def loss_of(
    logits: Tensor, quality: Tensor, targets: Tensor, weights: Tensor | None = None
) -> Loss:
    """The loss of a batch: the single mask, the best alternative, and the predicted IoU."""
    each = mask_losses(logits, targets, weights)
    single = each[:, SINGLE]
    alternatives = each[:, SINGLE + 1 :]
    best = alternatives.amin(1) + IDLE_ALTERNATIVE_WEIGHT * alternatives.mean(1)
    mask = (single + ALTERNATIVES_WEIGHT * best).mean()
    iou = true_iou(logits.detach(), targets)
    quality_loss = functional.mse_loss(quality.sigmoid(), iou)
    return Loss(mask + quality_loss, mask.detach(), quality_loss.detach(), iou)


def best_mask(iou: Tensor) -> Tensor:
    """Index of the best of the alternatives by true IoU, shape (batch,)."""
    return torch.argmax(iou[:, SINGLE + 1 :], 1) + SINGLE + 1
