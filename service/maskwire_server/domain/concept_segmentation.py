"""Segmenting by concepts: detect with a model that can, refine, with another model if asked.

The segmentation service comes here with requests that have a text or a negative box; what comes
back is finished like every other model's answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from .concept_prompts import (
    ConceptRequest,
    FoundInstance,
    as_prompts,
    number_instances,
    read_concepts,
    refinements,
)
from .concepts import ConceptEngine, ConceptPrompt, DetectedInstance
from .decoding import Decoded, decode_objects
from .engine import MaskCandidate, ObjectPrediction
from .errors import invalid_field
from .executor import BoundedExecutor, Completed
from .file_decoder import FileDecoder
from .geometry import ImageSize
from .grouping import group_prompts
from .image_access import EncodedImage
from .inference_size import move_box, move_logits
from .models import ServedModel
from .observer import Observer
from .prompts import MaskPrompt, ObjectPrompts, Prompt
from .segmentation import MaskOptions

_FIRST_UNUSED_ID = 1 << 31
"""Beyond every id that a caller may give: marks prompts that belong to no concept's id."""

_MAX_INSTANCES = 512
"""Most instances of a request, the best of all its concepts: bounds the memory of their masks."""

_CONCEPTS_AT_ONCE = 8
"""Most concepts that are asked for together, before the best instances are kept: bounds it too."""


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """An image as a model sees it."""

    model: ServedModel
    encoded: EncodedImage


class ConceptSegmentation:
    """Answers the prompts of requests that ask for concepts."""

    def __init__(self, pixel_executor: BoundedExecutor, observer: Observer) -> None:
        self._pixels = pixel_executor
        self._observer = observer

    async def predict(
        self,
        prompts: Sequence[Prompt],
        options: MaskOptions,
        detector: PreparedImage,
        refiner: PreparedImage,
        decoder: FileDecoder,
        *,
        refines_all: bool,
    ) -> Completed[Decoded]:
        """Find, number and refine instances, and decode the objects prompted beside them.

        Args:
            prompts: At least one text or negative box among them.
            options: How many masks are wanted.
            detector: The image as the model that finds concepts sees it.
            refiner: The image as the model for points and masks sees it; may be the same.
            decoder: Decodes masks that are files.
            refines_all: Whether that model draws every instance anew, because it was asked for.

        Raises:
            MaskwireError: `INVALID_ARGUMENT` naming the field and the rule, `OVERLOADED`,
                `MODEL_UNAVAILABLE`.
        """
        size = detector.encoded.info.size
        request = read_concepts(prompts, size)
        refining, objects = await self._group(request, size, decoder)
        most_objects = refiner.model.description.max_objects
        if len(objects) > most_objects:
            rule = f"{len(objects)} objects are more than the limit {most_objects}"
            raise invalid_field("prompts", rule)
        detected = await self._detect(detector, request)
        most = options.max_masks if options.return_multiple_masks else None
        numbered = await self._pixels.run(
            lambda: _numbered(detected.value, request, refining, size, most, refines_all)
        )
        found, again = numbered.value
        drawn = await self._decode(refiner, again, multimask=False)
        beside = await self._decode(refiner, objects, multimask=options.return_multiple_masks)
        predictions = _merged(found, request, drawn.value) + beside.value
        parts = (detected, numbered, drawn, beside)
        return Completed(
            Decoded(predictions, (*again, *objects)),
            sum(one.queue_s for one in parts),
            sum(one.run_s for one in parts),
        )

    async def _group(
        self, request: ConceptRequest, size: ImageSize, decoder: FileDecoder
    ) -> tuple[tuple[ObjectPrompts, ...], tuple[ObjectPrompts, ...]]:
        def group() -> tuple[tuple[ObjectPrompts, ...], tuple[ObjectPrompts, ...]]:
            refining = group_prompts(
                request.refining, size, decoder, first_free_id=_FIRST_UNUSED_ID
            )
            return refining, group_prompts(request.objects, size, decoder)

        has_masks = any(
            isinstance(one.content, MaskPrompt) for one in (*request.refining, *request.objects)
        )
        return (await self._pixels.run(group)).value if has_masks else group()

    async def _detect(
        self, image: PreparedImage, request: ConceptRequest
    ) -> Completed[list[list[DetectedInstance]]]:
        engine, encoded = image.model.engine, image.encoded
        assert isinstance(engine, ConceptEngine)
        size, seen = encoded.info.size, encoded.embedding.image_size
        wanted = [_moved(one.prompt, size, seen) for one in request.concepts]
        found: list[list[DetectedInstance]] = []

        def detect(concepts: Sequence[ConceptPrompt]) -> None:
            found.extend(
                [_enlarged(one, seen, size) for one in instances]
                for instances in engine.detect(encoded.embedding, concepts)
            )
            _keep_best(found, _MAX_INSTANCES)

        name = image.model.description.name
        queue_s = run_s = 0.0
        # One call for each, so that none runs for a caller who has gone, and others get their turn.
        for start in range(0, len(wanted), _CONCEPTS_AT_ONCE):
            together = wanted[start : start + _CONCEPTS_AT_ONCE]
            detected = await image.model.run(partial(detect, together), is_refusable=start == 0)
            self._observer.stage_finished("prompt", name, detected.run_s, detected.ended_s)
            queue_s, run_s = queue_s + detected.queue_s, run_s + detected.run_s
        return Completed(found, queue_s, run_s)

    async def _decode(
        self, image: PreparedImage, objects: Sequence[ObjectPrompts], *, multimask: bool
    ) -> Completed[list[ObjectPrediction]]:
        """Decode as many objects at a time as the model takes: there may be any number found."""
        predictions: list[ObjectPrediction] = []
        queue_s = run_s = 0.0
        at_once = image.model.description.max_objects
        for start in range(0, len(objects), at_once):
            batch = objects[start : start + at_once]
            decoded = await decode_objects(
                image.model, image.encoded, batch, self._observer, multimask=multimask
            )
            predictions += decoded.value
            queue_s, run_s = queue_s + decoded.queue_s, run_s + decoded.run_s
        return Completed(predictions, queue_s, run_s)


