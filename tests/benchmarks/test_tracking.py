"""What following objects costs: the SAM 2 tracker beside upstream's video predictor, in one run.

Both follow the same objects through the same frames in turn, and both find the frames encoded, so
that only tracking is timed. No time is ever a pass or a failure; the assertions say only that both
did the same work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from maskwire_server.domain.engine import ModelSpecification
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.domain.tracking import ObjectSighting, TrackingLimits
from maskwire_server.engines.sam2 import Sam2Engine, Sam2EngineFactory
from tests.benchmarks.measuring import measure_in_turn, report, summarize
from tests.support.clips import make_clip
from tests.support.sam2_checkpoints import Sam2Files, build_official_tiny, build_small
from tests.support.sam2_upstream import UpstreamMask, UpstreamVideo

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

SIZE = ImageSize(width_px=320, height_px=240)
FILL = 8
"""Frames until the network attends to as many memories as it ever does; not timed."""


def _click(object_id: int, x: float, y: float) -> ObjectPrompts:
    point = np.array([[x, y]], dtype=np.float32)
    return ObjectPrompts(object_id, point, np.array([True]), box=None, mask=None)


def _load(files: Sam2Files) -> Sam2Engine:
    return Sam2EngineFactory().load(
        ModelSpecification("own", "sam2", files.checkpoint, files.config, device="cpu")
    )


@pytest.mark.parametrize("objects", [1, 4, 8])
@pytest.mark.parametrize(
    ("name", "build", "frames"),
    [("small-512", build_small, 24), ("official-tiny-1024", build_official_tiny, 12)],
)
def test_following(
    name: str, build: Callable[[Path], Sam2Files], frames: int, objects: int, tmp_path: Path
) -> None:
    files = build(tmp_path)
    engine = _load(files)
    clip = [np.ascontiguousarray(frame) for frame in make_clip(3, frames, SIZE).frames]
    upstream = UpstreamVideo(files, clip)
    tracker = engine.new_tracker(SIZE, TrackingLimits(objects, held_frames=0))
    tracker.advance(0, engine.encode(clip[0]))
    for object_id in range(1, objects + 1):
        said = _click(object_id, 30.0 * object_id, 25.0 * object_id)
        tracker.prompt(0, [said], multimask=False)
        upstream.prompt(0, said)

    seconds: dict[str, list[float]] = {"SAM2VideoPredictor": [], "Sam2Tracker": []}
    for frame in range(1, frames):
        embedding = engine.encode(clip[frame])
        upstream.encode(frame)
        started = time.perf_counter()
        expected = upstream.follow(frame)
        halfway = time.perf_counter()
        sightings = tracker.advance(frame, embedding)
        ended = time.perf_counter()
        _assert_same(sightings, expected)
        if frame > FILL:
            seconds["SAM2VideoPredictor"].append(halfway - started)
            seconds["Sam2Tracker"].append(ended - halfway)
    rows = {side: summarize(series) for side, series in seconds.items()}
    ratio = rows["Sam2Tracker"].p50_ms / rows["SAM2VideoPredictor"].p50_ms
    held = f"{tracker.size_bytes / 2**20:.1f} MiB, whatever the clip's length"
    report(
        f"{name}: {objects} objects followed into a frame",
        rows,
        {"tracker / upstream, medians": f"{ratio:.2f}", "tracker holds": held},
    )
    engine.close()


def test_prompting_a_still_image(small_sam2: Sam2Files) -> None:
    engine = _load(small_sam2)
    (frame,) = make_clip(3, 1, SIZE).frames
    embedding = engine.encode(np.ascontiguousarray(frame))
    tracker = engine.new_tracker(SIZE, TrackingLimits(1, held_frames=0))
    tracker.advance(0, embedding)

    def said(number: int) -> ObjectPrompts:
        return _click(1, 20.0 + number % 200, 100.0)

    def anew(number: int) -> None:
        tracker.clear_prompts([1])
        tracker.prompt(0, [said(number)], multimask=False)

    rows = measure_in_turn(
        {
            "decode": lambda number: engine.decode(embedding, [said(number)], multimask=False),
            "prompt, anew": anew,
            # The earlier answer goes in with the click, as a mask prompt that decode is not given.
            "prompt, again": lambda number: tracker.prompt(0, [said(number)], multimask=False),
        },
        rounds=100,
        warm_up=5,
    )
    extra = rows["prompt, anew"].p50_ms - rows["decode"].p50_ms
    report("small-512: a click", rows, {"prompt beyond decode, medians": f"{extra:.2f} ms"})
    engine.close()


def _assert_same(sightings: list[ObjectSighting], expected: dict[int, UpstreamMask]) -> None:
    assert [sighting.object_id for sighting in sightings] == list(expected)
    for sighting in sightings:
        bitmap, other = sighting.logits.to_bitmap(SIZE), expected[sighting.object_id].bitmap
        assert np.mean(bitmap == other) > 0.99
