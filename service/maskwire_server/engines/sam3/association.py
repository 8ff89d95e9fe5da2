"""What upstream's association of detections with objects leaves to be said in one place.

`Seen` is an object in a frame; `followed` reads upstream's plan for a frame, and
`without_duplicates` thins its detections.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch


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
    flat = (masks[chosen] > 0).flatten(1).float()
    shared = flat @ flat.T
    areas = flat.sum(1)
    ious = shared / (areas[:, None] + areas - shared).clamp(min=1)
    is_too_close = (ious > most_iou).tolist()
    kept: list[int] = []
    for at in score[chosen].argsort(descending=True, stable=True).tolist():
        if not any(is_too_close[at][better] for better in kept):
            kept.append(at)
    return chosen[sorted(kept)]
