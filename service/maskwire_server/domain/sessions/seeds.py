"""What a session can be resumed from: where each object was last seen, with the frame it was in.

A mask without its frame would teach the next tracker the wrong pixels, so the frames go along: the
last one, and for objects that are lost the ones they were last seen in, as far as they are kept.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from ..errors import ErrorCode, MaskwireError
from ..file_decoder import FileDecoder
from ..geometry import ImageSize
from ..images import ImageLimits
from ..logits import MaskLogits
from ..masks import EncodedRle
from ..pictures import PictureFormat, encode_picture
from ..rle import encode_rle
from ..tracked_masks import VISIBLE_FROM
from ..tracking import ObjectSighting
from .messages import SnapshotObject

MAX_FRAMES = 4
"""Frames that are kept: the latest one, and three in which objects were lost since."""

_LARGE_FRAME_BYTES = 2**20
_JPEG_QUALITY = 90


@dataclass(frozen=True, slots=True)
class _Seen:
    """Where an object was last seen."""

    frame: int
    logits: MaskLogits
    is_visible: bool
    text: str
    confidence: float | None


@dataclass(frozen=True, slots=True)
class SeedContent:
    """The part of a snapshot that takes work to make."""

    frames: tuple[bytes, ...]
    objects: tuple[SnapshotObject, ...]


class SeedKeeper:
    """Remembers where each object was last seen; bounded by `MAX_FRAMES` frames."""

    def __init__(self) -> None:
        self._frames: dict[int, bytes] = {}
        self._seen: dict[int, _Seen] = {}

    @property
    def size_bytes(self) -> int:
        """Memory that is held."""
        masks = sum(seen.logits.values.nbytes for seen in self._seen.values())
        return masks + sum(len(data) for data in self._frames.values())

    def note(self, frame: int, data: bytes | None, sightings: Sequence[ObjectSighting]) -> None:
        """Note where objects are seen.

        Args:
            frame: Number of the frame.
            data: The encoded frame, or None where it is not known: then nothing can be noted.
            sightings: Objects in it; those that are not visible keep what was noted before.
        """
        if data is None:
            return
        self._frames[frame] = data
        for sighting in sightings:
            before = self._seen.get(sighting.object_id)
            if sighting.presence >= VISIBLE_FROM:
                self._seen[sighting.object_id] = _Seen(
                    frame, sighting.logits, True, sighting.text, sighting.confidence
                )
            elif before is not None:
                self._seen[sighting.object_id] = replace(before, is_visible=False)
        self._drop_frames()

    def forget(self, object_ids: Collection[int]) -> None:
        """Forget objects."""
        for object_id in object_ids:
            self._seen.pop(object_id, None)

    def clear(self) -> None:
        """Forget everything."""
        self._frames.clear()
        self._seen.clear()

    def content(
        self, size: ImageSize, limits: ImageLimits, max_bytes: int, decoder: FileDecoder
    ) -> SeedContent:
        """Make what a snapshot holds; blocks for some milliseconds an object.

        Args:
            size: Size of the frames.
            limits: What the frames were accepted by.
            max_bytes: Most bytes of all frames and masks; the oldest frames are left out first.
            decoder: Decodes frames that are to be made smaller.

        Raises:
            MaskwireError: `PAYLOAD_TOO_LARGE` where not even the last frame fits.
        """
        numbers = sorted(self._frames)
        encoded = {number: _compact(self._frames[number], limits, decoder) for number in numbers}
        masks = {
            object_id: EncodedRle(encode_rle(seen.logits.to_bitmap(size)), size)
            for object_id, seen in self._seen.items()
        }
        room = max_bytes - sum(len(mask.counts) for mask in masks.values())
        while numbers and sum(len(encoded[number]) for number in numbers) > room:
            numbers = numbers[1:]
        if self._frames and not numbers:
            raise MaskwireError(
                ErrorCode.PAYLOAD_TOO_LARGE,
                f"the session's frames and masks do not fit into a seed of {max_bytes} bytes",
            )
        objects = tuple(
            SnapshotObject(
                object_id,
                numbers.index(seen.frame),
                masks[object_id],
                seen.is_visible,
                seen.text,
                seen.confidence,
            )
            for object_id, seen in self._seen.items()
            if seen.frame in numbers
        )
        return SeedContent(tuple(encoded[number] for number in numbers), objects)

    def _drop_frames(self) -> None:
        latest = max(self._frames)
        needed = {seen.frame for seen in self._seen.values()} | {latest}
        for number in sorted(needed)[:-MAX_FRAMES]:
            needed.discard(number)
            self._seen = {key: seen for key, seen in self._seen.items() if seen.frame != number}
        self._frames = {number: self._frames[number] for number in needed}


def _compact(data: bytes, limits: ImageLimits, decoder: FileDecoder) -> bytes:
    if len(data) <= _LARGE_FRAME_BYTES:
        return data
    jpeg = encode_picture(decoder.image(data, limits), PictureFormat.JPEG, _JPEG_QUALITY)
    return min(data, jpeg, key=len)
