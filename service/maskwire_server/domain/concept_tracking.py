"""The interface of trackers that also look for concepts: new instances come as they appear.

What was found is an object like any other from then on: it is followed, prompts correct it, and it
can be removed. It may also be forgotten by the model, which drops what it began by mistake.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .concepts import ConceptEngine
from .geometry import ImageSize
from .tracking import ObjectSighting, ObjectTracker, TrackingEngine, TrackingLimits


@dataclass(frozen=True, slots=True)
class SoughtConcept:
    """A concept to look for in every frame.

    Attributes:
        text: A short noun phrase, not empty.
        score_threshold: Least confidence at which an instance begins, 0 to 1; None means the
            model's own default.
        object_id: The id that the first instance takes; None where the tracker's caller gives all.
        path: Path of the text in the request, for error messages.
    """

    text: str
    score_threshold: float | None = None
    object_id: int | None = None
    path: str = field(default="text", compare=False)


@dataclass(frozen=True, slots=True, eq=False)
class FoundObject:
    """An object that a text had found in a session that goes on here.

    Attributes:
        object_id: Its id.
        text: The text, not empty.
        confidence: How surely it shows what the text says, 0 to 1, when it was found.
        mask: Where it is in the latest frame, shape (height, width), bool; not empty.
    """

    object_id: int
    text: str
    confidence: float
    mask: NDArray[np.bool_]


class ConceptTracker(ObjectTracker):
    """A tracker that looks for concepts in every frame, once it was told them.

    It never begins instances beyond its limits: of those that would be too many, those of the
    lowest confidence are not begun. What several texts find is one object, of the text that is the
    most confident of it when it begins. What was removed is not found anew while it is in sight,
    as many of them as there may be objects. What is out of sight for long is given up where a new
    instance needs its place.
    """

    @property
    @abc.abstractmethod
    def sought(self) -> tuple[SoughtConcept, ...]:
        """What is looked for, in the order in which it came.

        The `object_id` of a concept is None once an instance has taken it.
        """

    @abc.abstractmethod
    def check(self, concepts: Sequence[SoughtConcept]) -> None:
        """Check that concepts can be looked for; nothing changes.

        Raises:
            MaskwireError: `INVALID_ARGUMENT`, naming its `path`, for a text that is longer than the
                model reads; `MODEL_UNAVAILABLE` where the device fails.
        """

    @abc.abstractmethod
    def keep_places(self, count: int) -> None:
        """Leave places for so many objects that prompts are going to begin.

        Each object that prompts begin takes one of them.
        """

    @abc.abstractmethod
    def seek(
        self, concepts: Sequence[SoughtConcept], new_id: Callable[[], int]
    ) -> list[ObjectSighting]:
        """Look for concepts in the latest frame, and in every frame from then on.

        A text that is looked for already is given its new threshold, and its new id where none of
        its instances has begun.

        Args:
            concepts: At least one; their texts differ.
            new_id: Called for each instance that begins, now and in frames to come, in the order
                of their confidences within a frame; it returns an id that was never used. The
                newest one given here counts for all concepts.

        Returns:
            The objects that begin with this.

        Raises:
            MaskwireError: As `check`; then nothing has changed.
        """

    @abc.abstractmethod
    def resume(
        self,
        objects: Sequence[FoundObject],
        concepts: Sequence[SoughtConcept],
        new_id: Callable[[], int],
    ) -> list[ObjectSighting]:
        """Go on from what another tracker found in a frame that is the latest one here.

        Nothing is looked for in that frame, so that nothing is found in it twice.

        Args:
            objects: What was seen there; they are followed from there on.
            concepts: What to look for in every frame after it; their texts differ.
            new_id: As for `seek`.

        Returns:
            The objects as they were given, in the frame.

        Raises:
            MaskwireError: As `seek`.
        """

    @abc.abstractmethod
    def stop_seeking(self) -> None:
        """Look for no concept any more; objects that were found stay."""


class ConceptTrackingEngine(TrackingEngine, ConceptEngine):
    """An engine whose trackers look for concepts."""

    @abc.abstractmethod
    def new_tracker(self, size: ImageSize, limits: TrackingLimits) -> ConceptTracker:
        """Make a tracker without objects; see `TrackingEngine.new_tracker`."""
