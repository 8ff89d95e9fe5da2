"""Corrections of what texts found, and frames on which the device fails: nothing is half done."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from maskwire_server.domain.concept_tracking import SoughtConcept
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.domain.tracking import ObjectSighting, TrackingLimits
from maskwire_server.engines.sam3 import Sam3Engine
from maskwire_server.engines.sam3.embedding import Sam3Embedding
from maskwire_server.engines.sam3.tracker import Sam3Tracker
from tests.support.sam3_scenes import draw_clip

FRAMES = 20
SIZE = ImageSize(width_px=200, height_px=160)
KINDS = (("red", "disc"), ("blue", "square"))
CONFIRMED = 16
"""In every 16th frame what a detection confirms becomes a conditioning frame."""
FOUND, PROMPTED = 1, 9

NewTracker = Callable[[], Sam3Tracker]


@pytest.fixture(scope="module")
def embeddings(engine: Sam3Engine) -> list[Sam3Embedding]:
    clip = draw_clip(
        np.random.default_rng(1), FRAMES, width=200, height=160, kinds=KINDS, speed=1.5
    )
    return [engine.encode(scene.pixels) for scene in clip]


@pytest.fixture
def new_tracker(engine: Sam3Engine, embeddings: list[Sam3Embedding]) -> NewTracker:
    """Trackers that found the disc in the first frame, and hold two frames."""

    def make(most: int = 8) -> Sam3Tracker:
        tracker = engine.new_tracker(SIZE, TrackingLimits(most, held_frames=1))
        tracker.advance(0, embeddings[0])
        assert [one.object_id for one in seek(tracker, "red disc")] == [FOUND]
        return tracker

    return make


def seek(tracker: Sam3Tracker, *texts: str) -> list[ObjectSighting]:
    numbers = itertools.count(max(tracker.object_ids, default=0) + 1)
    return tracker.seek([SoughtConcept(text) for text in texts], lambda: next(numbers))


def boxed(object_id: int, box: Box) -> ObjectPrompts:
    return ObjectPrompts(
        object_id, np.zeros((0, 2), np.float32), np.zeros(0, np.bool_), box=box, mask=None
    )


ELSEWHERE = Box(4.0, 4.0, 60.0, 50.0)


def assert_same(ones: Sequence[ObjectSighting], others: Sequence[ObjectSighting]) -> None:
    for one, other in zip(ones, others, strict=True):
        assert (one.object_id, one.text) == (other.object_id, other.text)
        assert one.presence == pytest.approx(other.presence, abs=1e-5)
        np.testing.assert_allclose(one.logits.values, other.logits.values, atol=1e-3)


def assert_go_on_alike(
    one: Sam3Tracker, other: Sam3Tracker, embeddings: list[Sam3Embedding], frames: Sequence[int]
) -> None:
    for frame in frames:
        assert_same(one.advance(frame, embeddings[frame]), other.advance(frame, embeddings[frame]))


def is_confirmed(tracker: Sam3Tracker, frame: int) -> bool:
    session, internal_id = tracker._objects[FOUND]
    return frame in session.outputs(internal_id)["cond_frame_outputs"]


def test_a_cleared_correction_is_as_if_never_said_where_a_detection_confirmed(
    new_tracker, embeddings
):
    plain, cleared = new_tracker(), new_tracker()
    assert_go_on_alike(plain, cleared, embeddings, range(1, CONFIRMED + 1))
    assert is_confirmed(plain, CONFIRMED)
    cleared.prompt(CONFIRMED, [boxed(FOUND, ELSEWHERE)], multimask=False)
    cleared.clear_prompts([FOUND])
    assert is_confirmed(cleared, CONFIRMED)
    assert_go_on_alike(plain, cleared, embeddings, range(CONFIRMED + 1, FRAMES))


def test_a_correction_takes_the_place_of_what_a_detection_confirmed(new_tracker, embeddings):
    tracker = new_tracker()
    for frame in range(1, CONFIRMED + 1):
        tracker.advance(frame, embeddings[frame])
    assert is_confirmed(tracker, CONFIRMED)
    (answer,) = tracker.prompt(CONFIRMED, [boxed(FOUND, ELSEWHERE)], multimask=False)
    assert not is_confirmed(tracker, CONFIRMED), "what was wrong is attended to no more"
    session, internal_id = tracker._objects[FOUND]
    known = session.at(internal_id, CONFIRMED)
    assert known is not None
    np.testing.assert_allclose(known["pred_masks"][0, 0], answer.best.logits.values, atol=1e-5)


def test_a_correction_before_a_confirmed_frame_is_carried_through_it(new_tracker, embeddings):
    tracker = new_tracker()
    for frame in range(1, CONFIRMED + 1):
        tracker.advance(frame, embeddings[frame])
    tracker.prompt(CONFIRMED - 1, [boxed(FOUND, ELSEWHERE)], multimask=False)
    assert not is_confirmed(tracker, CONFIRMED)


def test_a_text_that_is_asked_after_a_correction_leaves_it(new_tracker, embeddings):
    before, after = new_tracker(), new_tracker()
    for tracker in (before, after):
        tracker.advance(1, embeddings[1])
    seek(before, "shape")
    for tracker in (before, after):
        tracker.prompt(1, [boxed(FOUND, ELSEWHERE)], multimask=False)
    assert seek(after, "shape")
    assert before.object_ids == after.object_ids
    assert_go_on_alike(before, after, embeddings, range(2, 6))


@contextmanager
def out_of_memory(module: torch.nn.Module, at_call: int) -> Iterator[None]:
    """Let one of a module's calls fail as a device that has no memory left does."""
    calls = itertools.count(1)

    def fail(*_: object) -> None:
        if next(calls) == at_call:
            raise torch.OutOfMemoryError("out of memory")

    hook = module.register_forward_pre_hook(fail)
    try:
        yield
    finally:
        hook.remove()