def _numbered(
    detected: Sequence[Sequence[DetectedInstance]],
    request: ConceptRequest,
    refining: Sequence[ObjectPrompts],
    size: ImageSize,
    most: int | None,
    refines_all: bool,
) -> tuple[tuple[FoundInstance, ...], list[ObjectPrompts]]:
    """Return the instances and what of them is to be decoded anew."""
    found = number_instances(detected, request, first_free_id=1, most=most)
    prompted = {one.object_id: one for one in refinements(found, request, refining, size)}
    again = [
        prompted.get(one.object_id) or as_prompts(one)
        for one in found
        if refines_all or one.object_id in prompted
    ]
    return found, again


def _keep_best(found: list[list[DetectedInstance]], most: int) -> None:
    """Drop the least confident instances of all concepts where there are more than so many."""
    ranked = sorted(
        (-one.score, concept, rank)
        for concept, several in enumerate(found)
        for rank, one in enumerate(several)
    )
    dropped = {(concept, rank) for _, concept, rank in ranked[most:]}
    for concept, several in enumerate(found):
        several[:] = [one for rank, one in enumerate(several) if (concept, rank) not in dropped]


def _merged(
    found: Sequence[FoundInstance], request: ConceptRequest, drawn: Sequence[ObjectPrediction]
) -> list[ObjectPrediction]:
    """Return the instances as predictions, with the masks that were drawn anew."""
    anew = {one.object_id: one for one in drawn}
    predictions = []
    for one in found:
        candidates: tuple[MaskCandidate, ...] = (
            MaskCandidate(one.instance.logits, one.instance.score),
        )
        if one.object_id in anew:
            best = max(anew[one.object_id].candidates, key=lambda mask: mask.predicted_iou)
            candidates = (best,)
        text = request.concepts[one.concept].prompt.text
        predictions.append(ObjectPrediction(one.object_id, candidates, text, one.instance.score))
    return predictions


def _moved(prompt: ConceptPrompt, size: ImageSize, seen: ImageSize) -> ConceptPrompt:
    """Bring exemplars into the frame that the model sees."""
    return replace(
        prompt,
        positive_boxes=tuple(move_box(box, size, seen) for box in prompt.positive_boxes),
        negative_boxes=tuple(move_box(box, size, seen) for box in prompt.negative_boxes),
    )


def _enlarged(one: DetectedInstance, seen: ImageSize, size: ImageSize) -> DetectedInstance:
    """Bring an instance back into the frame of the image."""
    if seen == size:
        return one
    logits = move_logits(one.logits, seen, size)
    return DetectedInstance(logits, move_box(one.box, seen, size), one.score)
