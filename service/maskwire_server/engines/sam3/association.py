"""What upstream's association of detections with objects leaves to be said in one place.

`Seen` is an object in a frame; `followed` reads upstream's plan for a frame, `without_duplicates`
thins the detections of a text, and `beginning` says which of all texts begin objects.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

_OVERLAP_IOU = 0.7
"""Above this, what two texts find is one thing; the same for a still image (`concept_prompts`)."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """An object in a frame.

    Attributes:
        internal_id: The object, as the session knows it.
        mask: Logits, shape (rows, columns).
        presence: Probability that it is visible, 0 to 1.
        is_new: Whether it was found in this frame.
    """

    internal_id: int
    mask: torch.Tensor
    presence: float
    is_new: bool


def followed(
    known: Sequence[int],
    masks: torch.Tensor,
    scores: torch.Tensor,
    found: dict[str, torch.Tensor],
    plan: dict[str, Any],
    tables: dict[str, Any],
    frame: int,
) -> Iterator[Seen]:
    """Yield the objects that were known before, without those that the rules drop."""
    suppressed: Collection[int] = tables["extra_metadata"]["suppressed_obj_ids"][frame]
    presences = scores.float().sigmoid().flatten().tolist()
    for index, internal_id in enumerate(known):
        if internal_id in plan["obj_ids_newly_removed"]:
            continue
        mask = masks[index]
        if internal_id in plan["reconditioned_obj_ids"]:
            mask = found["mask"][plan["trk_id_to_max_iou_high_conf_det"][internal_id]]
        presence = 0.0 if internal_id in suppressed else presences[index]
        yield Seen(internal_id, mask, presence, False)


def without_duplicates(
    chosen: torch.Tensor, score: torch.Tensor, masks: torch.Tensor, most_iou: float
) -> torch.Tensor:
    """Return the detections that no better one covers, in their own order.

    Upstream leaves this to an extension that it would fetch.
    """
    if most_iou <= 0 or len(chosen) < 2:
        return chosen
    is_too_close = (_ious(masks[chosen], masks[chosen]) > most_iou).tolist()
    kept: list[int] = []
    for at in score[chosen].argsort(descending=True, stable=True).tolist():
        if not any(is_too_close[at][better] for better in kept):
            kept.append(at)
    return chosen[sorted(kept)]


def beginning(
    found: dict[str, torch.Tensor],
    texts: Sequence[int],
    least: torch.Tensor,
    masks: torch.Tensor,
    texts_of_masks: Sequence[int],
    *,
    own_iou: float,
    most: int,
) -> list[int]:
    """Return which detections begin objects, the most confident first.

    Upstream weighs a detection against what its own text found. What another text found is the
    same thing where it overlaps that much, and of two new ones the more confident begins.

    Args:
        found: Detections in upstream's form.
        texts: The text of each, by its number.
        least: Least score of each, shape (detections,).
        masks: Logits of what is followed, shape (objects, rows, columns).
        texts_of_masks: The text of each object.
        own_iou: IoU from which on a detection is an object of its own text.
        most: Most objects that may begin.
    """
    scores = found["scores"].float()
    order = scores.argsort(descending=True, stable=True)
    order = order[(scores >= least)[order]]
    if most <= 0 or len(order) == 0:
        return []
    candidates = found["mask"][order]
    with_followed = _ious(candidates, masks).tolist()
    with_others = _ious(candidates, candidates).tolist()
    begun: dict[int, int] = {}
    for at, detection in enumerate(order.tolist()):
        text = texts[detection]
        is_known = any(
            iou >= own_iou if other == text else iou > _OVERLAP_IOU
            for iou, other in zip(with_followed[at], texts_of_masks, strict=True)
        ) or any(
            with_others[at][better] > _OVERLAP_IOU and texts[begins] != text
            for better, begins in begun.items()
        )
        if not is_known:
            begun[at] = detection
        if len(begun) == most:
            break
    return list(begun.values())


def _ious(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the IoU of each mask of logits with each of others, shape (first, second)."""
    one, other = ((masks > 0).flatten(1).float() for masks in (first, second))
    shared = one @ other.T
    return shared / (one.sum(1)[:, None] + other.sum(1) - shared).clamp(min=1)
