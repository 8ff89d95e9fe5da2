"""What a request with text means: concepts to find, what refines them, and objects beside them.

The rules:
- every text is a concept; a box that shares its object id is an exemplar of it, and a box without
  an object id is an exemplar of every text;
- without a text, boxes without an object id are together one concept if one of them is negative;
- points and masks without an object id, or with that of a text, refine an instance that was found:
  a mask the one that it overlaps most; points the one that holds most of them (of the foreground
  points, where there are any); and where it overlaps or they hit none, the nearest; all that
  refines one instance refines it together, and where nothing was found it means nothing;
- prompts with other object ids are objects of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from .concept_tracking import SoughtConcept
from .concepts import ConceptPrompt, DetectedInstance
from .errors import invalid_field
from .geometry import Box, ImageSize
from .grouping import clip_box
from .logits import MaskLogits
from .prompts import BoxPrompt, MaskPrompt, ObjectPrompts, PointPrompt, Prompt, TextPrompt

MAX_CONCEPTS = 32
_OVERLAP_IOU = 0.7
_COMPARED_SIDE_PX = 288
"""Masks are compared with one another on a grid of this side, whatever the size of the image."""


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
        MaskwireError: `INVALID_ARGUMENT` for a box outside the image, a blank text, two texts of
            one object id, negative boxes that belong to no concept, or too many texts.
    """
    texts = [(one, one.content) for one in prompts if isinstance(one.content, TextPrompt)]
    known = _checked_ids(texts)
    concepts = [
        _concept(text, f"{one.field}.text.text", one.object_id, prompts, size)
        for one, text in texts
    ]
    if not concepts:
        concepts = [_concept(TextPrompt(""), "prompts", None, prompts, size)]
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


def read_sought(prompts: Sequence[Prompt]) -> tuple[SoughtConcept, ...]:
    """Read the texts among prompts on a frame of a video; they take no boxes there.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` for a text or an object id that two of them have, for too
            many texts, and for a negative box.
    """
    sought: dict[str, SoughtConcept] = {}
    known: set[int] = set()
    for one in prompts:
        if isinstance(one.content, BoxPrompt) and not one.content.is_positive:
            raise invalid_field(f"{one.field}.box.label", "a box in a video must be positive")
        if not isinstance(one.content, TextPrompt):
            continue
        text = one.content.text.strip()
        if not text or text in sought:
            raise invalid_field(f"{one.field}.text.text", "must be a text of its own")
        if one.object_id is not None and one.object_id in known:
            raise invalid_field(f"{one.field}.object_id", "another text has it")
        if one.object_id is not None:
            known.add(one.object_id)
        sought[text] = SoughtConcept(
            text, one.content.score_threshold, one.object_id, f"{one.field}.text.text"
        )
    if len(sought) > MAX_CONCEPTS:
        raise invalid_field("prompts", f"{len(sought)} texts are more than {MAX_CONCEPTS}")
    return tuple(sought.values())


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
    """Yield what is to be decoded anew: for an instance all prompts that refine it, and its mask.

    Args:
        found: The instances.
        request: The concepts, whose ids tell which instances are meant.
        refining: The refining prompts by object, as `group_prompts` makes them.
        size: Size of the image.
    """
    concept_of = {one.object_id: index for index, one in enumerate(request.concepts)}
    masks = {one.object_id: _small(one.instance.logits) for one in found} if refining else {}
    chosen: dict[int, ObjectPrompts] = {}
    for prompts in refining:
        wanted = concept_of.get(prompts.object_id)
        candidates = [one for one in found if wanted is None or one.concept == wanted]
        if candidates:
            meant = _meant(candidates, masks, prompts, size)
            before = chosen.get(meant.object_id)
            chosen[meant.object_id] = _together(before or _shown(meant), prompts)
    yield from chosen.values()


def as_prompts(found: FoundInstance) -> ObjectPrompts:
    """Return an instance as prompts for another model: its box and its mask."""
    return replace(_shown(found), box=found.instance.box)


def _checked_ids(texts: Sequence[tuple[Prompt, TextPrompt]]) -> set[int]:
    """Return the object ids of texts, of which none is blank and no two have the same."""
    if len(texts) > MAX_CONCEPTS:
        raise invalid_field("prompts", f"{len(texts)} texts are more than {MAX_CONCEPTS}")
    known: set[int] = set()
    for one, text in texts:
        if not text.text.strip():
            raise invalid_field(f"{one.field}.text.text", "a blank says nothing")
        if one.object_id is not None:
            if one.object_id in known:
                raise invalid_field(f"{one.field}.object_id", "another text has it")
            known.add(one.object_id)
    return known


