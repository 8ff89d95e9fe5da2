"""What becomes of texts that are asked together, again or beside other prompts of a video."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from maskwire_server.domain.concept_tracking import SoughtConcept
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.domain.tracking import ObjectSighting, TrackingLimits
from maskwire_server.engines.sam3 import Sam3Engine
from maskwire_server.engines.sam3.embedding import Sam3Embedding
from maskwire_server.engines.sam3.tracker import Sam3Tracker
from tests.support.sam3_scenes import Scene, draw_clip

FRAMES = 20
SIZE = ImageSize(width_px=200, height_px=160)
KINDS = (("red", "disc"), ("blue", "square"))
DISC, SQUARE = 0, 1
LONG = 31
"""Frames after which what is not seen is gone for long."""

Ask = Callable[..., list[ObjectSighting]]


@pytest.fixture(scope="module")
def clip() -> list[Scene]:
    """A red disc and a blue square that move slowly."""
    return draw_clip(
        np.random.default_rng(1), FRAMES, width=200, height=160, kinds=KINDS, speed=1.5
    )


@pytest.fixture(scope="module")
def embeddings(engine: Sam3Engine, clip: list[Scene]) -> list[Sam3Embedding]:
    return [engine.encode(scene.pixels) for scene in clip]


def tracking(
    engine: Sam3Engine, first: Sam3Embedding, *, most: int = 8, held: int = 1
) -> tuple[Sam3Tracker, Ask]:
    """A tracker that has a first frame, and what asks it for texts."""
    tracker = engine.new_tracker(SIZE, TrackingLimits(most, held))
    numbers = itertools.count(1)

    def ask(*texts: str | SoughtConcept) -> list[ObjectSighting]:
        sought = [SoughtConcept(one) if isinstance(one, str) else one for one in texts]
        return tracker.seek(sought, lambda: next(numbers))

    tracker.advance(0, first)
    return tracker, ask


def which(one: ObjectSighting, scene: Scene) -> int | None:
    """The shape that a mask shows, None for an empty one."""
    mask = one.logits.to_bitmap(SIZE)
    shared = [int((mask & shape.mask).sum()) for shape in scene.shapes]
    return int(np.argmax(shared)) if any(shared) else None


def a_box(scene: Scene, shape: int, object_id: int) -> ObjectPrompts:
    return ObjectPrompts(
        object_id,
        np.zeros((0, 2), np.float32),
        np.zeros(0, np.bool_),
        box=scene.shapes[shape].box,
        mask=None,
    )


def test_what_several_texts_find_is_one_object(engine, clip, embeddings):
    tracker, ask = tracking(engine, embeddings[0])
    found = ask("red disc", "red shape", "disc")
    assert [which(one, clip[0]) for one in found] == [DISC]
    for frame in range(1, FRAMES):
        seen = tracker.advance(frame, embeddings[frame])
        assert [(one.object_id, one.text) for one in seen] == [(1, found[0].text)]
        assert which(seen[0], clip[frame]) == DISC


def test_of_two_texts_the_more_confident_finds_an_object(engine, clip, embeddings):
    alone = {}
    for text in ("blue square", "shape"):
        _, ask = tracking(engine, embeddings[0])
        (square,) = (one for one in ask(text) if which(one, clip[0]) == SQUARE)
        assert square.confidence is not None
        alone[text] = square.confidence
    best = max(alone, key=lambda text: alone[text])
    assert alone[best] > min(alone.values())
    for texts in (("blue square", "shape"), ("shape", "blue square")):
        _, ask = tracking(engine, embeddings[0])
        found = {which(one, clip[0]): one for one in ask(*texts)}
        assert found.keys() == {DISC, SQUARE}
        assert found[SQUARE].text == best


def test_a_text_that_comes_later_finds_what_is_not_followed_yet(engine, clip, embeddings):
    tracker, ask = tracking(engine, embeddings[0])
    (disc,) = ask("red disc")
    seen = tracker.advance(1, embeddings[1])
    (square,) = ask("shape")
    assert which(square, clip[1]) == SQUARE
    assert [one.object_id for one in seen] == [disc.object_id]
    for frame in range(2, FRAMES):
        seen = tracker.advance(frame, embeddings[frame])
        assert [(one.object_id, one.text) for one in seen] == [(1, "red disc"), (2, "shape")]


def test_a_text_that_is_asked_again_finds_nothing_twice(engine, embeddings):
    tracker, ask = tracking(engine, embeddings[0])
    ask("red disc")
    tracker.stop_seeking()
    assert ask("red disc") == []
    tracker.advance(1, embeddings[1])
    tracker.stop_seeking()
    tracker.advance(2, embeddings[2])
    assert ask("red disc", "red shape") == []
    for frame in range(3, FRAMES):
        assert [one.object_id for one in tracker.advance(frame, embeddings[frame])] == [1]


def test_another_threshold_counts_in_the_same_frame(engine, clip, embeddings):
    tracker, ask = tracking(engine, embeddings[0])
    assert ask(SoughtConcept("red disc", 1.0)) == []
    (found,) = ask(SoughtConcept("red disc", 0.3, object_id=7))
    assert found.object_id == 7
    assert which(found, clip[0]) == DISC
    assert ask(SoughtConcept("red disc", 0.2)) == []
    assert [one.object_id for one in tracker.advance(1, embeddings[1])] == [7]


def test_the_id_of_a_text_goes_to_the_object_that_takes_it_first(engine, clip, embeddings):
    tracker, ask = tracking(engine, embeddings[0])
    assert ask(SoughtConcept("red disc", 1.0, object_id=7)) == []
    tracker.prompt(0, [a_box(clip[0], SQUARE, 7)], multimask=False)
    assert [one.object_id for one in tracker.sought] == [None], "or a seed contradicts itself"
    tracker.remove([7])
    (found,) = ask("red disc")
    assert found.object_id != 7, "an id never means two things"


def test_what_was_removed_leaves_its_place_to_others(engine, clip, embeddings):
    tracker, ask = tracking(engine, embeddings[0], most=1)
    (first,) = ask("shape")
    tracker.remove([first.object_id])
    later = [tracker.advance(frame, embeddings[frame]) for frame in range(1, 4)]
    assert [[one.object_id for one in seen] for seen in later] == [[2]] * 3
    assert which(later[0][0], clip[1]) != which(first, clip[0])


def test_what_is_removed_all_the_time_is_bounded(engine, embeddings):
    tracker, ask = tracking(engine, embeddings[0], most=1)
    ask("shape")
    for frame in range(1, FRAMES):
        tracker.remove(tracker.object_ids)
        tracker.advance(frame, embeddings[frame])
        assert len(tracker.object_ids) <= 1
        assert len(tracker._found_session.obj_ids) <= 2


def test_nothing_is_logged_in_every_frame_that_is_full(engine, embeddings, caplog, capfd):
    tracker, ask = tracking(engine, embeddings[0], most=1)
    assert len(ask("shape")) == 1
    for frame in range(1, 4):
        assert len(tracker.advance(frame, embeddings[frame])) == 1
    assert not caplog.records
    assert capfd.readouterr().err == ""


@pytest.fixture(scope="module")
def alone(engine: Sam3Engine, clip: list[Scene]) -> dict[int | None, Sam3Embedding]:
    """A frame with the disc alone, one with the square alone, and one with neither."""
    scene = clip[0]
    ground = np.median(scene.pixels.reshape(-1, 3), axis=0).astype(np.uint8)

    def only(shown: int | None) -> Sam3Embedding:
        pixels = scene.pixels.copy()
        for shape in (DISC, SQUARE):
            if shape != shown:
                pixels[scene.shapes[shape].mask] = ground
        return engine.encode(pixels)

    return {shown: only(shown) for shown in (DISC, SQUARE, None)}


def test_what_is_gone_for_long_leaves_its_place_to_what_comes(engine, clip, alone):
    tracker, ask = tracking(engine, alone[DISC], most=1)
    (disc,) = ask("red disc", "blue square")
    for frame in range(1, LONG):
        (seen,) = tracker.advance(frame, alone[None])
        assert seen.presence < 0.5
    (still,) = tracker.advance(LONG, alone[SQUARE])
    assert still.object_id == disc.object_id, "it might come back"
    (square,) = tracker.advance(LONG + 1, alone[SQUARE])
    assert square.object_id == disc.object_id + 1
    assert which(square, clip[0]) == SQUARE
    assert tracker.object_ids == (square.object_id,)


def test_what_comes_back_after_long_keeps_its_place(engine, clip, embeddings, alone):
    tracker, ask = tracking(engine, alone[DISC], most=1)
    (disc,) = ask("red disc", "blue square")
    for frame in range(1, LONG + 3):
        tracker.advance(frame, alone[None])
    (back,) = tracker.advance(LONG + 3, embeddings[0])
    assert back.object_id == disc.object_id
    assert which(back, clip[0]) == DISC


def test_a_text_that_is_told_takes_the_place_of_what_is_gone_for_long(engine, clip, alone):
    tracker, ask = tracking(engine, alone[DISC], most=1)
    ask("red disc")
    for frame in range(1, LONG + 3):
        tracker.advance(frame, alone[SQUARE])
    assert tracker.object_ids == (1,)
    (square,) = ask("blue square")
    assert which(square, clip[0]) == SQUARE
    assert tracker.object_ids == (square.object_id,)
