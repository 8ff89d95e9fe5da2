"""Prompts of a session's request: what is checked of them, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

from ..concept_prompts import MAX_CONCEPTS, read_sought
from ..concept_tracking import ConceptTracker, SoughtConcept
from ..errors import ErrorCode, MaskwireError, invalid_field
from ..executor import BoundedExecutor
from ..file_decoder import FileDecoder
from ..geometry import ImageSize
from ..grouping import group_prompts, prompt_kinds
from ..models import ModelRegistry, ServedModel
from ..prompts import MaskPrompt, ObjectPrompts, Prompt, PromptKind, TextPrompt
from ..tracking import ObjectSighting, ObjectTracker
from .costs import StateLimits


@dataclass(frozen=True, slots=True)
class Said:
    """What prompts on a frame say.

    Attributes:
        objects: Visual prompts by object.
        sought: Texts to look for.
    """

    objects: tuple[ObjectPrompts, ...] = ()
    sought: tuple[SoughtConcept, ...] = ()

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The ids that they name or are given."""
        reserved = (one.object_id for one in self.sought if one.object_id is not None)
        return (*(one.object_id for one in self.objects), *reserved)


class PromptReader:
    """Checks and reads the prompts of one session."""

    def __init__(
        self,
        model: ServedModel,
        models: ModelRegistry,
        pixels: BoundedExecutor,
        decoder: FileDecoder,
        limits: StateLimits,
    ) -> None:
        self._model = model
        self._models = models
        self._pixels = pixels
        self._decoder = decoder
        self._limits = limits

    def check(self, prompts: Sequence[Prompt], field: str) -> None:
        """Check what can be checked without a frame.

        Raises:
            MaskwireError: `INVALID_ARGUMENT` for too many, `UNSUPPORTED_BY_MODEL`.
        """
        if len(prompts) > self._limits.max_prompts:
            raise invalid_field(
                field,
                f"{len(prompts)} prompts are more than the limit of {self._limits.max_prompts}",
            )
        kinds = prompt_kinds(prompts)
        if PromptKind.TEXT in kinds:
            self._models.concept_tracking_model(self._model, is_named=True)
        self._models.require(self._model, kinds)

    async def read(
        self,
        prompts: Sequence[Prompt],
        size: ImageSize,
        tracker: ObjectTracker | None,
        *,
        first_free_id: int,
    ) -> Said:
        """Read prompts on a frame.

        Args:
            prompts: The prompts.
            size: Size of the frame.
            tracker: Has the session's objects and the texts that are looked for; None before the
                first frame.
            first_free_id: Smallest id that was never used.

        Raises:
            MaskwireError: `INVALID_ARGUMENT` as `group_prompts` and `read_sought`, for too many
                objects or texts, and for a text with the id of an object or of another text.
        """
        if not prompts:
            return Said()
        sought = read_sought(prompts)
        known = () if tracker is None else tracker.object_ids
        count = len({one.text for one in (*sought_by(tracker), *sought)})
        if count > MAX_CONCEPTS:
            raise invalid_field(
                "prompts", f"{count} texts at a time are more than the limit of {MAX_CONCEPTS}"
            )
        visual = [one for one in prompts if not isinstance(one.content, TextPrompt)]
        reserved = {one.object_id for one in sought if one.object_id is not None}
        _check_ids(prompts, {*known, *(one.object_id for one in visual)}, sought_by(tracker))
        first_free_id = max(first_free_id, *(one + 1 for one in reserved), 0)
        group = partial(group_prompts, visual, size, self._decoder, first_free_id=first_free_id)
        if any(isinstance(one.content, MaskPrompt) for one in visual):
            objects = (await self._pixels.run(group, is_refusable=False)).value
        else:
            objects = group()
        count = len({*known, *(one.object_id for one in objects)})
        if count > self._limits.max_objects:
            raise invalid_field(
                "prompts", f"{count} objects are more than the limit of {self._limits.max_objects}"
            )
        return Said(objects, sought)


def _check_ids(
    prompts: Sequence[Prompt], taken: Collection[int | None], sought: Sequence[SoughtConcept]
) -> None:
    """Check that no text has the id of an object, nor one that another text keeps.

    Raises:
        MaskwireError: `INVALID_ARGUMENT`.
    """
    kept = {one.object_id: one.text for one in sought}
    for one in prompts:
        object_id = one.object_id
        if object_id is None or not isinstance(one.content, TextPrompt):
            continue
        if object_id in taken:
            raise invalid_field(f"{one.field}.object_id", f"the id {object_id} is an object's")
        if kept.get(object_id, one.content.text.strip()) != one.content.text.strip():
            raise invalid_field(f"{one.field}.object_id", f"another text has the id {object_id}")


def prepare(tracker: ObjectTracker, said: Said) -> None:
    """Check texts, and keep places for objects that begin, before anything changes.

    Raises:
        MaskwireError: As `ConceptTracker.check`.
    """
    if not isinstance(tracker, ConceptTracker):
        return
    tracker.check(said.sought)
    known = tracker.object_ids
    tracker.keep_places(sum(one.object_id not in known for one in said.objects))


def seek(tracker: ObjectTracker, said: Said, new_id: Callable[[], int]) -> Sequence[ObjectSighting]:
    """Look for what was said from the latest frame on; return what was found there."""
    if not said.sought:
        return ()
    assert isinstance(tracker, ConceptTracker)
    return tracker.seek(said.sought, new_id)


def sought_by(tracker: ObjectTracker | None) -> tuple[SoughtConcept, ...]:
    """Return what a tracker looks for in every frame."""
    return tracker.sought if isinstance(tracker, ConceptTracker) else ()


def check_known(object_ids: Collection[int], known: Collection[int]) -> None:
    """Check that a session has objects.

    Raises:
        MaskwireError: `OBJECT_NOT_FOUND`, naming those that it has not.
    """
    unknown = set(object_ids) - set(known)
    if unknown:
        names = ", ".join(str(one) for one in sorted(unknown)[:8])
        raise MaskwireError(
            ErrorCode.OBJECT_NOT_FOUND,
            f"control.object_ids: the session has no object {names}",
            resource=names,
        )
