"""What came of a tracked video: its frames, how each object fared, and masks.json."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import coco
from .._video import VideoTrack
from ..sessions import ObjectState, TrackedMask
from ..videos import VideoFrame, VideoInfo, VideoSummary

__all__ = ["ObjectTrack", "TrackingRecord", "document"]


@dataclass(frozen=True, slots=True)
class ObjectTrack:
    """How an object fared.

    Attributes:
        object_id: The object.
        frames: Frames that say something about it.
        seen: Those of them in which it is seen.
        found_again: How often it was found again.
        lost_spans: First and last frame of each time that it was not seen.
        mean_score: Of its scores where it is seen; None where there is none.
    """

    object_id: int
    frames: int
    seen: int
    found_again: int
    lost_spans: tuple[tuple[int, int], ...]
    mean_score: float | None


@dataclass(slots=True)
class TrackingRecord:
    """The frames of a video that were tracked, with their masks still encoded.

    Its memory grows with the number of frames, by about a kilobyte for each mask.

    Attributes:
        video: What the server says about the video; None until it does.
        summary: The end of the answer; None where it did not come so far.
        frames: By their index; a frame that comes twice, as the one between two directions does,
            stays as it came first.
        seconds: From the call to the latest frame.
    """

    video: VideoInfo | None = None
    summary: VideoSummary | None = None
    frames: dict[int, VideoFrame] = field(default_factory=dict)
    seconds: float = 0.0

    def collect(self, track: VideoTrack) -> Iterator[VideoFrame]:
        """Keep the frames of a call as they come, and give each; keep its summary.

        Raises:
            MaskwireError: The call failed; what came before is kept.
        """
        start = time.monotonic()
        try:
            for frame in track:
                self.frames.setdefault(frame.frame_index, frame)
                self.seconds = time.monotonic() - start
                yield frame
        finally:
            self.summary = track.summary
            if self.frames:
                self.video = track.info

    @property
    def frames_per_second(self) -> float:
        """How fast the frames came."""
        return len(self.frames) / self.seconds if self.seconds > 0 else 0.0

    def in_order(self) -> list[VideoFrame]:
        """Return the frames in the order in which the video shows them."""
        return [self.frames[index] for index in sorted(self.frames)]

    def tracks(self) -> list[ObjectTrack]:
        """Return how each object fared, by their ids."""
        by_object: dict[int, list[tuple[int, TrackedMask]]] = {}
        for frame in self.in_order():
            for mask in frame.masks:
                by_object.setdefault(mask.object_id, []).append((frame.frame_index, mask))
        return [_track(object_id, by_object[object_id]) for object_id in sorted(by_object)]


def document(record: TrackingRecord, file_name: str) -> dict[str, Any]:
    """Return masks.json: a COCO document with an image for each frame, ready for `json.dump`.

    Each image has `frame_index` and `time_s` (seconds from the start of the video); each annotation
    has the `object_id`, which stays the same through all frames, the `state` (tracked, lost,
    found_again), the `score` (probability that the object is visible) and the `frame_index`. The
    mask of a lost object is empty. `videos` has one entry: size, frames, rate, digest, models.

    Raises:
        ValueError: A mask does not decode.
    """
    frames = record.in_order()
    masks = [(number, mask) for number, frame in enumerate(frames, start=1) for mask in frame.masks]
    return {
        "info": {"description": "Objects tracked by Maskwire"},
        "videos": [_video(record, file_name)],
        "images": [
            {
                "id": number,
                "video_id": 1,
                "file_name": f"{file_name}#{frame.frame_index}",
                "frame_index": frame.frame_index,
                "time_s": round(frame.time_s, 6),
                **_size(record),
            }
            for number, frame in enumerate(frames, start=1)
        ],
        "categories": [{"id": 1, "name": "object"}],
        "annotations": [
            {
                **coco.annotation(mask, number, image_id=image_id),
                "state": mask.state.value,
                "frame_index": frames[image_id - 1].frame_index,
            }
            for number, (image_id, mask) in enumerate(masks, start=1)
        ],
    }


def _track(object_id: int, sightings: Sequence[tuple[int, TrackedMask]]) -> ObjectTrack:
    spans: list[tuple[int, int]] = []
    was_lost = False
    for frame_index, mask in sightings:
        is_lost = mask.state is ObjectState.LOST
        if is_lost and was_lost:
            spans[-1] = (spans[-1][0], frame_index)
        elif is_lost:
            spans.append((frame_index, frame_index))
        was_lost = is_lost
    seen = [mask for _, mask in sightings if mask.state is not ObjectState.LOST]
    scores = [mask.score for mask in seen if mask.score is not None]
    return ObjectTrack(
        object_id=object_id,
        frames=len(sightings),
        seen=len(seen),
        found_again=sum(mask.state is ObjectState.FOUND_AGAIN for mask in seen),
        lost_spans=tuple(spans),
        mean_score=sum(scores) / len(scores) if scores else None,
    )


def _video(record: TrackingRecord, file_name: str) -> dict[str, Any]:
    values: dict[str, Any] = {"id": 1, "file_name": file_name, **_size(record)}
    if record.video is not None:
        values["frame_count"] = record.video.frame_count
        values["frames_per_second"] = record.video.frames_per_second
        values["digest"] = record.video.digest
    if record.summary is not None:
        info = record.summary.info
        values["models"] = [
            {"model": model.model, "checkpoint_digest": model.checkpoint_digest}
            for model in info.models
        ]
        values["request_id"] = info.request_id
    values["is_complete"] = record.summary is not None and record.summary.decode_error is None
    return values


def _size(record: TrackingRecord) -> dict[str, int]:
    if record.video is None:
        return {}
    size = record.video.size
    return {"width": size.width_px, "height": size.height_px}
