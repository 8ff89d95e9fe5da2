"""What a snapshot must be like for a session to go on from it, and the prompts that it holds.

A snapshot comes from a client, so nothing in it is taken for granted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..concept_tracking import ConceptTracker, FoundObject, SoughtConcept
from ..engine import ImageEmbedding, ModelDescription
from ..errors import ErrorCode, MaskwireError
from ..file_decoder import FileDecoder
from ..geometry import ImageSize
from ..mask_reading import SentMask, decode_masks
from ..prompts import ObjectPrompts
from ..segmentation import Caller
from ..tracking import ObjectTracker
from .answers import Sightings
from .messages import Snapshot, SnapshotObject


@dataclass(frozen=True, slots=True)
class Restored:
    """What begins the objects of a frame.

    Attributes:
        prompted: Masks as prompts, of objects that prompts had begun.
        found: Objects that texts had found.
        sought: Texts to look for in the frames after it.
    """

    prompted: tuple[ObjectPrompts, ...]
    found: tuple[FoundObject, ...]
    sought: tuple[SoughtConcept, ...]

    @property
    def object_ids(self) -> frozenset[int]:
        """The ids of both."""
        return frozenset(
            {one.object_id for one in self.prompted} | {one.object_id for one in self.found}
        )


@dataclass(frozen=True, slots=True)
class SeenFrame:
    """A frame of a snapshot with the objects that were last seen in it.

    Attributes:
        data: The encoded frame.
        size: What size it must be.
        objects: The objects.
        sought: Texts to look for in the frames after it.
    """

    data: bytes
    size: ImageSize
    objects: tuple[SnapshotObject, ...]
    sought: tuple[SoughtConcept, ...]

    def read(self, decoder: FileDecoder) -> Restored:
        """Return what to begin the objects with; empty masks are left out. Blocks.

        Args:
            decoder: Decodes masks that are files.

        Raises:
            MaskwireError: `INVALID_ARGUMENT` for a mask that is malformed or of another size.
        """
        prompted: list[ObjectPrompts] = []
        found: list[FoundObject] = []
        sent = [SentMask(one.mask, "objects.mask") for one in self.objects]
        bitmaps = decode_masks(sent, self.size, decoder)
        for one, bitmap in zip(self.objects, bitmaps, strict=True):
            if not bitmap.any():
                continue
            if one.text:
                found.append(FoundObject(one.object_id, one.text, one.confidence or 0.0, bitmap))
                continue
            prompts = ObjectPrompts(
                object_id=one.object_id,
                points=np.empty((0, 2), np.float32),
                point_labels=np.empty(0, np.bool_),
                box=None,
                mask=bitmap,
            )
            prompted.append(prompts)
        return Restored(tuple(prompted), tuple(found), self.sought)


def seen_frames(snapshot: Snapshot) -> Iterator[SeenFrame]:
    """Yield the frames of a checked snapshot, oldest first."""
    size = snapshot.frame_size
    for position, data in enumerate(snapshot.frames):
        assert size is not None
        here = tuple(one for one in snapshot.objects if one.frame == position)
        is_last = position == len(snapshot.frames) - 1
        yield SeenFrame(data, size, here, snapshot.sought if is_last else ())


def check_snapshot(
    snapshot: Snapshot, model: ModelDescription, caller: Caller, max_objects: int
) -> None:
    """Check that a caller's session may go on from a snapshot on a model.

    Raises:
        MaskwireError: `SEED_REFUSED`, saying why not.
    """
    if snapshot.tenant != caller.tenant:
        raise refused("it is not of a session of this caller")
    if snapshot.checkpoint_digest != model.checkpoint_digest:
        raise refused(
            f"it was made with another checkpoint than that of {model.name} "
            f"({snapshot.checkpoint_digest or 'none'})"
        )
    if len(snapshot.objects) > max_objects:
        raise refused(f"it has more objects than the limit of {max_objects}")
    ids = [one.object_id for one in snapshot.objects]
    if len(set(ids)) < len(ids) or any(one >= snapshot.next_object_id for one in ids):
        raise refused("its object ids contradict each other")
    texts = [one.text for one in snapshot.sought]
    if len(set(texts)) < len(texts):
        raise refused("a text is there twice")
    if any(one.frame >= len(snapshot.frames) for one in snapshot.objects):
        raise refused("an object's frame is missing")
    reserved = [one.object_id for one in snapshot.sought if one.object_id is not None]
    if not set(reserved).isdisjoint(ids) or any(one >= snapshot.next_object_id for one in reserved):
        raise refused("the id of a text contradicts those of its objects")
    if snapshot.frames and snapshot.frame_size is None:
        raise refused("the size of its frames is missing")


def restore(
    tracker: ObjectTracker,
    number: int,
    embedding: ImageEmbedding,
    told: Restored,
    new_id: Callable[[], int],
) -> Sightings:
    """Give a tracker a frame of a snapshot; called where the engine computes.

    Args:
        tracker: The tracker.
        number: Number of the frame.
        embedding: The frame.
        told: What the snapshot says of it.
        new_id: Gives the ids of what texts find.

    Raises:
        MaskwireError: `SEED_REFUSED` for texts where the tracker looks for none.
    """
    followed = tracker.advance(number, embedding)
    objects = told.prompted
    prompted = tracker.prompt(number, objects, multimask=False) if objects else ()
    if not told.found and not told.sought:
        return Sightings(tuple(followed), tuple(prompted))
    if not isinstance(tracker, ConceptTracker):
        raise refused("the model looks for no texts")
    found = tracker.resume(told.found, told.sought, new_id)
    return Sightings((*followed, *found), tuple(prompted))


def refused(reason: str) -> MaskwireError:
    """Make the error for a seed that cannot be resumed."""
    return MaskwireError(
        ErrorCode.SEED_REFUSED, f"config.resume_seed: this server cannot resume it: {reason}"
    )
