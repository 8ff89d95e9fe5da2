"""What a request with text means: concepts to find, what refines them, and objects beside them.

The rules:
- every text is a concept; a box that shares its object id is an exemplar of it, and a box without
  an object id is an exemplar of every text;
- without a text, boxes without an object id are together one concept if one of them is negative;
- points and masks without an object id, or with that of a text, refine an instance that was found:
  points the one that holds most of the foreground points, a mask the one that it overlaps most;
- prompts with other object ids are objects of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from .concepts import ConceptPrompt, DetectedInstance
from .errors import invalid_field
from .geometry import Box, ImageSize
from .grouping import clip_box
from .logits import MaskLogits
from .prompts import BoxPrompt, MaskPrompt, ObjectPrompts, PointPrompt, Prompt, TextPrompt

_MAX_CONCEPTS = 32
_OVERLAP_IOU = 0.7
_COMPARED_SIDE_PX = 288


@dataclass(frozen=True, slots=True)
class Concept:
    """A concept of a request.

    Attributes:
        prompt: What to find.
        object_id: The id that the best instance takes; None where the request gave none.
    """

    prompt: ConceptPrompt
    object_id: int | None


@dataclass(frozen=True, slots=True)
class ConceptRequest:
    """The prompts of a request that asks for concepts.

    Attributes:
        concepts: At least one.
        refining: Points and masks that refine an instance.
        objects: Prompts of objects that are prompted visually.
    """

    concepts: tuple[Concept, ...]
    refining: tuple[Prompt, ...]
    objects: tuple[Prompt, ...]


@dataclass(frozen=True, slots=True)
class FoundInstance:
    """An instance with the concept that it is of, by its index, and its object id."""

    instance: DetectedInstance
    concept: int
    object_id: int


def asks_for_concepts(prompts: Sequence[Prompt]) -> bool:
    """Return whether prompts need an engine that finds concepts."""
    return any(
        isinstance(one.content, TextPrompt)
        or (isinstance(one.content, BoxPrompt) and not one.content.is_positive)
        for one in prompts
    )


def read_concepts(prompts: Sequence[Prompt], size: ImageSize) -> ConceptRequest:
    """Sort the prompts of a request that asks for concepts.

    Args:
        prompts: At least one text or negative box among them.
        size: Size of the image.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` for a box outside the image, two texts of one object id,
            negative boxes that belong to no concept, or too many texts.
    """
    texts = [(one, one.content) for one in prompts if isinstance(one.content, TextPrompt)]
    if len(texts) > _MAX_CONCEPTS:
        raise invalid_field("prompts", f"{len(texts)} texts are more than {_MAX_CONCEPTS}")
    known: set[int] = set()
    for one, _ in texts:
        if one.object_id is not None:
            if one.object_id in known:
                raise invalid_field(f"{one.field}.object_id", "another text has it")
            known.add(one.object_id)
    concepts = [_concept(text, one.object_id, prompts, size) for one, text in texts]
    if not concepts:
        concepts = [_concept(TextPrompt(""), None, prompts, size)]
    refining: list[Prompt] = []
    objects: list[Prompt] = []
    for one in prompts:
        belongs = one.object_id is None or one.object_id in known
        if isinstance(one.content, PointPrompt | MaskPrompt):
            (refining if belongs else objects).append(one)
        elif isinstance(one.content, BoxPrompt) and not belongs:
            if not one.content.is_positive:
                raise invalid_field(f"{one.field}.box.label", "a negative box needs a concept")
            objects.append(one)
    return ConceptRequest(tuple(concepts), tuple(refining), tuple(objects))


def number_instances(
    found: Sequence[Sequence[DetectedInstance]],
    request: ConceptRequest,
    *,
    first_free_id: int,
    most: int | None,
) -> tuple[FoundInstance, ...]:
    """Drop what several concepts found, keep the best of each, and give ids.

    Args:
        found: The instances of each concept, best first.
        request: The concepts.
        first_free_id: Smallest id to give; ids of the request are passed over.
        most: Most instances of one concept; None means all.
    """
    ranked = sorted(
        ((concept, one) for concept, several in enumerate(found) for one in several),
        key=lambda pair: -pair[1].score,
    )
    kept = _without_duplicates(ranked)
    used = {one.object_id for one in request.objects if one.object_id is not None}
    used |= {one.object_id for one in request.concepts if one.object_id is not None}
    free = (number for number in itertools.count(first_free_id) if number not in used)
    numbered: list[FoundInstance] = []
    for index, concept in enumerate(request.concepts):
        own = [one for at, one in kept if at == index][:most]
        for rank, one in enumerate(own):
            takes_own = rank == 0 and concept.object_id is not None
            object_id = concept.object_id if takes_own else next(free)
            assert object_id is not None
            numbered.append(FoundInstance(one, index, object_id))
    return tuple(numbered)


def refinements(
    found: Sequence[FoundInstance],
    request: ConceptRequest,
    refining: Sequence[ObjectPrompts],
    size: ImageSize,
) -> Iterator[ObjectPrompts]:
    """Yield what is to be decoded anew: prompts with the mask of the instance that they refine.

    Args:
        found: The instances.
        request: The concepts, whose ids tell which instances are meant.
        refining: The refining prompts by object, as `group_prompts` makes them.
        size: Size of the image.
    """
    concept_of = {one.object_id: index for index, one in enumerate(request.concepts)}
    for prompts in refining:
        wanted = concept_of.get(prompts.object_id)
        candidates = [one for one in found if wanted is None or one.concept == wanted]
        if not candidates:
            continue
        chosen = _meant(candidates, prompts, size)
        mask = chosen.instance.logits if prompts.mask is None else prompts.mask
        yield replace(prompts, object_id=chosen.object_id, mask=mask)


def as_prompts(found: FoundInstance) -> ObjectPrompts:
    """Return an instance as prompts for another model: its box and its mask."""
    return ObjectPrompts(
        object_id=found.object_id,
        points=np.zeros((0, 2), dtype=np.float32),
        point_labels=np.zeros(0, dtype=np.bool_),
        box=found.instance.box,
        mask=found.instance.logits,
    )


def _concept(
    text: TextPrompt, object_id: int | None, prompts: Sequence[Prompt], size: ImageSize
) -> Concept:
    """Return a text with its exemplars: boxes of its own id, and those without one."""
    positive: list[Box] = []
    negative: list[Box] = []
    for one in prompts:
        if isinstance(one.content, BoxPrompt) and one.object_id in (None, object_id):
            box = clip_box(one.content.box, size, f"{one.field}.box")
            (positive if one.content.is_positive else negative).append(box)
    if not text.text and not positive:
        raise invalid_field("prompts", "negative boxes need a text or a positive box beside them")
    prompt = ConceptPrompt(text.text, tuple(positive), tuple(negative), text.score_threshold)
    return Concept(prompt, object_id)


def _without_duplicates(
    ranked: Sequence[tuple[int, DetectedInstance]],
) -> list[tuple[int, DetectedInstance]]:
    """Keep of instances of different concepts that are one thing the one of the highest score."""
    kept: list[tuple[int, DetectedInstance]] = []
    masks: list[NDArray[np.bool_]] = []
    for concept, instance in ranked:
        mask = _small(instance.logits)
        if not any(
            other != concept and _iou(mask, seen) > _OVERLAP_IOU
            for (other, _), seen in zip(kept, masks, strict=True)
        ):
            kept.append((concept, instance))
            masks.append(mask)
    return kept


def _small(logits: MaskLogits) -> NDArray[np.bool_]:
    """Return a mask of the whole image, reduced: detectors look at the whole image."""
    side = (_COMPARED_SIDE_PX, _COMPARED_SIDE_PX)
    return np.asarray(cv2.resize(logits.values, side, interpolation=cv2.INTER_LINEAR) > 0)


def _iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    union = int(np.count_nonzero(one | other))
    return float(np.count_nonzero(one & other) / union) if union else 0.0


def _meant(
    candidates: Sequence[FoundInstance], prompts: ObjectPrompts, size: ImageSize
) -> FoundInstance:
    """Return the instance that prompts refine; of equals the one of the highest score."""
    if isinstance(prompts.mask, np.ndarray):
        drawn = prompts.mask

        def fit(one: FoundInstance) -> float:
            return _iou(one.instance.logits.to_bitmap(size), drawn)

    else:
        clicks = prompts.points[prompts.point_labels].astype(np.int64)

        def fit(one: FoundInstance) -> float:
            return float(one.instance.logits.to_bitmap(size)[clicks[:, 1], clicks[:, 0]].sum())

    return max(candidates, key=lambda one: (fit(one), one.instance.score))
