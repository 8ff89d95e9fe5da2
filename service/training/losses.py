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


def mask_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy plus dice of each mask, shape (batch, masks)."""
    truth = targets.expand_as(logits)
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    probability = logits.sigmoid()
    overlap = (probability * truth).sum((2, 3))
    total = (probability + truth).sum((2, 3))
    dice = 1 - (2 * overlap + 1) / (total + 1)
    return CROSS_ENTROPY_WEIGHT * entropy.mean((2, 3)) + dice


def loss_of(logits: Tensor, quality: Tensor, targets: Tensor) -> Loss:
    """The loss of a batch: the single mask, the best alternative, and the predicted IoU."""
    each = mask_losses(logits, targets)
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
