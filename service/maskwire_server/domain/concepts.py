"""The interface of engines that find concepts: every instance of what a text or exemplars say.

A concept detector takes a short noun phrase, boxes around exemplars, or both, but no points and no
masks. What it found is refined with those by the same engine's `decode`, or another engine's, as
the domain composes them.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass

from .engine import ImageEmbedding, SegmentationEngine
from .geometry import Box
from .logits import MaskLogits


@dataclass(frozen=True, slots=True)
class ConceptPrompt:
    """What to find in an image.

    Attributes:
        text: A short noun phrase; empty where only exemplars say what is wanted.
        positive_boxes: Boxes around exemplars, in the image frame, clipped to it.
        negative_boxes: Boxes around what is not wanted, in the same frame.
        score_threshold: Least confidence of an instance, 0 to 1; None means the model's default.
        field: Path of the text in the request, for error messages.
    """

    text: str
    positive_boxes: tuple[Box, ...] = ()
    negative_boxes: tuple[Box, ...] = ()
    score_threshold: float | None = None
    field: str = "text"


@dataclass(frozen=True, slots=True)
class DetectedInstance:
    """One instance of a concept.

    Attributes:
        logits: Its mask at the engine's resolution.
        box: The box that the detector gives it, in the image frame, clipped to the image.
        score: Presence of the concept × score of the object, 0 to 1.
    """

    logits: MaskLogits
    box: Box
    score: float


class ConceptEngine(SegmentationEngine):
    """A segmentation engine that also finds concepts.

    Its `description.prompt_kinds` has `PromptKind.TEXT` and `PromptKind.NEGATIVE_BOX`.
    """

    @abc.abstractmethod
    def detect(
        self, embedding: ImageEmbedding, concepts: Sequence[ConceptPrompt]
    ) -> list[tuple[DetectedInstance, ...]]:
        """Find every instance of each concept.

        Called on the executor that owns the engine's device. No vision encoder runs here: what it
        gives is in the embedding. What a text means is computed once and kept, within a bound.

        Args:
            embedding: What this engine's `encode` returned.
            concepts: At least one; each has a text or a positive box.

        Returns:
            For each concept its instances of at least its threshold, best first.

        Raises:
            MaskwireError: `INVALID_ARGUMENT`, naming its `field`, for a text that is longer than
                the model reads; `MODEL_UNAVAILABLE` where the device fails.
        """
