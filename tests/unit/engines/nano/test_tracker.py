"""Tracking with the weights that ship: following, losing, finding again, and what it holds."""

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from maskwire_server.domain.engine import ModelSpecification
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.domain.tracking import ObjectSighting, ObjectTracker, TrackingLimits
from maskwire_server.engines.device import resolve
from maskwire_server.engines.nano import NanoEngine, NanoEngineFactory
from maskwire_server.engines.nano.embedding import NanoEmbedding
from maskwire_server.engines.nano.network import NanoNetwork
from maskwire_server.engines.nano.predictor import NanoPredictor
from maskwire_server.engines.nano.tracker import NanoTracker
from tests.support.clips import Clip, make_clip
from tests.support.cutouts import coins, photograph, shipped_cutouts

NO_POINTS = (np.empty((0, 2), np.float32), np.empty(0, np.bool_))
CUP = shipped_cutouts()[1]
Frames = list[dict[int, ObjectSighting]]


@pytest.fixture(scope="module")
def engine() -> NanoEngine:
    return NanoEngineFactory().load(ModelSpecification("maskwire-nano", "nano", device="cpu"))


def _tracker(engine: NanoEngine, size: ImageSize, held: int = 0) -> ObjectTracker:
    return engine.new_tracker(size, TrackingLimits(max_objects=4, held_frames=held))


def _masked(object_id: int, mask: NDArray[np.bool_]) -> ObjectPrompts:
    return ObjectPrompts(object_id, *NO_POINTS, None, mask)


def _follow(engine: NanoEngine, clip: Clip, *, by: str = "mask") -> Frames:
    """Prompt every object in frame 0 and follow it; what was seen in frames 1 and on."""
    tracker = _tracker(engine, clip.size)
    tracker.advance(0, engine.encode(clip.frames[0]))
    said = []
    for object_id, mask in clip.masks[0].items():
        point = clip.click(object_id)
        clicked = (np.array([[point.x, point.y]], np.float32), np.array([True]))
        said.append(
            _masked(object_id, mask)
            if by == "mask"
            else ObjectPrompts(object_id, *clicked, None, None)
        )
    tracker.prompt(0, said, multimask=False)
    return [
        {one.object_id: one for one in tracker.advance(number, engine.encode(frame))}
        for number, frame in enumerate(clip.frames[1:], start=1)
    ]


def _shown(sighting: ObjectSighting, size: ImageSize) -> NDArray[np.bool_]:
    shown = sighting.logits.to_bitmap(size)
    return shown if sighting.presence >= 0.5 else np.zeros_like(shown)


def _ious(frames: Frames, clip: Clip, object_id: int, other_id: int | None = None) -> list[float]:
    """IoU of an object's masks with its own truth, or with that of another, where it is visible."""
    found = []
    for sightings, masks in zip(frames, clip.masks[1:], strict=True):
        truth = masks[object_id if other_id is None else other_id]
        if truth.any():
            shown = _shown(sightings[object_id], clip.size)
            found.append(float((shown & truth).sum() / (shown | truth).sum()))
    return found


def _jump(clip: Clip, step: int) -> Clip:
    """Every n-th frame of a clip: the same way in fewer and wider steps."""
    return Clip(clip.frames[::step], clip.masks[::step], clip.size)


def test_the_window_follows_an_object_across_the_picture(engine: NanoEngine) -> None:
    clip = _jump(make_clip(5, frames=48, cutouts=[CUP]), 4)
    frames = _follow(engine, clip)
    assert np.mean(_ious(frames, clip, 1)) > 0.8
    windows = [sightings[1].logits.window for sightings in frames]
    assert max(w.x_min for w in windows) - min(w.x_min for w in windows) > 30
    for window, masks in zip(windows, clip.masks[1:], strict=True):
        rows, columns = np.nonzero(masks[1])
        assert window.x_min <= columns.mean() <= window.x_max
        assert window.y_min <= rows.mean() <= window.y_max


def test_a_click_is_enough_to_follow(engine: NanoEngine) -> None:
    # A click may mean a part: one clip says little (0.16 to 0.93), sixteen say more.
    found = []
    for number in (1, 3, 5, 6):
        for seed in (41, 42, 43, 44):
            clip = make_clip(seed, frames=7, cutouts=[shipped_cutouts()[number]])
            found += _ious(_follow(engine, clip, by="click"), clip, 1)
    assert np.mean(found) > 0.6


