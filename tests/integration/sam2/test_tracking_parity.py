"""The SAM 2 tracker against the `sam2` package's own video predictor, on the same checkpoints.

Upstream holds the whole clip and everything it ever computed; the tracker holds what it may.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from maskwire_server.domain.engine import ModelSpecification
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.domain.tracking import ObjectTracker, TrackingEngine, TrackingLimits
from maskwire_server.engines.sam2 import Sam2Engine, Sam2EngineFactory
from tests.support.clips import make_clip
from tests.support.sam2_checkpoints import Sam2Files
from tests.support.sam2_upstream import UpstreamMask, UpstreamVideo

MASK_IOU, LOGIT_TOLERANCE, SCORE_TOLERANCE = 0.999, 2e-5, 1e-5
SIZE = ImageSize(width_px=320, height_px=240)


def clicks(object_id: int, *points: tuple[float, float, int]) -> ObjectPrompts:
    coordinates = np.array([point[:2] for point in points], dtype=np.float32)
    labels = np.array([point[2] == 1 for point in points])
    return ObjectPrompts(object_id, coordinates, labels, box=None, mask=None)


def only(object_id: int, *, box: Box | None = None, mask: NDArray[np.bool_] | None = None):
    return ObjectPrompts(
        object_id, np.zeros((0, 2), np.float32), np.zeros(0, np.bool_), box=box, mask=mask
    )


def disc(x: float, y: float, radius: float) -> NDArray[np.bool_]:
    rows, columns = np.ogrid[: SIZE.height_px, : SIZE.width_px]
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2 < radius**2)


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float((first & second).sum() / (first | second).sum())


@dataclass
class Pair:
    """Our tracker and upstream's predictor on the same clip, compared at every step."""

    engine: TrackingEngine
    tracker: ObjectTracker
    upstream: UpstreamVideo
    frames: list[NDArray[np.uint8]]
    next_frame: int = 0
    worst: float = 0.0
    overlaps: list[float] = field(default_factory=list)

    def follow(self) -> None:
        """Take the next frame on both sides."""
        frame = self.next_frame
        sightings = self.tracker.advance(frame, self.engine.encode(self.frames[frame]))
        expected = self.upstream.follow(frame) if sightings else {}
        assert [sighting.object_id for sighting in sightings] == list(expected)
        for sighting in sightings:
            self.compare(sighting.logits, sighting.presence, expected[sighting.object_id])
        if len(sightings) > 1:
            first, second, *_ = (sighting.logits.to_bitmap(SIZE) for sighting in sightings)
            self.overlaps.append(iou(first, second))
        self.next_frame += 1

    def prompt(self, prompts: ObjectPrompts, frame: int | None = None) -> None:
        """Say the same to both sides, about the latest frame or an earlier one."""
        frame = self.next_frame - 1 if frame is None else frame
        (answer,) = self.tracker.prompt(frame, [prompts], multimask=False)
        assert len(answer.candidates) == 1
        self.compare(answer.best.logits, answer.presence, self.upstream.prompt(frame, prompts))

    def remove(self, object_id: int) -> None:
        self.tracker.remove([object_id])
        self.upstream.remove(object_id)

    def compare(self, logits: MaskLogits, presence: float, expected: UpstreamMask) -> None:
        assert 0.005 < expected.bitmap.mean() < 0.995, "an empty or full mask would compare nothing"
        assert iou(logits.to_bitmap(SIZE), expected.bitmap) >= MASK_IOU
        difference = float(np.abs(logits.values - expected.logits).max())
        self.worst = max(self.worst, difference)
        assert difference < LOGIT_TOLERANCE
        assert presence == pytest.approx(expected.presence, abs=SCORE_TOLERANCE)


@pytest.fixture
def new_pair(request: pytest.FixtureRequest) -> Callable[..., Pair]:
    def make(files: Sam2Files, frames: int, held_frames: int = 0) -> Pair:
        engine = load(files)
        request.addfinalizer(engine.close)
        pixels = [np.ascontiguousarray(frame) for frame in make_clip(3, frames, SIZE).frames]
        tracker = engine.new_tracker(SIZE, TrackingLimits(8, held_frames))
        return Pair(engine, tracker, UpstreamVideo(files, pixels), pixels)

    return make


def load(files: Sam2Files, precision: str = "fp32") -> Sam2Engine:
    return Sam2EngineFactory().load(
        ModelSpecification(
            "own", "sam2", files.checkpoint, files.config, device="cpu", precision=precision
        )
    )


def play(pair: Pair, *, frames: int, begin: int, correct: int, remove: int) -> None:
    """Two objects, the second begun later and corrected, the first removed before the end."""
    while pair.next_frame < frames:
        pair.follow()
        frame = pair.next_frame - 1
        if frame == 0:
            pair.prompt(clicks(1, (150, 100, 1)))
        if frame == begin:
            pair.prompt(only(2, box=Box(60.0, 40.0, 160.5, 150.0)))
        if frame == correct:
            pair.prompt(clicks(2, (120, 90, 1)))
            pair.prompt(clicks(2, (120, 90, 1), (30, 30, 0)))
        if frame == remove:
            pair.remove(1)
    assert pair.tracker.object_ids == (2,)
    assert min(pair.overlaps) < 0.99, "objects that look the same would compare one with itself"
    print(f"largest difference of logits: {pair.worst:.2e}; overlaps from {min(pair.overlaps):.3f}")


def test_48_frames_equal_upstreams(new_pair, small_sam2: Sam2Files):
    play(new_pair(small_sam2, 48), frames=48, begin=10, correct=20, remove=30)


@pytest.mark.timeout(900)
def test_the_published_architecture_equals_upstreams(new_pair, official_tiny_sam2: Sam2Files):
    play(new_pair(official_tiny_sam2, 3), frames=3, begin=1, correct=2, remove=2)


@pytest.mark.robustness
@pytest.mark.timeout(7200)
def test_48_frames_of_the_published_architecture(new_pair, official_tiny_sam2: Sam2Files):
    play(new_pair(official_tiny_sam2, 48), frames=48, begin=10, correct=20, remove=30)


def test_prompts_of_every_kind_equal_upstreams(new_pair, small_sam2: Sam2Files):
    pair = new_pair(small_sam2, 5)
    pair.follow()
    pair.prompt(clicks(1, (150, 100, 1)))
    pair.prompt(clicks(1, (150, 100, 1), (180, 140, 0)))
    pair.prompt(only(2, box=Box(60.0, 40.0, 160.5, 150.0)))
    pair.prompt(only(3, mask=disc(200, 90, 45)))
    pair.follow()
    pair.prompt(only(1, mask=disc(100, 90, 60)))
    pair.prompt(only(2, box=Box(70.0, 30.0, 170.0, 140.0)))
    pair.follow()
    pair.prompt(clicks(3, (210, 100, 1), (170, 60, 0), (220, 80, 1)))
    pair.follow()
    pair.follow()


def test_a_correction_on_an_earlier_frame_equals_upstreams(new_pair, small_sam2: Sam2Files):
    pair = new_pair(small_sam2, 12, held_frames=4)
    pair.follow()
    pair.prompt(clicks(1, (150, 100, 1)))
    pair.prompt(only(2, box=Box(60.0, 40.0, 160.5, 150.0)))
    for _ in range(9):
        pair.follow()
    pair.prompt(clicks(1, (120, 90, 0)), frame=6)
    # Upstream follows again what came after; starting with the frame itself would undo the click.
    expected = pair.upstream.follow(7, frames=3)
    assert set(expected) == {1, 2}
    pair.follow()
    pair.follow()
