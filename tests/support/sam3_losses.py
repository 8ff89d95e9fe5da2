"""The losses of the SAM 3 test checkpoint; what is learned from what is in `sam3_training`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn import functional
from torchvision.ops import generalized_box_iou, sigmoid_focal_loss
from transformers.models.sam3.modeling_sam3 import box_cxcywh_to_xyxy, inverse_sigmoid

from tests.support.sam3_checkpoint import GRID_SIDE, MASK_SIDE, QUERIES_PER_SIDE, WIDTH
from tests.support.sam3_scenes import COLOURS, FORMS, Scene

_KINDS = [(colour, form) for colour in COLOURS for form in FORMS]
_CLASSES = len(_KINDS) + 1


@dataclass(frozen=True)
class Lesson:
    """Questions as tensors, with their answers; boxes are centre and extent as shares.

    Attributes:
        pixels: Shape (n, 3, side, side).
        input_ids: Shape (n, tokens).
        attention_mask: Shape (n, tokens).
        exemplars: Shape (n, 1, 4), or None.
        exemplar_labels: Shape (n, 1): 1 positive, 0 negative; or None.
        scenes: What was asked about.
        boxes: For each scene shape (shapes, 4).
        wanted: For each scene shape (shapes,), bool: which answer.
    """

    pixels: torch.Tensor
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    exemplars: torch.Tensor | None
    exemplar_labels: torch.Tensor | None
    scenes: list[Scene]
    boxes: list[torch.Tensor]
    wanted: list[torch.Tensor]


@dataclass(frozen=True)
class _Seen:
    """What the network says: of every decoder layer, and masks where they were asked for."""

    boxes: torch.Tensor
    logits: torch.Tensor
    presence: torch.Tensor
    drawn: Any
    levels: list[torch.Tensor]


def grid_points() -> torch.Tensor:
    """Return where the queries stand, shape (queries, 2), as shares."""
    centres = (torch.arange(QUERIES_PER_SIDE) + 0.5) / QUERIES_PER_SIDE
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], -1)


def queries_of(boxes: torch.Tensor) -> list[int]:
    """Return the query of each shape: together as near as can be, none twice."""
    rows, columns = linear_sum_assignment(torch.cdist(boxes[:, :2], grid_points()).square().numpy())
    return [int(column) for column in columns[np.argsort(rows)]]


class Aids(torch.nn.Module):
    """What is asked of the features themselves while they are learned; not kept."""

    def __init__(self) -> None:
        super().__init__()
        self.coarse = torch.nn.Conv2d(WIDTH, _CLASSES + 4, 1)
        self.fine = torch.nn.Conv2d(WIDTH, _CLASSES, 1)
        weights = torch.ones(_CLASSES)
        weights[0] = 0.3
        self.weights = torch.nn.Buffer(weights)

    def forward(self, lesson: Lesson, levels: list[torch.Tensor]) -> torch.Tensor:
        classes, boxes = _painted(lesson, GRID_SIDE)
        said = self.coarse(levels[-1])
        on = classes > 0
        offsets = said[:, _CLASSES:].permute(0, 2, 3, 1)[on].sigmoid() - boxes[on]
        loss = functional.cross_entropy(said[:, :_CLASSES], classes, self.weights)
        loss = loss + 3 * offsets.abs().sum(-1).mean()
        if len(levels) > 1:
            fine, _ = _painted(lesson, MASK_SIDE)
            loss = loss + functional.cross_entropy(self.fine(levels[0]), fine, self.weights)
        return loss


def _painted(lesson: Lesson, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the class and the box of what is under each cell of a grid."""
    classes, boxes = [], []
    for scene, shares in zip(lesson.scenes, lesson.boxes, strict=True):
        canvas = np.zeros((*scene.pixels.shape[:2], 5), np.float32)
        for shape, share in zip(scene.shapes, shares.numpy(), strict=True):
            canvas[shape.mask] = (_KINDS.index(shape.kind) + 1, *share)
        small = cv2.resize(canvas, (side, side), interpolation=cv2.INTER_NEAREST)
        classes.append(torch.from_numpy(small[..., 0]).long())
        boxes.append(torch.from_numpy(small[..., 1:]))
    return torch.stack(classes), torch.stack(boxes)


