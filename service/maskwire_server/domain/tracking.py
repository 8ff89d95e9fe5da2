"""The interface for following objects through the frames of a video.

Engines that track implement `TrackingEngine` beside `SegmentationEngine`. A tracker belongs to one
session or one stored video, and its memory is bounded however many frames it is given: what it
keeps of each object, and the latest few frames, on which prompts may still be given.
"""

from __future__ import annotations

import abc
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from .engine import ImageEmbedding, MaskCandidate, SegmentationEngine
from .geometry import ImageSize
from .logits import MaskLogits
from .prompts import ObjectPrompts


@dataclass(frozen=True, slots=True)
class TrackingLimits:
    """What bounds a tracker's memory.

    Attributes:
        max_objects: Most objects at a time; the caller sees to it that there are never more.
        held_frames: Frames before the latest one that prompts may still refer to, 0 or more.
    """

    max_objects: int
    held_frames: int


@dataclass(frozen=True, slots=True)
class ObjectSighting:
    """One object in one frame, as the tracker sees it.

    Attributes:
        object_id: The object.
        logits: Its mask at the engine's resolution; what it shows counts only where the object is
            visible.
        presence: Probability that the object is visible in the frame, 0 to 1; from 0.5 on it is.
        text: The text that found the object; empty where none did.
        confidence: How surely it shows what the text says, 0 to 1, when it was found; None where
            no text found it.
    """

    object_id: int
    logits: MaskLogits
    presence: float
    text: str = ""
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class PromptedObject:
    """What prompts on an object gave.

    Attributes:
        object_id: The object.
        candidates: The answers in the model's own order; the tracker goes on with the one of the
            highest predicted IoU, the first of equals.
        presence: Probability that the object is visible in the prompted frame, 0 to 1.
        text: The text that had found the object; empty where none did.
        confidence: As of a sighting.
    """

    object_id: int
    candidates: tuple[MaskCandidate, ...]
    presence: float
    text: str = ""
    confidence: float | None = None

    @property
    def best(self) -> MaskCandidate:
        """The answer that the tracker goes on with."""
        return max(self.candidates, key=lambda candidate: candidate.predicted_iou)

    def as_sighting(self, before: ObjectSighting | None) -> ObjectSighting:
        """Return the object as it is seen now, found by the text that had found it before."""
        logits = self.best.logits
        if before is None:
            return ObjectSighting(self.object_id, logits, self.presence, self.text, self.confidence)
        return replace(before, logits=logits, presence=self.presence)


class ObjectTracker(abc.ABC):
    """Follows objects through frames that come one by one.

    Every method blocks and is called on the executor that owns the engine's device, one call at a
    time; trackers of one engine never influence each other.
    """

    @property
    @abc.abstractmethod
    def object_ids(self) -> tuple[int, ...]:
        """The objects, in the order in which they were added."""

    @property
    @abc.abstractmethod
    def size_bytes(self) -> int:
        """Memory that the tracker holds: embeddings of held frames and what it knows of objects."""

    @abc.abstractmethod
    def advance(self, frame: int, embedding: ImageEmbedding) -> list[ObjectSighting]:
        """Take the next frame and follow every object into it.

        Args:
            frame: Its number: 0 for the first one since the start or `reset`, then one more for
                each.
            embedding: What this engine's `encode` made of it; always of the tracker's frame size.

        Returns:
            One sighting for each object, in the order of `object_ids`; none while there are none.

        Raises:
            MaskwireError: `MODEL_UNAVAILABLE` where the device fails.
        """

    @abc.abstractmethod
    def prompt(
        self, frame: int, objects: Sequence[ObjectPrompts], *, multimask: bool
    ) -> list[PromptedObject]:
        """Begin objects or correct them, on the latest frame or one that is still held.

        On an earlier frame, the objects are then carried through the frames after it up to the
        latest, so that they go on from there.

        Args:
            frame: Number of the frame.
            objects: At least one. Each brings everything that was said about it on this frame so
                far, not only what is new; its earlier mask there, if any, is the tracker's to
                take into account.
            multimask: True asks for up to `description.masks_per_object` alternatives of objects
                that begin with this frame; whether there are any for a correction is the engine's
                choice.

        Returns:
            The masks on that frame, in the order of `objects`.

        Raises:
            MaskwireError: `MODEL_UNAVAILABLE` where the device fails.
        """

    @abc.abstractmethod
    def clear_prompts(self, object_ids: Collection[int]) -> None:
        """Forget what was said about objects on the latest frame.

        An object that had been followed into the frame goes back to the mask that it had then; one
        that began there keeps its mask until it is prompted anew.
        """

    @abc.abstractmethod
    def remove(self, object_ids: Collection[int]) -> None:
        """Forget objects; ids that are unknown are ignored."""

    @abc.abstractmethod
    def reset(self) -> None:
        """Forget all objects and frames; the next frame is number 0."""

    def close(self) -> None:
        """Free what is held; the tracker is not used again."""
        self.reset()


class TrackingEngine(SegmentationEngine):
    """A segmentation engine that also follows objects through video.

    Its `description.supports_video` is true.
    """

    @abc.abstractmethod
    def new_tracker(self, size: ImageSize, limits: TrackingLimits) -> ObjectTracker:
        """Make a tracker without objects for frames of a size.

        Called on the executor that owns the engine's device.

        Raises:
            MaskwireError: `MODEL_UNAVAILABLE` where the device fails.
        """
