"""The interface that every segmentation engine implements, and what it says about itself.

One interface serves both kinds of model: those that encode an image once and decode many prompts
on the embedding (the SAM family), and those that look at the image again for each prompt (nano),
whose "embedding" is the image itself. Engines register through the entry-point group
`maskwire.engines` as an `EngineFactory`. Concept detection by text and tracking through video are
interfaces of their own beside this one, which an engine may implement too.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .geometry import ImageSize
from .logits import MaskLogits
from .prompts import ObjectPrompts, PromptKind


@dataclass(frozen=True, slots=True)
class ModelSpecification:
    """What to load: the composition root makes it from the settings and the catalogue.

    Attributes:
        name: The name that requests use, e.g. `sam2.1-hiera-tiny`.
        engine: Entry-point name of the engine that loads it, e.g. `sam2`.
        checkpoint: File with the weights; None where the engine ships its own.
        config: File with the architecture; None where the name implies it.
        device: `cpu`, `cuda`, `cuda:1`, `mps` or `auto`.
        precision: `fp32`, `bf16` or `auto` (bf16 on cuda, fp32 elsewhere).
        sha256: Expected digest of the checkpoint file in hexadecimal, or None to accept any.
    """

    name: str
    engine: str
    checkpoint: Path | None = None
    config: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What a loaded model is and can do; `GetModel` tells it to callers.

    Attributes:
        name: The name that requests use.
        engine: The engine that runs it.
        architecture: The network in the field's own term, e.g. `sam2.1-hiera-tiny`.
        checkpoint_digest: `sha256:` and the hexadecimal digest of the weights file.
        prompt_kinds: The prompts that it serves.
        masks_per_object: Alternatives that it can give for one object's prompts.
        max_objects: Objects that one request may prompt.
        native_resolution_px: Side of the square that the network looks at.
        supports_video: Whether it tracks objects through frames.
        device: Where it runs, e.g. `cuda:0`.
        precision: `fp32` or `bf16`.
        license: SPDX identifier or name of the weights' licence.
    """

    name: str
    engine: str
    architecture: str
    checkpoint_digest: str
    prompt_kinds: frozenset[PromptKind]
    masks_per_object: int
    max_objects: int
    native_resolution_px: int
    supports_video: bool
    device: str
    precision: str
    license: str


@dataclass(frozen=True, slots=True)
class ImageEmbedding:
    """What an engine keeps of an image; engines subclass it with their own tensors.

    Never changed once made, so that any number of requests may decode on it at once.

    Attributes:
        image_size: Size of the image that was encoded.
        size_bytes: Memory that it holds, for the cache's budget.
    """

    image_size: ImageSize
    size_bytes: int


@dataclass(frozen=True, slots=True)
class MaskCandidate:
    """One answer for one object.

    Attributes:
        logits: The mask at the engine's resolution.
        predicted_iou: The model's own estimate of the mask's IoU, 0 to 1.
        is_refined: Whether a second pass drew it (`refinement`).
    """

    logits: MaskLogits
    predicted_iou: float
    is_refined: bool = False


@dataclass(frozen=True, slots=True)
class ObjectPrediction:
    """All answers for one object, in the model's own order.

    Attributes:
        object_id: The object.
        candidates: The answers.
        text: The text that found it, where text did.
        confidence: Presence of the concept × score of the object, 0 to 1, where a concept detector
            found it; it is then the score of every answer.
    """

    object_id: int
    candidates: tuple[MaskCandidate, ...]
    text: str = ""
    confidence: float | None = None


class SegmentationEngine(abc.ABC):
    """One loaded model that turns an image and prompts into masks.

    Every method blocks and is called on the executor that owns the engine's device, one call at a
    time. No call leaves state behind that another could see: what a request gets depends on
    nothing but the request.
    """

    @property
    @abc.abstractmethod
    def description(self) -> ModelDescription:
        """What the model is and can do."""

    @abc.abstractmethod
    def encode(self, pixels: NDArray[np.uint8]) -> ImageEmbedding:
        """Encode an image once for any number of prompts.

        Args:
            pixels: Shape (height, width, 3), uint8, RGB, contiguous; not changed.

        Raises:
            MaskwireError: `MODEL_UNAVAILABLE` where the device fails (out of memory).
        """

    @abc.abstractmethod
    def decode(
        self,
        embedding: ImageEmbedding,
        objects: Sequence[ObjectPrompts],
        *,
        multimask: bool,
    ) -> list[ObjectPrediction]:
        """Decode the prompts of each object into masks, in the order of `objects`.

        Args:
            embedding: What this engine's `encode` returned.
            objects: At least one; each has at least one prompt, of the kinds in
                `description.prompt_kinds`, checked against the image by the caller.
            multimask: False asks for one answer per object, True for up to
                `description.masks_per_object` alternatives.

        Raises:
            MaskwireError: `MODEL_UNAVAILABLE` where the device fails.
        """

    @property
    def weight_bytes(self) -> int:
        """Memory that the weights take while they are loaded; does not change."""
        return 0

    def drop_weights(self) -> None:
        """Give the memory of the weights back; only `load_weights` and `close` may come next."""
        return

    def load_weights(self) -> None:
        """Load the weights that were dropped; all else is as it was, trackers included.

        Raises:
            MaskwireError: `MODEL_UNAVAILABLE` where they cannot be read.
        """
        return

    def close(self) -> None:
        """Free the device's memory; the engine is not used again."""
        return


class EngineFactory(abc.ABC):
    """Makes loaded engines of one kind; what the entry point names is an instance or subclass."""

    @abc.abstractmethod
    def load(self, specification: ModelSpecification) -> SegmentationEngine:
        """Load the weights onto the device; blocks for seconds to minutes.

        Raises:
            MaskwireError: `MODEL_UNAVAILABLE` where a file is missing, its digest differs, its
                tensors do not fit the architecture, or the device is absent. The message says
                which and what would help.
        """
