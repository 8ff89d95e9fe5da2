"""The losses of the SAM 3 test checkpoint; what is learned from what is in `sam3_training`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn import functional
from torchvision.ops import generalized_box_iou
from transformers.models.sam3.modeling_sam3 import box_cxcywh_to_xyxy, inverse_sigmoid

from tests.support.sam3_checkpoint import QUERIES_PER_SIDE, WIDTH
from tests.support.sam3_lessons import KINDS, TEXTS, Lesson, Pupil
from tests.support.sam3_scenes import Shape

_CLASSES = len(KINDS) + 1
_NO_MASK = np.zeros((0, 0), np.bool_)


@dataclass(frozen=True)
class Said:
    """What the detector says about a lesson, of every decoder layer.

    Attributes:
        boxes: Shape (layers, n, queries, 4), centre and extent as shares.
        logits: Shape (layers, n, queries).
        presence: Shape (layers, n, 1).
        queries: Of the last layer, shape (n, queries, width).
        features: What the encoder makes of the image, shape (n, tokens, width).
        shown: What the exemplars say, shape (n, tokens, width); None where there are none.
        prompt: Shape (n, tokens, width).
        prompt_mask: Shape (n, tokens), bool.
    """

    boxes: torch.Tensor
    logits: torch.Tensor
    presence: torch.Tensor
    queries: torch.Tensor
    features: torch.Tensor
    shown: torch.Tensor | None
    prompt: torch.Tensor
    prompt_mask: torch.Tensor

    @property
    def scores(self) -> torch.Tensor:
        """Shape (n, queries)."""
        return self.logits[-1].sigmoid() * self.presence[-1].sigmoid()


def grid_points() -> torch.Tensor:
    """Return where the queries begin, shape (queries, 2), as shares."""
    centres = (torch.arange(QUERIES_PER_SIDE) + 0.5) / QUERIES_PER_SIDE
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], -1)


class Sight(torch.nn.Module):
    """Asks of each token which kind of shape is under it, and that shape's box; not kept."""

    def __init__(self) -> None:
        super().__init__()
        self.said = torch.nn.Conv2d(WIDTH, _CLASSES + 4, 1)
        weights = torch.ones(_CLASSES)
        weights[0] = 0.3
        self.weights = torch.nn.Buffer(weights)

    def forward(
        self, pupils: list[Pupil], features: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss, and the share of tokens on shapes whose kind is said rightly."""
        said = self.said(features)
        kinds = torch.stack([one.kinds for one in pupils])
        on = kinds > 0
        boxes = torch.cat([one.boxes[one.under[one.under >= 0]] for one in pupils])
        found = said[:, _CLASSES:].permute(0, 2, 3, 1)[on].sigmoid()
        loss = functional.cross_entropy(said[:, :_CLASSES], kinds, self.weights)
        right = (said[:, :_CLASSES].argmax(1) == kinds)[on].float().mean()
        return loss + 3 * (found - boxes).abs().sum(-1).mean(), right


class Hearing(torch.nn.Module):
    """Asks which kinds a text means, which kind an exemplar is, and which tokens are wanted.

    Not kept. Scores alone teach this too, but far more slowly.
    """

    def __init__(self) -> None:
        super().__init__()
        self.meant = torch.nn.Linear(WIDTH, len(KINDS))
        self.shown = torch.nn.Linear(WIDTH, len(KINDS))
        self.wanted = torch.nn.Linear(WIDTH, 1)
        self.kinds = torch.nn.Buffer(
            torch.tensor([[Shape(*kind, _NO_MASK).is_a(text) for kind in KINDS] for text in TEXTS])
        )

    def forward(
        self,
        said: Said,
        pupils: list[Pupil],
        lesson: Lesson,
        texts: torch.Tensor,
        mask: torch.Tensor,
    ) -> torch.Tensor:
        """Return the loss."""
        words = (texts * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        cross = functional.binary_cross_entropy_with_logits
        loss = cross(self.meant(words), self.kinds.float())
        if said.shown is not None and lesson.shown_kinds is not None:
            heard = self.shown(said.shown.mean(1))
            loss = loss + functional.cross_entropy(heard, lesson.shown_kinds)
        under = torch.stack([one.under for one in pupils]).flatten(1)
        on = torch.stack(
            [
                torch.cat([wanted, torch.zeros(1, dtype=torch.bool)])[at]
                for wanted, at in zip(lesson.wanted, under, strict=True)
            ]
        )
        return loss + 3 * cross(self.wanted(said.features)[..., 0], on.float())


def listen(
    detector: Any, features: torch.Tensor, lesson: Lesson, texts: torch.Tensor, mask: torch.Tensor
) -> Said:
    """Run the detector from the coarsest features on as its `forward` does, keeping every layer.

    Args:
        detector: A `Sam3Model`.
        features: Shape (n, width, grid, grid).
        lesson: What is asked.
        texts: What the text encoder makes of all texts, shape (texts, tokens, width).
        mask: Their attention mask.
    """
    position = detector.vision_encoder.neck.position_encoding(
        features.shape, features.device, features.dtype
    )
    prompt, prompt_mask = texts[lesson.texts], mask[lesson.texts].bool()
    shown = None
    if lesson.exemplars is not None:
        geometry = detector.geometry_encoder(
            box_embeddings=lesson.exemplars,
            box_mask=torch.ones(lesson.exemplars.shape[:2], dtype=torch.bool),
            box_labels=lesson.exemplar_labels,
            img_feats=(features,),
            img_pos_embeds=(position,),
        )
        shown = geometry.last_hidden_state
        prompt = torch.cat([prompt, shown], 1)
        prompt_mask = torch.cat([prompt_mask, geometry.attention_mask], 1)
    encoded = detector.detr_encoder(
        vision_features=[features],
        text_features=prompt,
        vision_pos_embeds=[position],
        text_mask=prompt_mask,
    )
    decoded = detector.detr_decoder(
        vision_features=encoded.last_hidden_state,
        text_features=prompt,
        vision_pos_encoding=encoded.pos_embeds_flattened,
        text_mask=prompt_mask,
        spatial_shapes=encoded.spatial_shapes,
    )
    states = decoded.intermediate_hidden_states
    offsets = detector.detr_decoder.box_head(states)
    logits = detector.dot_product_scoring(
        decoder_hidden_states=states, text_features=prompt, text_mask=prompt_mask
    )
    return Said(
        boxes=(inverse_sigmoid(decoded.reference_boxes) + offsets).sigmoid(),
        logits=logits.squeeze(-1),
        presence=decoded.presence_logits.reshape(len(states), len(features), 1),
        queries=states[-1],
        features=encoded.last_hidden_state,
        shown=shown,
        prompt=prompt,
        prompt_mask=prompt_mask,
    )


@torch.no_grad()
def assigned(said: Said, lesson: Lesson) -> tuple[torch.Tensor, torch.Tensor]:
    """Return question and query of each shape, in order: boxes near it, and scores if it answers.

    Which of two neighbours takes a shape between them is so for the queries to settle.
    """
    rows, columns = [], []
    scores = said.logits[-1].sigmoid()
    for number, (boxes, wanted) in enumerate(zip(lesson.boxes, lesson.wanted, strict=True)):
        found = said.boxes[-1, number]
        overlap = generalized_box_iou(box_cxcywh_to_xyxy(boxes), box_cxcywh_to_xyxy(found))
        cost = 5 * torch.cdist(boxes, found, p=1) - 2 * overlap
        cost = cost - 2 * wanted.float()[:, None] * scores[number]
        shapes, queries = linear_sum_assignment(cost.numpy())
        assert list(shapes) == list(range(len(boxes)))
        rows += [number] * len(boxes)
        columns += queries.tolist()
    return torch.tensor(rows), torch.tensor(columns)


def answer_loss(
    said: Said, lesson: Lesson, matched: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """Return the loss of boxes, which are learned for every shape, of scores and of presence."""
    rows, columns = matched
    wanted = torch.cat(lesson.wanted).float()
    targets = torch.zeros(said.logits.shape[1:])
    targets[rows, columns] = wanted
    present = torch.stack([answers.any() for answers in lesson.wanted]).float()[:, None]
    scores = functional.binary_cross_entropy_with_logits(
        said.logits, targets.expand_as(said.logits), reduction="sum"
    )
    presence = functional.binary_cross_entropy_with_logits(
        said.presence, present.expand_as(said.presence)
    )
    boxes = _box_loss(said.boxes[:, rows, columns], torch.cat(lesson.boxes))
    return boxes + scores / len(targets) + 2 * presence


@torch.no_grad()
def rightly_answered(
    said: Said, lesson: Lesson, matched: tuple[torch.Tensor, torch.Tensor]
) -> list[bool]:
    """Tell for each question whether the scores above a half are those of the shapes wanted."""
    rows, columns = matched
    targets = torch.zeros(said.scores.shape, dtype=torch.bool)
    targets[rows, columns] = torch.cat(lesson.wanted)
    return [bool(one) for one in ((said.scores > 0.5) == targets).all(-1)]


def _box_loss(found: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    count = len(truth)
    loss = 2 * (found - truth).abs().sum() / count
    corners = box_cxcywh_to_xyxy(truth)
    for layer in found:
        overlap = _paired_giou(box_cxcywh_to_xyxy(layer), corners)
        loss = loss + (1 - overlap).sum() / count
    return loss


def _paired_giou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    low, high = (
        torch.maximum(first[:, :2], second[:, :2]),
        torch.minimum(first[:, 2:], second[:, 2:]),
    )
    shared = (high - low).clamp(min=0).prod(-1)
    areas = [(one[:, 2:] - one[:, :2]).prod(-1) for one in (first, second)]
    union = areas[0] + areas[1] - shared
    outer = torch.maximum(first[:, 2:], second[:, 2:]) - torch.minimum(first[:, :2], second[:, :2])
    hull = outer.prod(-1)
    return shared / union - (hull - union) / hull


def mask_loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the loss of each mask; shapes (..., side, side), the truth as shares of the cells."""
    share = logits.sigmoid()
    both = 2 * (share * truth).sum((-1, -2)) + 1
    dice = 1 - both / (share.sum((-1, -2)) + truth.sum((-1, -2)) + 1)
    crossed = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return 2 * dice + 6 * crossed.mean((-1, -2))


def overlap(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the IoU of each mask."""
    first, second = logits > 0, truth > 0.5
    return (first & second).sum((-1, -2)) / (first | second).sum((-1, -2)).clamp(min=1)
