"""What every tracker promises, whatever network follows the objects."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from maskwire_server.domain.engine import ImageEmbedding
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.domain.tracking import (
    ObjectSighting,
    ObjectTracker,
    PromptedObject,
    TrackingEngine,
    TrackingLimits,
)
from maskwire_server.engines.sam3.embedding import Sam3Embedding
from tests.support.clips import make_clip
from tests.support.engines import Candidate

FRAMES = 8
SIZE = ImageSize(width_px=200, height_px=150)
CLIP = make_clip(5, FRAMES, SIZE, objects=2)
HELD = 3

NewTracker = Callable[..., ObjectTracker]


@pytest.fixture(scope="module")
def engine(candidate: Candidate) -> Iterator[TrackingEngine]:
    loaded = candidate.factory.load(candidate.specification)
    if not loaded.description.supports_video:
        loaded.close()
        pytest.skip("the engine does not track")
    assert isinstance(loaded, TrackingEngine)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def embeddings(engine: TrackingEngine) -> list[ImageEmbedding]:
    """The clip, encoded once: embeddings are never changed, so all tests may share them."""
    return [engine.encode(np.ascontiguousarray(frame)) for frame in CLIP.frames]


@pytest.fixture
def new_tracker(engine: TrackingEngine) -> Iterator[NewTracker]:
    made: list[ObjectTracker] = []

    def make(held_frames: int = HELD) -> ObjectTracker:
        made.append(
            engine.new_tracker(SIZE, TrackingLimits(max_objects=8, held_frames=held_frames))
        )
        return made[-1]

    yield make
    for tracker in made:
        tracker.close()


def said(
    object_id: int,
    *points: tuple[float, float, bool],
    box: Box | None = None,
    mask: NDArray[np.bool_] | MaskLogits | None = None,
) -> ObjectPrompts:
    return ObjectPrompts(
        object_id=object_id,
        points=np.array([point[:2] for point in points], dtype=np.float32).reshape(-1, 2),
        point_labels=np.array([point[2] for point in points], dtype=np.bool_),
        box=box,
        mask=mask,
    )


def click(object_id: int, frame: int = 0) -> ObjectPrompts:
    point = CLIP.click(object_id, frame)
    return said(object_id, (point.x, point.y, True))


def beyond(prompts: ObjectPrompts) -> ObjectPrompts:
    """The same prompts and one more click, on the background."""
    points = [
        (float(x), float(y), bool(label))
        for (x, y), label in zip(prompts.points, prompts.point_labels, strict=True)
    ]
    return said(prompts.object_id, *points, (3.0, 3.0, False), box=prompts.box)


def followed(
    tracker: ObjectTracker, embeddings: Sequence[ImageEmbedding], frames: Sequence[int]
) -> list[list[ObjectSighting]]:
    return [tracker.advance(frame, embeddings[frame % FRAMES]) for frame in frames]


def begin(tracker: ObjectTracker, embeddings: Sequence[ImageEmbedding], *ids: int) -> None:
    tracker.advance(0, embeddings[0])
    tracker.prompt(0, [click(object_id) for object_id in ids], multimask=False)


def assert_same(
    first: Sequence[Sequence[ObjectSighting]], second: Sequence[Sequence[ObjectSighting]]
) -> None:
    for ones, others in zip(first, second, strict=True):
        for one, other in zip(ones, others, strict=True):
            assert one.object_id == other.object_id
            assert one.presence == pytest.approx(other.presence, abs=1e-6)
            assert one.logits.window == other.logits.window
            np.testing.assert_allclose(one.logits.values, other.logits.values, atol=1e-4)


def differ(first: Sequence[ObjectSighting], second: Sequence[ObjectSighting]) -> bool:
    try:
        assert_same([first], [second])
    except AssertionError:
        return True
    return False


def held_of_earlier(embedding: ImageEmbedding) -> int:
    """Return the bytes to hold of a frame once another has come: SAM 3 needs a part of them."""
    if isinstance(embedding, Sam3Embedding):
        return embedding.without_concepts().size_bytes
    return embedding.size_bytes


def assert_well_formed(logits: MaskLogits) -> None:
    assert logits.values.dtype == np.float32
    assert np.isfinite(logits.values).all()
    assert logits.window.width > 0
    assert logits.window.height > 0
    assert logits.to_bitmap(SIZE).shape == (SIZE.height_px, SIZE.width_px)


def test_there_is_nothing_to_see_before_the_first_prompt(new_tracker, embeddings):
    tracker = new_tracker()
    assert tracker.object_ids == ()
    assert followed(tracker, embeddings, range(3)) == [[], [], []]
    earlier = sum(held_of_earlier(embedding) for embedding in embeddings[:2])
    assert tracker.size_bytes >= (earlier + embeddings[2].size_bytes) * 0.9


@pytest.mark.parametrize("multimask", [False, True], ids=["single", "multiple"])
def test_prompts_are_answered_in_their_order(engine, new_tracker, embeddings, multimask: bool):
    tracker = new_tracker()
    tracker.advance(0, embeddings[0])
    box = Box(20.0, 20.0, 150.5, 120.0)
    asked = [click(2), said(7, box=box), said(5, mask=CLIP.masks[0][1]), beyond(click(1))]
    answers = tracker.prompt(0, asked, multimask=multimask)

    assert [answer.object_id for answer in answers] == [2, 7, 5, 1]
    assert tracker.object_ids == (2, 7, 5, 1)
    for answer in answers:
        most = engine.description.masks_per_object if multimask else 1
        assert 1 <= len(answer.candidates) <= most
        assert 0.0 <= answer.presence <= 1.0
        for candidate in answer.candidates:
            assert_well_formed(candidate.logits)
            assert 0.0 <= candidate.predicted_iou <= 1.0


def test_every_object_is_sighted_in_every_frame_in_order(new_tracker, embeddings):
    tracker = new_tracker()
    begin(tracker, embeddings, 2)
    tracker.advance(1, embeddings[1])
    tracker.prompt(1, [click(1, 1)], multimask=False)
    for sightings in followed(tracker, embeddings, range(2, 6)):
        assert [sighting.object_id for sighting in sightings] == [2, 1]
        for sighting in sightings:
            assert_well_formed(sighting.logits)
            assert math.isfinite(sighting.presence)
            assert 0.0 <= sighting.presence <= 1.0


def test_the_same_frames_and_prompts_give_the_same_masks(new_tracker, embeddings):
    first, second = new_tracker(), new_tracker()
    begin(first, embeddings, 1, 2)
    begin(second, embeddings, 1, 2)
    one, other = followed(first, embeddings, range(1, 5)), followed(second, embeddings, range(1, 5))
    assert_same(one, other)


def test_trackers_that_take_turns_do_not_meet(new_tracker, embeddings):
    alone = new_tracker()
    begin(alone, embeddings, 1)
    expected = followed(alone, embeddings, range(1, 5))

    here, there = new_tracker(), new_tracker()
    begin(here, embeddings, 1)
    begin(there, embeddings[::-1], 2)
    seen = []
    for frame in range(1, 5):
        there.advance(frame, embeddings[-1 - frame])
        seen.append(here.advance(frame, embeddings[frame]))
        there.prompt(frame, [click(1), beyond(click(2))], multimask=True)
    there.reset()
    assert_same(seen, expected)


def test_still_images_are_answered_as_before(engine, new_tracker, embeddings):
    before = engine.decode(embeddings[0], [click(1)], multimask=True)
    tracker = new_tracker()
    begin(tracker, embeddings, 1, 2)
    followed(tracker, embeddings, range(1, 4))
    after = engine.decode(embeddings[0], [click(1)], multimask=True)
    for one, other in zip(before[0].candidates, after[0].candidates, strict=True):
        np.testing.assert_array_equal(one.logits.values, other.logits.values)


def test_the_tracker_goes_on_with_the_best_alternative(new_tracker, embeddings):
    tracker = new_tracker()
    tracker.advance(0, embeddings[0])
    (answer,) = tracker.prompt(0, [click(1)], multimask=True)
    other = new_tracker()
    other.advance(0, embeddings[0])
    (alone,) = other.prompt(0, [click(1)], multimask=False)
    if len(answer.candidates) > 1:
        best = max(candidate.predicted_iou for candidate in answer.candidates)
        assert answer.best.predicted_iou == best
    assert answer.best.predicted_iou >= alone.best.predicted_iou - 1e-6


def test_a_correction_changes_what_is_followed(new_tracker, embeddings):
    def run(corrected: bool) -> list[ObjectSighting]:
        tracker = new_tracker()
        begin(tracker, embeddings, 1)
        followed(tracker, embeddings, range(1, 3))
        if corrected:
            tracker.prompt(2, [said(1, box=Box(2.0, 2.0, 60.0, 50.0))], multimask=False)
        return tracker.advance(3, embeddings[3])

    assert differ(run(corrected=True), run(corrected=False))


def test_cleared_corrections_are_as_if_never_said(new_tracker, embeddings):
    plain, cleared = new_tracker(), new_tracker()
    for tracker in (plain, cleared):
        begin(tracker, embeddings, 1, 2)
        followed(tracker, embeddings, range(1, 3))
    cleared.prompt(2, [said(1, box=Box(2.0, 2.0, 60.0, 50.0))], multimask=False)
    cleared.clear_prompts([1, 99])
    assert_same(
        followed(cleared, embeddings, range(3, 5)), followed(plain, embeddings, range(3, 5))
    )


def test_an_object_that_began_keeps_its_mask_when_its_prompts_are_cleared(new_tracker, embeddings):
    plain, cleared = new_tracker(), new_tracker()
    begin(plain, embeddings, 1)
    begin(cleared, embeddings, 1)
    cleared.clear_prompts([1])
    assert cleared.object_ids == (1,)
    assert_same([cleared.advance(1, embeddings[1])], [plain.advance(1, embeddings[1])])


def test_prompts_after_clearing_start_anew(new_tracker, embeddings):
    def answer(tracker: ObjectTracker) -> PromptedObject:
        return tracker.prompt(0, [beyond(click(1))], multimask=False)[0]

    fresh, cleared = new_tracker(), new_tracker()
    fresh.advance(0, embeddings[0])
    begin(cleared, embeddings, 1)
    cleared.prompt(0, [said(1, box=Box(2.0, 2.0, 60.0, 50.0))], multimask=False)
    cleared.clear_prompts([1])
    np.testing.assert_allclose(
        answer(cleared).best.logits.values, answer(fresh).best.logits.values, atol=1e-5
    )


def test_removed_objects_are_gone_and_the_others_go_on(new_tracker, embeddings):
    tracker = new_tracker()
    begin(tracker, embeddings, 1, 2)
    tracker.advance(1, embeddings[1])
    tracker.remove([1, 99])
    assert tracker.object_ids == (2,)
    assert [sighting.object_id for sighting in tracker.advance(2, embeddings[2])] == [2]
    tracker.prompt(2, [click(1, 2)], multimask=False)
    assert tracker.object_ids == (2, 1)
    assert [sighting.object_id for sighting in tracker.advance(3, embeddings[3])] == [2, 1]
    tracker.remove([1, 2])
    assert tracker.advance(4, embeddings[4]) == []


def test_an_object_that_comes_back_under_its_id_is_a_new_one(new_tracker, embeddings):
    fresh, again = new_tracker(), new_tracker()
    for frame in range(3):
        fresh.advance(frame, embeddings[frame])
        again.advance(frame, embeddings[frame])
        if frame == 0:
            again.prompt(0, [click(2)], multimask=False)
    again.remove([2])
    for tracker in (fresh, again):
        tracker.prompt(2, [click(2, 2)], multimask=False)
    assert_same([again.advance(3, embeddings[3])], [fresh.advance(3, embeddings[3])])


def test_an_object_may_begin_on_an_earlier_frame_that_is_held(new_tracker, embeddings):
    late, early = new_tracker(), new_tracker()
    for frame in range(5):
        late.advance(frame, embeddings[frame])
        early.advance(frame, embeddings[frame])
        if frame == 2:
            (then,) = early.prompt(2, [click(1, 2)], multimask=False)
    (now,) = late.prompt(2, [click(1, 2)], multimask=False)
    np.testing.assert_allclose(now.best.logits.values, then.best.logits.values, atol=1e-5)
    assert_same(followed(late, embeddings, range(5, 7)), followed(early, embeddings, range(5, 7)))


def test_a_correction_on_an_earlier_frame_is_carried_to_the_latest(new_tracker, embeddings):
    late, early = new_tracker(), new_tracker()
    correction = said(1, box=Box(2.0, 2.0, 60.0, 50.0))
    for tracker in (late, early):
        begin(tracker, embeddings, 1, 2)
        followed(tracker, embeddings, range(1, 3))
    early.prompt(2, [correction], multimask=False)
    followed(early, embeddings, range(3, 5))
    followed(late, embeddings, range(3, 5))
    late.prompt(2, [correction], multimask=False)
    assert_same(followed(late, embeddings, range(5, 7)), followed(early, embeddings, range(5, 7)))


def test_every_held_frame_may_be_prompted(new_tracker, embeddings):
    tracker = new_tracker(held_frames=2)
    begin(tracker, embeddings, 1)
    followed(tracker, embeddings, range(1, 6))
    for frame in (3, 4, 5):
        (answer,) = tracker.prompt(frame, [click(1, frame)], multimask=False)
        assert_well_formed(answer.best.logits)


def test_logits_of_a_sighting_begin_an_object_elsewhere(new_tracker, embeddings):
    tracker = new_tracker()
    begin(tracker, embeddings, 1)
    (sighting,) = tracker.advance(1, embeddings[1])
    elsewhere = new_tracker()
    elsewhere.advance(0, embeddings[1])
    (answer,) = elsewhere.prompt(0, [said(1, mask=sighting.logits)], multimask=False)
    assert_well_formed(answer.best.logits)
    assert [found.object_id for found in elsewhere.advance(1, embeddings[2])] == [1]


def test_after_a_reset_it_is_as_new(new_tracker, embeddings):
    fresh, used = new_tracker(), new_tracker()
    begin(used, embeddings, 1, 2)
    followed(used, embeddings, range(1, 4))
    used.reset()
    assert used.object_ids == ()
    assert used.size_bytes <= fresh.size_bytes
    begin(used, embeddings, 2)
    begin(fresh, embeddings, 2)
    assert_same([used.advance(1, embeddings[1])], [fresh.advance(1, embeddings[1])])


def test_memory_does_not_grow_with_the_stream(new_tracker, embeddings):
    tracker = new_tracker(held_frames=2)
    begin(tracker, embeddings, 1)
    sizes = []
    for frame in range(1, 41):
        tracker.advance(frame, embeddings[frame % FRAMES])
        if frame % 7 == 0:
            tracker.prompt(frame, [click(1, frame % FRAMES)], multimask=False)
        sizes.append(tracker.size_bytes)
    assert max(sizes[24:]) <= max(sizes[:24]) * 1.02
    tracker.remove([1])
    assert tracker.size_bytes < sizes[-1]


def test_frames_that_are_no_longer_held_are_let_go(new_tracker, embeddings):
    few, many = new_tracker(held_frames=0), new_tracker(held_frames=5)
    followed(few, embeddings, range(4))
    followed(many, embeddings, range(8))
    before = few.size_bytes
    followed(few, embeddings, range(4, 8))
    one = max(held_of_earlier(embedding) for embedding in embeddings)
    assert few.size_bytes <= before * 1.02
    assert many.size_bytes - few.size_bytes >= one * 4.5
