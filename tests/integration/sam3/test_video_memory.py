"""What a SAM 3 tracker keeps of a stream in which objects are found and dropped all the time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from maskwire_server.domain.concept_tracking import SoughtConcept
from maskwire_server.domain.engine import ModelSpecification
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.domain.tracking import TrackingLimits
from maskwire_server.engines.sam3 import Sam3Engine, Sam3EngineFactory
from maskwire_server.engines.sam3.tracker import Sam3Tracker
from tests.support import sam3_wide
from tests.support.sam3_scenes import draw_clip

SIZE = ImageSize(width_px=200, height_px=160)
MAX_OBJECTS = 5
MOST_FRAMES_KEPT = 8 + 17


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sam3Engine]:
    folder = sam3_wide.write(
        tmp_path_factory.mktemp("sam3-wide"), score_threshold_detection=0.2, new_det_thresh=0.22
    )
    loaded = Sam3EngineFactory().load(ModelSpecification("wide", "sam3", folder, device="cpu"))
    yield loaded
    loaded.close()


def test_what_is_kept_is_bounded(engine: Sam3Engine):
    followed(engine, 60)


def test_of_earlier_frames_only_what_prompts_read_is_held(engine: Sam3Engine):
    held_frames = 3
    clip = draw_clip(np.random.default_rng(4), held_frames + 3, width=200, height=160, speed=5.0)
    tracker = engine.new_tracker(SIZE, TrackingLimits(MAX_OBJECTS, held_frames))
    sizes = []
    for frame, scene in enumerate(clip):
        embedding = engine.encode(scene.pixels)
        tracker.advance(frame, embedding)
        sizes.append(tracker.size_bytes)
    own = sum(level.untyped_storage().nbytes() for level in embedding.tracker_levels)
    assert own < 0.4 * embedding.size_bytes
    expected = [embedding.size_bytes + min(frame, held_frames) * own for frame in range(len(clip))]
    assert sizes == expected
    point = np.array([[100.0, 80.0]], np.float32)
    click = ObjectPrompts(1, point, np.array([True]), None, None)
    oldest = len(clip) - 1 - held_frames
    (answer,) = tracker.prompt(oldest, [click], multimask=True)
    (alone,) = engine.decode(engine.encode(clip[oldest].pixels), [click], multimask=True)
    for one, other in zip(answer.candidates, alone.candidates, strict=True):
        np.testing.assert_allclose(one.logits.values, other.logits.values, atol=1e-4)


@pytest.mark.robustness
@pytest.mark.timeout(1800)
def test_what_is_kept_after_500_frames(engine: Sam3Engine):
    sizes = followed(engine, 500)
    # After 16 · 8 frames an object has all the conditioning frames that it may have.
    early, late = max(sizes[150:300]), max(sizes[350:])
    print(f"held at most: {early} bytes in frames 150-299, {late} in 350-499")
    assert late <= early * 1.02


def followed(engine: Sam3Engine, frames: int) -> list[int]:
    """Look for a text in a clip that goes round; return what is held after each frame."""
    clip = draw_clip(np.random.default_rng(3), 12, width=200, height=160, speed=5.0)
    embeddings = [engine.encode(scene.pixels) for scene in clip]
    tracker = engine.new_tracker(SIZE, TrackingLimits(MAX_OBJECTS, held_frames=1))
    numbers = itertools.count(1)
    sizes = []
    given: set[int] = set()
    for frame in range(frames):
        tracker.advance(frame, embeddings[frame % len(embeddings)])
        if frame == 0:
            tracker.seek([SoughtConcept("red disc")], lambda: next(numbers))
        given |= set(tracker.object_ids)
        check_bounds(tracker)
        sizes.append(tracker.size_bytes)
    assert len(given) > MAX_OBJECTS, "objects must have been dropped and others found"
    return sizes


def check_bounds(tracker: Sam3Tracker) -> None:
    assert len(tracker.object_ids) <= MAX_OBJECTS
    session = tracker._found_session
    for name, table in vars(session).items():
        if isinstance(table, dict | list | set) and name != "prompts":
            assert len(table) <= MAX_OBJECTS**2, name
    for frames in (
        *session.unmatched_frame_inds.values(),
        *session.overlap_pair_to_frame_inds.values(),
    ):
        assert len(frames) <= 8
    for kept in session.output_dict_per_obj.values():
        assert sum(map(len, kept.values())) <= MOST_FRAMES_KEPT