def refused(ask: Callable[[], object]) -> None:
    with pytest.raises(MaskwireError) as caught:
        ask()
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE


# The detector comes first; then what prompts began is followed and remembered, then what texts
# found; what begins is remembered with all others once more.
@pytest.mark.parametrize(
    ("part", "at_call"),
    [("detr_decoder", 1), ("memory_attention", 1), ("memory_attention", 2)]
    + [("memory_encoder", call) for call in (1, 2, 3)],
)
@pytest.mark.parametrize("frame", [3, CONFIRMED])
def test_a_frame_on_which_the_device_fails_may_come_again(
    engine, new_tracker, embeddings, part, at_call, frame
):
    plain, failing = new_tracker(most=2), new_tracker(most=2)
    for tracker in (plain, failing):
        tracker.prompt(0, [boxed(PROMPTED, ELSEWHERE)], multimask=False)
        assert seek(tracker, "shape") == [], "there is no room"
        for earlier in range(1, frame):
            tracker.advance(earlier, embeddings[earlier])
        tracker.remove([FOUND])
    network = engine._network
    module = {
        "detr_decoder": network.detector.detr_decoder,
        "memory_attention": network.tracker.memory_attention,
        "memory_encoder": network.tracker.memory_encoder,
    }[part]
    held = failing.size_bytes
    with out_of_memory(module, at_call):
        refused(lambda: failing.advance(frame, embeddings[frame]))
    assert failing.size_bytes == held
    assert failing.object_ids == plain.object_ids == (PROMPTED,)
    assert_go_on_alike(plain, failing, embeddings, range(frame, frame + 4))
    assert len(failing.object_ids) == 2, "something must have begun in the frame"


@pytest.mark.parametrize("part", ["detr_decoder", "memory_encoder"])
def test_a_text_on_which_the_device_fails_is_not_looked_for(engine, new_tracker, embeddings, part):
    plain, failing = new_tracker(), new_tracker()
    network = engine._network
    owner = network.detector if part == "detr_decoder" else network.tracker
    with out_of_memory(getattr(owner, part), 1):
        refused(lambda: seek(failing, "shape"))
    assert [one.text for one in failing.sought] == ["red disc"]
    assert failing.object_ids == plain.object_ids
    assert_go_on_alike(plain, failing, embeddings, range(1, 4))
    assert [one.text for one in seek(failing, "shape")] == ["shape"]


def test_a_text_that_is_too_long_changes_nothing(new_tracker, embeddings):
    plain, refusing = new_tracker(), new_tracker()
    with pytest.raises(MaskwireError) as caught:
        seek(refusing, "shape", "a very long name of a thing that nobody reads")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert [one.text for one in refusing.sought] == ["red disc"]
    assert_go_on_alike(plain, refusing, embeddings, range(1, 4))


def test_a_correction_on_which_the_device_fails_changes_nothing(engine, new_tracker, embeddings):
    plain, failing = new_tracker(), new_tracker()
    for tracker in (plain, failing):
        tracker.advance(1, embeddings[1])
    with out_of_memory(engine._network.tracker.memory_encoder, 2):
        asked = [boxed(FOUND, ELSEWHERE), boxed(PROMPTED, ELSEWHERE)]
        refused(lambda: failing.prompt(1, asked, multimask=False))
    assert failing.object_ids == plain.object_ids
    assert_go_on_alike(plain, failing, embeddings, range(2, 5))
