"""Prompts an engine without a server, and scores its answers against known masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskwire_client.cli.evaluate_photographs import tight_box
from maskwire_client.evaluation import Click, first_click, iou, next_click
from maskwire_server.domain.engine import ImageEmbedding, MaskCandidate, SegmentationEngine
from maskwire_server.domain.geometry import Box
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.prompts import ObjectPrompts

Mask = NDArray[np.bool_]


def ask(
    engine: SegmentationEngine,
    embedding: ImageEmbedding,
    *,
    clicks: list[tuple[float, float, int]] | None = None,
    box: Box | None = None,
    mask: MaskLogits | None = None,
    multimask: bool = False,
) -> tuple[MaskCandidate, ...]:
    """The engine's candidates for one object; clicks are x, y and 1 where the object is."""
    rows = np.array(clicks or [], np.float32).reshape(-1, 3)
    prompts = ObjectPrompts(1, rows[:, :2], rows[:, 2] > 0, box, mask)
    return engine.decode(embedding, [prompts], multimask=multimask)[0].candidates


def best_of(candidates: tuple[MaskCandidate, ...]) -> MaskCandidate:
    """The candidate that the model itself thinks best."""
    return max(candidates, key=lambda candidate: candidate.predicted_iou)


def measure_box(engine: SegmentationEngine, embedding: ImageEmbedding, truth: Mask) -> float:
    """IoU for the tight box."""
    tight = tight_box(truth)
    box = Box(tight.x_min, tight.y_min, tight.x_max, tight.y_max)
    answer = best_of(ask(engine, embedding, box=box))
    return iou(answer.logits.to_bitmap(embedding.image_size), truth)


def measure_clicks(
    engine: SegmentationEngine, embedding: ImageEmbedding, truth: Mask, most: int
) -> list[float]:
    """IoU after 1, 2, ... clicks; each next one corrects the last answer."""
    clicks: list[Click] = []
    answer: MaskLogits | None = None
    click: Click | None = first_click(truth)
    curve: list[float] = []
    while click is not None and len(curve) < most:
        clicks.append(click)
        rows = [(made.x, made.y, int(made.is_foreground)) for made in clicks]
        answer = best_of(ask(engine, embedding, clicks=rows, mask=answer)).logits
        bitmap = answer.to_bitmap(embedding.image_size)
        curve.append(iou(bitmap, truth))
        click = next_click(truth, bitmap, clicks)
    return curve + [curve[-1]] * (most - len(curve))
