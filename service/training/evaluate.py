"""Measures an engine on labelled pictures: mean IoU for a box and for clicks, and clicks to 80 %.

A folder holds `<scene>/image.jpg` and one 8-bit PNG per object (255 inside). Clicks are simulated
in the standard way: the first at the centre of the object, each next one at the centre of the
largest error region, with the last answer given back as a mask prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskwire_server.domain.engine import ImageEmbedding, MaskCandidate, SegmentationEngine
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.engines.nano.windows import mask_box
from training.prompts import centre_click, corrective_click

Mask = NDArray[np.bool_]

TARGET_IOU = 0.8
MOST_CLICKS = 20


@dataclass(frozen=True, slots=True)
class Labelled:
    """A picture (height, width, 3, uint8, RGB) and its objects' masks by name."""

    name: str
    pixels: NDArray[np.uint8]
    objects: dict[str, Mask]


@dataclass(slots=True)
class Scores:
    """IoU per object for each kind of prompt; `clicks_needed` is the NoC."""

    box: list[float] = field(default_factory=list)
    click_1: list[float] = field(default_factory=list)
    click_1_single: list[float] = field(default_factory=list)
    click_3: list[float] = field(default_factory=list)
    click_5: list[float] = field(default_factory=list)
    clicks_needed: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        """Means over all objects, and their number."""
        return {
            "box": float(np.mean(self.box)),
            "click_1": float(np.mean(self.click_1)),
            "click_1_single": float(np.mean(self.click_1_single)),
            "click_3": float(np.mean(self.click_3)),
            "click_5": float(np.mean(self.click_5)),
            "noc_80": float(np.mean(self.clicks_needed)),
            "objects": len(self.box),
        }


def read_folder(folder: Path) -> Iterator[Labelled]:
    """The labelled pictures of a folder, by name."""
    for path in sorted(folder.glob("*/image.jpg")):
        pixels = np.asarray(Image.open(path).convert("RGB"))
        masks = {
            file.stem: np.asarray(Image.open(file).convert("L")) > 127
            for file in sorted(path.parent.glob("*.png"))
        }
        yield Labelled(path.parent.name, pixels, masks)


def iou(answer: Mask, truth: Mask) -> float:
    """Intersection over union of two masks; 1 where both are empty."""
    union = int((answer | truth).sum())
    return float((answer & truth).sum() / union) if union else 1.0


def ask(
    engine: SegmentationEngine,
    embedding: ImageEmbedding,
    *,
    clicks: list[tuple[float, float, int]] | None = None,
    box: Box | None = None,
    mask: MaskLogits | None = None,
    multimask: bool = False,
) -> tuple[MaskCandidate, ...]:
    """The engine's candidates for one object."""
    rows = np.array(clicks or [], np.float32).reshape(-1, 3)
    prompts = ObjectPrompts(1, rows[:, :2], rows[:, 2] > 0, box, mask)
    return engine.decode(embedding, [prompts], multimask=multimask)[0].candidates


def best_of(candidates: tuple[MaskCandidate, ...]) -> MaskCandidate:
    """The candidate that the model itself thinks best."""
    return max(candidates, key=lambda candidate: candidate.predicted_iou)


def measure_clicks(
    engine: SegmentationEngine, embedding: ImageEmbedding, truth: Mask, most: int
) -> list[float]:
    """IoU after 1, 2, ... clicks; each next click corrects the last answer."""
    size = embedding.image_size
    clicks = [(*centre_click(truth), 1)]
    answer = best_of(ask(engine, embedding, clicks=clicks)).logits
    curve = [iou(answer.to_bitmap(size), truth)]
    while len(curve) < most:
        following = corrective_click(truth, answer.to_bitmap(size))
        if following is None:
            break
        clicks.append(following)
        answer = best_of(ask(engine, embedding, clicks=clicks, mask=answer)).logits
        curve.append(iou(answer.to_bitmap(size), truth))
    return curve + [curve[-1]] * (most - len(curve))


def measure_box(
    engine: SegmentationEngine, embedding: ImageEmbedding, truth: Mask
) -> tuple[float, Mask]:
    """IoU for the tight box, and the answer."""
    tight = mask_box(truth)
    if tight is None:
        raise ValueError("a labelled object has an empty mask")
    answer = best_of(ask(engine, embedding, box=Box(*(float(edge) for edge in tight))))
    bitmap = answer.logits.to_bitmap(embedding.image_size)
    return iou(bitmap, truth), bitmap


def measure_click(engine: SegmentationEngine, embedding: ImageEmbedding, truth: Mask) -> float:
    """IoU of the best of the alternatives for one click."""
    size: ImageSize = embedding.image_size
    clicks = [(*centre_click(truth), 1)]
    candidates = ask(engine, embedding, clicks=clicks, multimask=True)
    return max(iou(candidate.logits.to_bitmap(size), truth) for candidate in candidates)


def evaluate(
    engine: SegmentationEngine,
    folder: Path,
    most_clicks: int = MOST_CLICKS,
    save_to: Path | None = None,
) -> Scores:
    """Scores of an engine over a folder; box masks are written to `save_to` as PNG."""
    scores = Scores()
    for labelled in read_folder(folder):
        embedding = engine.encode(labelled.pixels)
        for name, truth in labelled.objects.items():
            score, bitmap = measure_box(engine, embedding, truth)
            scores.box.append(score)
            scores.click_1.append(measure_click(engine, embedding, truth))
            curve = measure_clicks(engine, embedding, truth, max(5, most_clicks))
            scores.click_1_single.append(curve[0])
            scores.click_3.append(curve[2])
            scores.click_5.append(curve[4])
            reached = [index + 1 for index, value in enumerate(curve) if value >= TARGET_IOU]
            scores.clicks_needed.append(float(reached[0]) if reached else float(most_clicks))
            if save_to is not None:
                file = save_to / labelled.name / f"{name}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(bitmap.astype(np.uint8) * 255).save(file)
    return scores