def _look(detector: Any, lesson: Lesson, *, with_masks: bool) -> _Seen:
    """Run the detector as its `forward` does, but keep what every layer says."""
    neck = detector.vision_encoder.neck
    tokens = detector.vision_encoder.backbone(lesson.pixels).last_hidden_state
    features = tokens.view(len(tokens), GRID_SIDE, GRID_SIDE, -1).permute(0, 3, 1, 2)
    levels = [layer(features) for layer in neck.fpn_layers[0 if with_masks else 2 : 3]]
    positions = [neck.position_encoding(x.shape, x.device, x.dtype) for x in levels]
    prompt = detector.get_text_features(
        input_ids=lesson.input_ids, attention_mask=lesson.attention_mask
    ).pooler_output
    mask = lesson.attention_mask.bool()
    if lesson.exemplars is not None:
        geometry = detector.geometry_encoder(
            box_embeddings=lesson.exemplars,
            box_mask=torch.ones(lesson.exemplars.shape[:2], dtype=torch.bool),
            box_labels=lesson.exemplar_labels,
            img_feats=levels,
            img_pos_embeds=positions,
        )
        prompt = torch.cat([prompt, geometry.last_hidden_state], 1)
        mask = torch.cat([mask, geometry.attention_mask], 1)
    encoded = detector.detr_encoder(
        vision_features=[levels[-1]],
        text_features=prompt,
        vision_pos_embeds=[positions[-1]],
        text_mask=mask,
    )
    decoded = detector.detr_decoder(
        vision_features=encoded.last_hidden_state,
        text_features=prompt,
        vision_pos_encoding=encoded.pos_embeds_flattened,
        text_mask=mask,
        spatial_shapes=encoded.spatial_shapes,
    )
    states = decoded.intermediate_hidden_states
    offsets = detector.detr_decoder.box_head(states)
    logits = detector.dot_product_scoring(
        decoder_hidden_states=states, text_features=prompt, text_mask=mask
    )
    drawn = None
    if with_masks:
        drawn = detector.mask_decoder(
            decoder_queries=states[-1],
            backbone_features=levels,
            encoder_hidden_states=encoded.last_hidden_state,
            prompt_features=prompt,
            prompt_mask=mask,
        )
    boxes = (inverse_sigmoid(decoded.reference_boxes) + offsets).sigmoid()
    return _Seen(boxes, logits.squeeze(-1), decoded.presence_logits.squeeze(-1), drawn, levels)


def loss_of(detector: Any, lesson: Lesson, aids: Aids, *, with_masks: bool) -> torch.Tensor:
    """Return the loss of a lesson."""
    seen = _look(detector, lesson, with_masks=with_masks)
    pairs = [
        (number, query) for number, boxes in enumerate(lesson.boxes) for query in queries_of(boxes)
    ]
    rows, columns = torch.tensor(pairs).T
    wanted = torch.cat(lesson.wanted).float()
    targets = torch.zeros(seen.logits.shape[1:])
    targets[rows, columns] = wanted
    present = torch.stack([answers.any() for answers in lesson.wanted]).float()
    loss = _box_loss(seen.boxes[:, rows, columns], torch.cat(lesson.boxes))
    focal = sigmoid_focal_loss(seen.logits, targets.expand_as(seen.logits), alpha=0.5, gamma=1.0)
    loss = loss + 2 * focal.sum() / wanted.sum().clamp(min=1.0)
    loss = loss + 2 * functional.binary_cross_entropy_with_logits(
        seen.presence, present.expand_as(seen.presence)
    )
    if seen.drawn is not None:
        masks = torch.stack([_small(shape.mask) for s in lesson.scenes for shape in s.shapes])
        loss = loss + _mask_loss(seen.drawn.pred_masks[rows, columns], masks)
        area = torch.zeros(len(lesson.scenes), MASK_SIDE, MASK_SIDE)
        area.index_add_(0, rows, masks * wanted[:, None, None])
        loss = loss + 4 * functional.binary_cross_entropy_with_logits(
            seen.drawn.semantic_seg[:, 0], area
        )
    return loss + aids(lesson, seen.levels)


def scores_of(detector: Any, lesson: Lesson) -> list[bool]:
    """Tell for each question whether the scores above a half are those of the shapes wanted."""
    seen = _look(detector, lesson, with_masks=False)
    scores = seen.logits[-1].sigmoid() * seen.presence[-1].sigmoid()[:, None]
    right = []
    for own, boxes, wanted in zip(scores, lesson.boxes, lesson.wanted, strict=True):
        targets = torch.zeros(len(own), dtype=torch.bool)
        targets[queries_of(boxes)] = wanted
        right.append(bool(((own > 0.5) == targets).all()))
    return right


def _box_loss(found: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    count = len(truth)
    loss = 2 * (found - truth).abs().sum() / count
    corners = box_cxcywh_to_xyxy(truth)
    for layer in found:
        overlap = generalized_box_iou(box_cxcywh_to_xyxy(layer), corners).diagonal()
        loss = loss + (1 - overlap).sum() / count
    return loss


def _mask_loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    share = logits.sigmoid()
    both = 2 * (share * truth).sum((1, 2)) + 1
    dice = 1 - both / (share.sum((1, 2)) + truth.sum((1, 2)) + 1)
    return 2 * dice.mean() + 6 * functional.binary_cross_entropy_with_logits(logits, truth)


def _small(mask: Any) -> torch.Tensor:
    size = (MASK_SIDE, MASK_SIDE)
    return torch.from_numpy(cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA))
