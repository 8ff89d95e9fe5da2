"""The frames that a session still holds, and what was said about objects on each of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import ErrorCode, MaskwireError, invalid_field
from ..geometry import ImageSize
from ..prompts import ObjectPrompts
from ..segmentation import ImageInfo


@dataclass(slots=True)
class HeldFrame:
    """A frame that prompts may still refer to.

    Attributes:
        number: Its number at the tracker.
        frame_id: Its number at the client.
        capture_time_ns: When it was captured, as sent.
        info: What image it is.
        data: The encoded image, where it is known.
        said: Everything that was said about each object on it.
    """

    number: int
    frame_id: int
    capture_time_ns: int | None
    info: ImageInfo
    data: bytes | None
    said: dict[int, ObjectPrompts] = field(default_factory=dict)


class HeldFrames:
    """The latest `capacity` frames by the client's number."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._frames: OrderedDict[int, HeldFrame] = OrderedDict()

    @property
    def latest(self) -> HeldFrame | None:
        """The frame that was processed last, None before the first."""
        return next(reversed(self._frames.values())) if self._frames else None

    def check_new(self, frame_id: int) -> None:
        """Check that a frame's number is not one that is held.

        Raises:
            MaskwireError: `INVALID_ARGUMENT`.
        """
        if frame_id in self._frames:
            raise invalid_field("frame.frame_id", f"frame {frame_id} was sent before")

    def add(self, frame: HeldFrame) -> None:
        """Hold a frame, and let go of the oldest where there are too many."""
        self._frames[frame.frame_id] = frame
        while len(self._frames) > self._capacity:
            self._frames.popitem(last=False)

    def find(self, frame_id: int | None) -> HeldFrame:
        """Return a frame by the client's number; None means the latest.

        Raises:
            MaskwireError: `FRAME_NOT_HELD`, or `SESSION_STATE` where there is no frame yet.
        """
        latest = self.latest
        if latest is None:
            raise MaskwireError(
                ErrorCode.SESSION_STATE, "prompts: no frame has been processed yet; send one first"
            )
        if frame_id is None:
            return latest
        frame = self._frames.get(frame_id)
        if frame is None:
            held = ", ".join(str(one) for one in self._frames)
            raise MaskwireError(
                ErrorCode.FRAME_NOT_HELD,
                f"prompts.frame_id: frame {frame_id} is not held (any more); held are {held}",
                resource=str(frame_id),
            )
        return frame

    def forget(self, object_ids: Collection[int]) -> None:
        """Forget what was said about objects."""
        for frame in self._frames.values():
            for object_id in object_ids:
                frame.said.pop(object_id, None)

    def clear(self) -> None:
        """Let go of all frames."""
        self._frames.clear()


def check_size(size: ImageSize, expected: ImageSize | None) -> None:
    """Check that a frame has the size of those before it; None means that there is none.

    Raises:
        MaskwireError: `INVALID_ARGUMENT`.
    """
    if expected is not None and size != expected:
        raise invalid_field(
            "frame.image",
            f"frames of this session measure {expected.width_px} x {expected.height_px} pixels, "
            f"this one {size.width_px} x {size.height_px}; reset the session before another size",
        )


def gather(
    frame: HeldFrame, objects: Sequence[ObjectPrompts], *, replace: bool, max_points: int
) -> tuple[ObjectPrompts, ...]:
    """Return everything that is now said about objects on a frame; nothing is changed yet.

    Points add up; a newer box or mask takes the older one's place.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` past `max_points` for one object.
    """
    gathered = []
    for new in objects:
        before = None if replace else frame.said.get(new.object_id)
        merged = new if before is None else _merged(before, new)
        if len(merged.points) > max_points:
            raise invalid_field(
                "prompts",
                f"object {new.object_id} has {len(merged.points)} points on the frame, "
                f"more than the limit of {max_points}",
            )
        gathered.append(merged)
    return tuple(gathered)


def _merged(before: ObjectPrompts, new: ObjectPrompts) -> ObjectPrompts:
    return ObjectPrompts(
        object_id=new.object_id,
        points=np.concatenate([before.points, new.points]),
        point_labels=np.concatenate([before.point_labels, new.point_labels]),
        box=new.box if new.box is not None else before.box,
        mask=new.mask if new.mask is not None else before.mask,
    )
