"""From a tracker's sightings in one frame of a video to its masks, and the masks kept for drawing.

All of it blocks, and runs on the executor for pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import too_large
from ..geometry import ImageSize
from ..packed_masks import PackedMask
from ..rle import decode_rle, encode_rle
from ..segmentation import MaskOptions
from ..tracked_masks import MaskDelta, ObjectHistory, TrackedMask
from ..tracking import ObjectSighting


@dataclass(frozen=True, slots=True)
class FrameMasks:
    """The masks of one frame.

    Attributes:
        masks: To be sent.
        drawn: For each object its mask as run lengths, where an overlay is to be drawn.
    """

    masks: tuple[TrackedMask, ...]
    drawn: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class MaskFinisher:
    """Turns sightings into masks as one request wants them.

    Attributes:
        size: Size of the frames.
        options: How to return the masks.
        keeps_drawn: Whether an overlay is to be drawn.
    """

    size: ImageSize
    options: MaskOptions
    keeps_drawn: bool

    def finish(self, history: ObjectHistory, sightings: Sequence[ObjectSighting]) -> FrameMasks:
        """Finish the masks of a frame that is answered."""
        observations = history.observe(sightings, self.size)
        masks = history.send(observations, self.options, MaskDelta())
        history.keep_only([one.object_id for one in sightings])
        seen = [one for one in observations if self.keeps_drawn and one.box is not None]
        return FrameMasks(masks, {one.object_id: encode_rle(one.bitmap) for one in seen})


class DrawnMasks:
    """The masks of all frames that were answered, until the overlay video is made of them."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._by_frame: dict[int, Mapping[int, bytes]] = {}

    @property
    def frames(self) -> tuple[int, ...]:
        """The frames in the order in which they are shown."""
        return tuple(sorted(self._by_frame))

    def add(self, frame: int, drawn: Mapping[int, bytes]) -> None:
        """Keep the masks of a frame.

        Raises:
            MaskwireError: `PAYLOAD_TOO_LARGE` where all masks together take too much memory.
        """
        self._by_frame[frame] = drawn
        self._size_bytes += sum(map(len, drawn.values()))
        if self._size_bytes > self._max_bytes:
            raise too_large(
                "render_overlay",
                f"the masks for the overlay video exceed the limit of {self._max_bytes} bytes; "
                "ask for fewer frames",
            )

    def of(self, frame: int, size: ImageSize) -> Mapping[int, PackedMask]:
        """Return the masks of a frame by object."""
        return {
            object_id: PackedMask.pack(decode_rle(counts, size))
            for object_id, counts in self._by_frame.get(frame, {}).items()
        }