@pytest.mark.parametrize("leaving", [False, True], ids=["covered", "outside"])
def test_an_object_that_vanishes_is_lost_and_found_again(engine: NanoEngine, leaving: bool) -> None:
    clip = make_clip(204, frames=32, cutouts=[CUP], occlusion=not leaving, leaving=leaving)
    hidden = clip.hidden_frames(1)
    assert len(hidden) >= 4
    frames = _follow(engine, clip)
    middle = frames[hidden[len(hidden) // 2] - 1]
    assert middle[1].presence < 0.5
    assert np.mean(_ious(frames[:8], Clip(clip.frames[:9], clip.masks[:9], clip.size), 1)) > 0.8
    after = slice(hidden[-1] + 4, None)
    rest = Clip(clip.frames[hidden[-1] + 4 :], clip.masks[hidden[-1] + 4 :], clip.size)
    assert all(sightings[1].presence >= 0.5 for sightings in frames[after])
    assert np.mean(_ious(frames[after], rest, 1)) > 0.8


def test_objects_that_look_alike_do_not_swap(engine: NanoEngine) -> None:
    """Two coins go past each other, one above the other, without touching."""
    pair, background = coins(2), cv2.resize(photograph("coffee"), (320, 240)).astype(np.uint8)
    clip = _passing(pair[0].pixels, pair[1].pixels, background)
    frames = _follow(engine, clip)
    for object_id, other_id in ((1, 2), (2, 1)):
        assert np.mean(_ious(frames, clip, object_id)) > 0.9
        assert max(_ious(frames, clip, object_id, other_id)) < 0.1


def _passing(
    first: NDArray[np.uint8], second: NDArray[np.uint8], background: NDArray[np.uint8]
) -> Clip:
    clip = Clip([], [])
    for step in range(16):
        frame, masks = background.copy(), {}
        places = ((40 + 14 * step, 90, first), (250 - 14 * step, 150, second))
        for object_id, (x, y, pixels) in enumerate(places, start=1):
            rows, columns = np.mgrid[: frame.shape[0], : frame.shape[1]]
            inside = (rows - y) ** 2 + (columns - x) ** 2 <= 20**2
            down, across = rows[inside] - y + 20, columns[inside] - x + 20
            frame[inside] = pixels[
                np.minimum(down, len(pixels) - 1), np.minimum(across, pixels.shape[1] - 1)
            ]
            masks[object_id] = inside
        clip.frames.append(frame)
        clip.masks.append(masks)
    return clip


def test_a_mask_that_is_given_begins_the_object_as_it_is(engine: NanoEngine) -> None:
    clip = make_clip(7, frames=1)
    tracker = _tracker(engine, clip.size)
    tracker.advance(0, engine.encode(clip.frames[0]))
    (answer,) = tracker.prompt(0, [_masked(1, clip.masks[0][1])], multimask=False)
    shown = answer.best.logits.to_bitmap(clip.size)
    truth = clip.masks[0][1]
    assert (shown & truth).sum() / (shown | truth).sum() > 0.95
    assert answer.presence == 1.0


def test_an_empty_mask_is_an_object_that_is_not_seen(engine: NanoEngine) -> None:
    clip = make_clip(7, frames=2)
    tracker = _tracker(engine, clip.size)
    tracker.advance(0, engine.encode(clip.frames[0]))
    nothing = np.zeros_like(clip.masks[0][1])
    (answer,) = tracker.prompt(0, [_masked(1, nothing)], multimask=False)
    assert answer.presence == 0.0
    (sighting,) = tracker.advance(1, engine.encode(clip.frames[1]))
    assert sighting.presence == 0.0
    tracker.prompt(1, [_masked(1, clip.masks[1][1])], multimask=False)
    assert tracker.object_ids == (1,)


def test_two_runs_are_equal_to_the_bit(engine: NanoEngine) -> None:
    clip = make_clip(12, frames=6, objects=2)
    for one, other in zip(_follow(engine, clip), _follow(engine, clip), strict=True):
        for object_id in one:
            assert one[object_id].presence == other[object_id].presence
            assert np.array_equal(one[object_id].logits.values, other[object_id].logits.values)


def test_memory_is_bounded_over_hundreds_of_frames() -> None:
    size, held = ImageSize(64, 48), 3
    torch.manual_seed(0)
    network = NanoNetwork(widths=(8, 8, 8, 8, 8), depths=(1, 1, 1, 1, 1))
    predictor = NanoPredictor(network, resolve("cpu", "fp32"))
    tracker = NanoTracker(predictor, "small", TrackingLimits(max_objects=1, held_frames=held))
    clip = make_clip(8, frames=10, size=size)
    sizes = _sizes(tracker, clip.frames + clip.frames[::-1], 500)
    frame_bytes = clip.frames[0].nbytes * 4 // 3
    track_bytes = 2 * 128 * 128 * 4 + 2 * 2048 * 4 + frame_bytes
    assert max(sizes) <= (held + 1) * (frame_bytes + 2 * track_bytes)
    assert max(sizes[250:]) <= 1.05 * max(sizes[:250])


def _sizes(tracker: ObjectTracker, frames: Sequence[NDArray[np.uint8]], count: int) -> list[int]:
    height, width = frames[0].shape[:2]
    sizes = []
    for number in range(count):
        pixels = frames[number % len(frames)]
        tracker.advance(number, NanoEmbedding(ImageSize(width, height), pixels.nbytes, pixels))
        if number == 0:
            mask = np.zeros((height, width), np.bool_)
            mask[10:30, 20:44] = True
            tracker.prompt(0, [_masked(1, mask)], multimask=False)
        sizes.append(tracker.size_bytes)
    return sizes
