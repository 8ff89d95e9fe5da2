"""The SAM 3 engine: looks at an image once, then answers concepts and visual prompts on it.

Concepts go to the detector, points, boxes and masks to the tracker's mask decoder; both read what
one run of the vision encoder gave (see `network`). Concepts that texts alone say are answered
together, others one by one, and objects with prompts of the same structure in one batch; requests
are never batched with each other, so that nothing that a request gets depends on another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from maskwire_server.domain.concept_tracking import ConceptTrackingEngine
from maskwire_server.domain.concepts import ConceptPrompt, DetectedInstance
from maskwire_server.domain.engine import (
    EngineFactory,
    ImageEmbedding,
    MaskCandidate,
    ModelDescription,
    ModelSpecification,
    ObjectPrediction,
)
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.prompts import ObjectPrompts, PromptKind
from maskwire_server.domain.tracking import TrackingLimits
from maskwire_server.engines import catalogue
from maskwire_server.engines.device import Placement, reporting_device_failure, resolve
from maskwire_server.engines.visual_prompts import batched
from maskwire_server.engines.weight_parking import ParkedWeights, ReadState, of_same_files
from maskwire_server.engines.weights import verified_folder_digest

from .detection import exemplars, instances
from .embedding import Sam3Embedding
from .loading import Sam3Parts, load_parts, read_parameters
from .network import Sam3Network
from .texts import TEXTS_KEPT, TextEncoder
from .tracker import Sam3Tracker

_MAX_OBJECTS = 128
# Objects decoded at once; the mask decoder is SAM 2's, and so are the limits that suit it.
_ACCELERATOR_BATCH_LIMIT = 64
_CPU_BATCH_PIXELS = 4 * 512 * 512
# The detector's masks of one text take some hundred MiB on the way at the published size.
_ACCELERATOR_CONCEPT_LIMIT = 8
_PROMPT_KINDS = frozenset(PromptKind)


class Sam3Engine(ConceptTrackingEngine):
    """One SAM 3 network on one device."""

    def __init__(
        self,
        parts: Sam3Parts,
        description: ModelDescription,
        placement: Placement,
        read_state: ReadState,
        *,
        texts_kept: int = TEXTS_KEPT,
    ) -> None:
        """Take over a network with its weights.

        Args:
            parts: What `load_parts` returned; the network is moved to the placement's device.
            description: What the engine says about itself.
            placement: Where and how to compute.
            read_state: Reads the weights again.
            texts_kept: Most texts whose features are remembered.
        """
        self._description = description
        self._placement = placement
        self._image_processor = parts.image_processor
        with self._computing():
            model = parts.model.to(placement.device).eval()
            self._network = Sam3Network(model)
        self._weights = ParkedWeights(model, read_state)
        self._texts = TextEncoder(model.detector_model, parts.tokenizer, kept=texts_kept)
        self._batch_limit = _ACCELERATOR_BATCH_LIMIT
        self._concepts_at_once = _ACCELERATOR_CONCEPT_LIMIT
        if placement.device.type == "cpu":
            self._batch_limit = max(1, _CPU_BATCH_PIXELS // self._network.side**2)
            self._concepts_at_once = self._batch_limit

    @property
    def description(self) -> ModelDescription:
        """What the model is and can do."""
        return self._description

    def encode(self, pixels: NDArray[np.uint8]) -> Sam3Embedding:
        """Encode an image; see `SegmentationEngine.encode`."""
        with self._computing():
            detector_levels, tracker_levels = self._network.look(self._network_input(pixels))
        levels = (*detector_levels, *tracker_levels)
        return Sam3Embedding(
            image_size=ImageSize(width_px=pixels.shape[1], height_px=pixels.shape[0]),
            size_bytes=sum(level.untyped_storage().nbytes() for level in levels),
            detector_levels=detector_levels,
            tracker_levels=tracker_levels,
        )

    def decode(
        self,
        embedding: ImageEmbedding,
        objects: Sequence[ObjectPrompts],
        *,
        multimask: bool,
    ) -> list[ObjectPrediction]:
        """Decode prompts into logits at a quarter of the network's patch; see the interface.

        The logits are not bounded, so that thresholding them at the image's resolution gives what
        upstream's `post_process_masks` gives.
        """
        embedding = _own(embedding)
        window = Box.covering(embedding.image_size)
        candidates: list[tuple[MaskCandidate, ...]] = [()] * len(objects)
        with self._computing():
            for batch in batched(
                objects,
                embedding.image_size,
                network_side=self._network.side,
                mask_side=self._network.mask_side,
                batch_limit=self._batch_limit,
                device=self._placement.device,
            ):
                logits, scores = self._network.decode(
                    embedding.tracker_levels, batch, multimask=multimask
                )
                answers = zip(
                    batch.positions,
                    logits.float().cpu().numpy(),
                    scores.float().cpu().numpy(),
                    strict=True,
                )
                for position, masks, ious in answers:
                    candidates[position] = tuple(
                        MaskCandidate(MaskLogits(mask, window), float(iou))
                        for mask, iou in zip(masks, ious, strict=True)
                    )
        return [
            ObjectPrediction(prompts.object_id, answers)
            for prompts, answers in zip(objects, candidates, strict=True)
        ]

    def detect(
        self, embedding: ImageEmbedding, concepts: Sequence[ConceptPrompt]
    ) -> list[tuple[DetectedInstance, ...]]:
        """Find every instance of each concept; see `ConceptEngine.detect`.

        Raises:
            MaskwireError: `INVALID_ARGUMENT`, naming its `field`, where a text has more tokens than
                the network reads; `MODEL_UNAVAILABLE` where the device fails.
        """
        embedding = _own(embedding)
        size, levels = embedding.image_size, embedding.detector_levels
        with self._computing():
            texts = [self._texts.encode(concept.text, concept.field) for concept in concepts]
            shown = [exemplars(concept, size, self._placement.device) for concept in concepts]
            alone = [text for text, (boxes, _) in zip(texts, shown, strict=True) if boxes is None]
            answers = self._network.detect_texts(levels, alone, self._concepts_at_once)
            found = []
            for concept, text, (boxes, labels) in zip(concepts, texts, shown, strict=True):
                if boxes is None:
                    output = next(answers)
                else:
                    output = self._network.detect(levels, text, boxes, labels)
                found.append(instances(output, size, concept.score_threshold))
        return found

    def new_tracker(self, size: ImageSize, limits: TrackingLimits) -> Sam3Tracker:
        """Make a tracker; see `ConceptTrackingEngine.new_tracker`."""
        with self._computing():
            return Sam3Tracker(
                self._network,
                self._texts,
                size,
                limits,
                device=self._placement.device,
                computing=self._computing,
                concepts_at_once=self._concepts_at_once,
            )

    @property
    def weight_bytes(self) -> int:
        """Memory of the weights while they are loaded."""
        return self._weights.size_bytes

    def drop_weights(self) -> None:
        """Give the memory of the weights back."""
        self._weights.drop()

    def load_weights(self) -> None:
        """Load the weights that were dropped; see `SegmentationEngine.load_weights`."""
        with reporting_device_failure(self._description.name):
            self._weights.load()

    def close(self) -> None:
        """Free the device's memory; the engine is not used again."""
        del self._network, self._texts, self._weights
        if self._placement.device.type == "cuda":
            torch.cuda.empty_cache()

    def _network_input(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        # Only bytes travel to the device; upstream's processor resizes and normalises there.
        image = torch.from_numpy(np.array(pixels)).to(self._placement.device)
        prepared = self._image_processor(
            images=image.permute(2, 0, 1), input_data_format="channels_first", return_tensors="pt"
        )
        values: torch.Tensor = prepared["pixel_values"]
        return values

    @contextmanager
    def _computing(self) -> Iterator[None]:
        with (
            reporting_device_failure(self._description.name),
            torch.inference_mode(),
            self._placement.autocast(),
        ):
            yield


class Sam3EngineFactory(EngineFactory):
    """Loads SAM 3 networks from the folders that they are published as."""

    def load(self, specification: ModelSpecification) -> Sam3Engine:
        """Load a network onto its device; see `EngineFactory.load`."""
        name, folder = specification.name, specification.checkpoint
        if folder is None:
            raise MaskwireError(
                ErrorCode.MODEL_UNAVAILABLE,
                f"model {name} has no checkpoint: run `maskwire models pull sam3` "
                "or name a folder in the settings",
                resource=name,
            )
        placement = resolve(specification.device, specification.precision)
        digest = verified_folder_digest(folder, specification.sha256)
        parts = load_parts(folder)
        entry = catalogue.find(name)
        description = ModelDescription(
            name=name,
            engine=specification.engine,
            architecture="sam3",
            checkpoint_digest=f"sha256:{digest}",
            prompt_kinds=_PROMPT_KINDS,
            masks_per_object=parts.model.tracker_model.mask_decoder.num_multimask_outputs,
            max_objects=_MAX_OBJECTS,
            native_resolution_px=parts.model.config.image_size,
            supports_video=True,
            device=str(placement.device),
            precision=placement.precision,
            license=entry.license if entry is not None else "unknown",
        )
        names = [name for name, _ in parts.model.named_parameters()]
        read = of_same_files(partial(read_parameters, folder, names), folder, digest)
        return Sam3Engine(parts, description, placement, read)


def _own(embedding: ImageEmbedding) -> Sam3Embedding:
    if not isinstance(embedding, Sam3Embedding):
        raise TypeError(f"{type(embedding).__name__} is not an embedding of this engine")
    return embedding
