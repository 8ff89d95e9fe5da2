"""What a snapshot must be like for a session to go on from it, and the prompts that it holds.

A snapshot comes from a client, so nothing in it is taken for granted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..engine import ModelDescription
from ..errors import ErrorCode, MaskwireError
from ..geometry import ImageSize
from ..masks import decode_mask
from ..prompts import ObjectPrompts
from ..segmentation import Caller
from .messages import Snapshot, SnapshotObject


@dataclass(frozen=True, slots=True)
class SeenFrame:
    """A frame of a snapshot with the objects that were last seen in it.

    Attributes:
        data: The encoded frame.
        size: What size it must be.
        objects: The objects.
    """

    data: bytes
    size: ImageSize
    objects: tuple[SnapshotObject, ...]

    def prompts(self) -> list[ObjectPrompts]:
        """Return the objects' masks as prompts; empty masks are left out. Blocks.

        Raises:
            MaskwireError: `INVALID_ARGUMENT` for a mask that is malformed or of another size.
        """
        decoded = [
            (one.object_id, decode_mask(one.mask, self.size, "objects.mask"))
            for one in self.objects
        ]
        return [
            ObjectPrompts(
                object_id=object_id,
                points=np.empty((0, 2), np.float32),
                point_labels=np.empty(0, np.bool_),
                box=None,
                mask=bitmap,
            )
            for object_id, bitmap in decoded
            if bitmap.any()
        ]


def seen_frames(snapshot: Snapshot) -> Iterator[SeenFrame]:
    """Yield the frames of a checked snapshot, oldest first."""
    size = snapshot.frame_size
    for position, data in enumerate(snapshot.frames):
        assert size is not None
        here = tuple(one for one in snapshot.objects if one.frame == position)
        yield SeenFrame(data, size, here)


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
    if any(one.frame >= len(snapshot.frames) for one in snapshot.objects):
        raise refused("an object's frame is missing")
    if snapshot.frames and snapshot.frame_size is None:
        raise refused("the size of its frames is missing")


def refused(reason: str) -> MaskwireError:
    """Make the error for a seed that cannot be resumed."""
    return MaskwireError(
        ErrorCode.SEED_REFUSED, f"config.resume_seed: this server cannot resume it: {reason}"
    )
