"""A small real engine that finds concepts: a text is the name of a colour, its instances regions.

Every region of that exact colour is an instance; the largest has the highest score. A positive box
adds the colour at its centre, a negative box drops the region that its centre lies in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskwire_server.domain.concepts import ConceptEngine, ConceptPrompt, DetectedInstance
from maskwire_server.domain.engine import ImageEmbedding, ModelDescription, ObjectPrediction
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.prompts import ObjectPrompts, PromptKind
from tests.support.colour_engine import ColourEmbedding, ColourEngine

COLOURS = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200)}
OTHER_WORDS = {"crimson": "red"}
"""Words for a colour that has another, of less confidence."""
BEST_SCORE, STEP, OTHER_WORD = 0.9, 0.1, 0.05
DEFAULT_THRESHOLD = 0.5


class ConceptColourEngine(ColourEngine, ConceptEngine):
    """Segments by exact colour, and finds the regions of a colour by its name.

    Attributes:
        asked: The concepts that it was asked for, in order.
        decoded: The objects of each call of `decode`.
    """

    def __init__(self, name: str = "words") -> None:
        super().__init__(name, checkpoint_digest="sha256:words")
        self.asked: list[ConceptPrompt] = []
        self.decoded: list[Sequence[ObjectPrompts]] = []

    @property
    def description(self) -> ModelDescription:
        return replace(super().description, prompt_kinds=frozenset(PromptKind))

    def decode(
        self, embedding: ImageEmbedding, objects: Sequence[ObjectPrompts], *, multimask: bool
    ) -> list[ObjectPrediction]:
        self.decoded.append(objects)
        return super().decode(embedding, objects, multimask=multimask)

    def detect(
        self, embedding: ImageEmbedding, concepts: Sequence[ConceptPrompt]
    ) -> list[tuple[DetectedInstance, ...]]:
        assert isinstance(embedding, ColourEmbedding)
        self.asked += concepts
        return [_instances(embedding.pixels, concept) for concept in concepts]


def _instances(pixels: NDArray[np.uint8], concept: ConceptPrompt) -> tuple[DetectedInstance, ...]:
    name = OTHER_WORDS.get(concept.text, concept.text)
    colours: set[tuple[int, ...]] = {COLOURS[name]} if name in COLOURS else set()
    colours |= {tuple(map(int, _at_centre(pixels, box))) for box in concept.positive_boxes}
    regions = [region for colour in colours for region in _regions(pixels, colour)]
    wanted = [
        region
        for region in regions
        if not any(_at_centre(region, box) for box in concept.negative_boxes)
    ]
    least = DEFAULT_THRESHOLD if concept.score_threshold is None else concept.score_threshold
    best = BEST_SCORE - OTHER_WORD * (concept.text in OTHER_WORDS)
    found = []
    for rank, region in enumerate(sorted(wanted, key=lambda one: -int(one.sum()))):
        score = round(best - STEP * rank, 6)
        if score >= least:
            found.append(DetectedInstance(_logits(region), _box(region), score))
    return tuple(found)


def _regions(pixels: NDArray[np.uint8], colour: tuple[int, ...]) -> list[NDArray[np.bool_]]:
    same = (pixels == np.array(colour, np.uint8)).all(-1)
    count, labels = cv2.connectedComponents(same.astype(np.uint8))
    return [np.asarray(labels == number) for number in range(1, count)]


def _at_centre(values: NDArray[Any], box: Box) -> Any:
    return values[int((box.y_min + box.y_max) / 2), int((box.x_min + box.x_max) / 2)]


def _box(region: NDArray[np.bool_]) -> Box:
    columns, rows = np.flatnonzero(region.any(0)), np.flatnonzero(region.any(1))
    return Box(float(columns[0]), float(rows[0]), columns[-1] + 1.0, rows[-1] + 1.0)


def _logits(region: NDArray[np.bool_]) -> MaskLogits:
    values = np.where(region, np.float32(8), np.float32(-8)).astype(np.float32)
    height, width = region.shape
    return MaskLogits(values, Box.covering(ImageSize(width_px=width, height_px=height)))