def _concept(
    text: TextPrompt, field: str, object_id: int | None, prompts: Sequence[Prompt], size: ImageSize
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
    prompt = ConceptPrompt(text.text, tuple(positive), tuple(negative), text.score_threshold, field)
    return Concept(prompt, object_id)


def _without_duplicates(
    ranked: Sequence[tuple[int, DetectedInstance]],
) -> list[tuple[int, DetectedInstance]]:
    """Keep of instances of different concepts that are one thing the one of the highest score."""
    if len({concept for concept, _ in ranked}) < 2:
        return list(ranked)
    kept: list[tuple[int, DetectedInstance]] = []
    concepts = np.zeros(len(ranked), dtype=np.int64)
    masks = np.zeros((len(ranked), _COMPARED_SIDE_PX**2 // 8), dtype=np.uint8)
    for concept, instance in ranked:
        count = len(kept)
        mask = np.packbits(_small(instance.logits))
        others = masks[:count][concepts[:count] != concept]
        if not (_ious(mask, others) > _OVERLAP_IOU).any():
            concepts[count], masks[count] = concept, mask
            kept.append((concept, instance))
    return kept


def _small(logits: MaskLogits) -> NDArray[np.bool_]:
    """Return a mask of the whole image, reduced: detectors look at the whole image."""
    side = (_COMPARED_SIDE_PX, _COMPARED_SIDE_PX)
    return np.asarray(cv2.resize(logits.values, side, interpolation=cv2.INTER_LINEAR) > 0)


def _small_drawn(mask: NDArray[np.bool_] | MaskLogits, size: ImageSize) -> NDArray[np.bool_]:
    """Return a mask prompt, reduced likewise; every pixel of it leaves a trace."""
    bitmap = mask.to_bitmap(size) if isinstance(mask, MaskLogits) else mask
    side = (_COMPARED_SIDE_PX, _COMPARED_SIDE_PX)
    grey = bitmap.view(np.uint8) * np.uint8(255)
    share = cv2.resize(grey, side, interpolation=cv2.INTER_AREA)
    reduced = np.asarray(share > 127)
    return reduced if reduced.any() else np.asarray(share > 0)


def _ious(mask: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the IoU of a packed mask with each of others, shape (n, bytes)."""
    shared = np.bitwise_count(others & mask).sum(axis=1, dtype=np.int64)
    either = np.bitwise_count(others | mask).sum(axis=1, dtype=np.int64)
    return np.asarray(shared / np.maximum(either, 1), dtype=np.float64)


def _meant(
    candidates: Sequence[FoundInstance],
    masks: Mapping[int, NDArray[np.bool_]],
    prompts: ObjectPrompts,
    size: ImageSize,
) -> FoundInstance:
    """Return the instance that prompts refine; of equals the nearest, then the most confident."""
    scale = np.array([_COMPARED_SIDE_PX / size.width_px, _COMPARED_SIDE_PX / size.height_px])
    drawn = None if prompts.mask is None else _small_drawn(prompts.mask, size)
    has_foreground = bool(prompts.point_labels.any())
    clicks = prompts.points[prompts.point_labels] if has_foreground else prompts.points
    if drawn is not None and drawn.any() and not len(clicks):
        clicks = _middle(drawn) / scale
    cells = np.minimum((clicks * scale).astype(np.int64), _COMPARED_SIDE_PX - 1)

    def fit(one: FoundInstance) -> tuple[float, float, float, float]:
        mask = masks[one.object_id]
        overlap = 0.0
        if drawn is not None:
            overlap = float(_ious(np.packbits(drawn), np.packbits(mask)[None])[0])
        held = float(np.count_nonzero(mask[cells[:, 1], cells[:, 0]]))
        return overlap, held, -_distance_px(clicks, one.instance.box), one.instance.score

    return max(candidates, key=fit)


def _middle(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean position of a mask's cells, x and y, shape (1, 2)."""
    rows, columns = np.nonzero(mask)
    return np.array([[columns.mean() + 0.5, rows.mean() + 0.5]])


def _distance_px(points: NDArray[np.floating], box: Box) -> float:
    """Return how far points are from a box, all together; 0 where all are in it."""
    x, y = points[:, 0], points[:, 1]
    beside = np.maximum(np.maximum(box.x_min - x, x - box.x_max), 0)
    above = np.maximum(np.maximum(box.y_min - y, y - box.y_max), 0)
    return float(np.hypot(beside, above).sum())


def _shown(found: FoundInstance) -> ObjectPrompts:
    """Return the mask of an instance as a prompt."""
    return ObjectPrompts(
        object_id=found.object_id,
        points=np.zeros((0, 2), dtype=np.float32),
        point_labels=np.zeros(0, dtype=np.bool_),
        box=None,
        mask=found.instance.logits,
    )


def _together(shown: ObjectPrompts, further: ObjectPrompts) -> ObjectPrompts:
    """Return an instance's prompts with further points, and another mask where there is one."""
    return replace(
        shown,
        points=np.concatenate([shown.points, further.points]),
        point_labels=np.concatenate([shown.point_labels, further.point_labels]),
        mask=shown.mask if further.mask is None else further.mask,
    )
