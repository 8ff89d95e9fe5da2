from __future__ import annotations

import resource
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest
import skimage.data
import torch

from maskwire_server.domain.engine import ModelSpecification
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.domain.tracking import ObjectSighting, TrackingLimits
from maskwire_server.engines.sam2 import Sam2Engine, Sam2EngineFactory
from maskwire_server.engines.sam2.embedding import Sam2Embedding
from maskwire_server.engines.sam2.tracker import Sam2Tracker
from tests.support.sam2_checkpoints import Sam2Files

SIZE = ImageSize(width_px=200, height_px=150)


@pytest.fixture(scope="module")
def engine(quick_sam2: Sam2Files) -> Iterator[Sam2Engine]:
    loaded = load(quick_sam2)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def embeddings(engine: Sam2Engine) -> list[Sam2Embedding]:
    astronaut = skimage.data.astronaut()
    return [
        engine.encode(np.ascontiguousarray(astronaut[4 * at : 4 * at + 150, 8 * at : 8 * at + 200]))
        for at in range(8)
    ]


def load(files: Sam2Files, precision: str = "fp32") -> Sam2Engine:
    return Sam2EngineFactory().load(
        ModelSpecification(
            "own", "sam2", files.checkpoint, files.config, device="cpu", precision=precision
        )
    )


def new_tracker(engine: Sam2Engine, held_frames: int = 3) -> Sam2Tracker:
    return engine.new_tracker(SIZE, TrackingLimits(max_objects=16, held_frames=held_frames))


def clicks(object_id: int, *points: tuple[float, float, int]) -> ObjectPrompts:
    return ObjectPrompts(
        object_id,
        np.array([point[:2] for point in points], np.float32).reshape(-1, 2),
        np.array([point[2] == 1 for point in points], np.bool_),
        box=None,
        mask=None,
    )


def only(object_id: int, *, box: Box | None = None, mask: Any = None) -> ObjectPrompts:
    return ObjectPrompts(object_id, np.zeros((0, 2), np.float32), np.zeros(0, np.bool_), box, mask)


def spread(object_id: int) -> ObjectPrompts:
    return clicks(object_id, (20.0 + 20 * object_id, 130.0 - 12 * object_id, 1))


def logits_of(sightings: list[ObjectSighting]) -> dict[int, np.ndarray]:
    return {sighting.object_id: sighting.logits.values for sighting in sightings}


def run(
    engine: Sam2Engine, embeddings: list[Sam2Embedding], ids: tuple[int, ...], frames: int = 6
) -> list[dict[int, np.ndarray]]:
    tracker = new_tracker(engine)
    tracker.advance(0, embeddings[0])
    tracker.prompt(0, [spread(object_id) for object_id in ids], multimask=False)
    return [logits_of(tracker.advance(at, embeddings[at])) for at in range(1, frames)]


class Calls:
    """Counts how often parts of the network run, and on how many objects."""

    def __init__(self, engine: Sam2Engine) -> None:
        self.attention: list[int] = []
        self.memories = 0
        network: Any = engine._network
        self._handles = [
            network.memory_attention.register_forward_pre_hook(self._attended, with_kwargs=True),
            network.memory_encoder.register_forward_pre_hook(self._remembered),
        ]

    def _attended(self, module: Any, args: Any, kwargs: Any) -> None:
        self.attention.append(kwargs["memory"].shape[1])

    def _remembered(self, module: Any, args: Any) -> None:
        self.memories += 1

    def __enter__(self) -> Calls:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()


def test_the_engine_says_that_it_tracks(engine: Sam2Engine):
    assert engine.description.supports_video


def test_several_objects_are_followed_in_one_pass_and_get_the_masks_of_one_by_one(
    engine: Sam2Engine, embeddings: list[Sam2Embedding]
):
    ids = (1, 2, 3, 4, 5)
    with Calls(engine) as calls:
        together = run(engine, embeddings, ids)
    assert calls.attention == [5] * 5
    with mock.patch.object(engine, "_tracking_batch_limit", 1), Calls(engine) as calls:
        one_by_one = run(engine, embeddings, ids)
    assert calls.attention == [1] * 25
    for batch, single in zip(together, one_by_one, strict=True):
        for object_id in ids:
            np.testing.assert_allclose(batch[object_id], single[object_id], atol=2e-5)
        assert np.abs(batch[1] - batch[2]).max() > 1e-3, "objects that do not differ show nothing"


def test_an_objects_masks_do_not_depend_on_the_others(
    engine: Sam2Engine, embeddings: list[Sam2Embedding]
):
    together, alone = run(engine, embeddings, (1, 2, 3)), run(engine, embeddings, (2,))
    for all_of_them, one in zip(together, alone, strict=True):
        np.testing.assert_allclose(all_of_them[2], one[2], atol=2e-5)


def test_objects_of_different_age_share_a_batch_once_their_memories_are_full(
    engine: Sam2Engine, embeddings: list[Sam2Embedding]
):
    tracker = new_tracker(engine)
    for frame in range(20):
        with Calls(engine) as calls:
            tracker.advance(frame, embeddings[frame % 8])
        if frame in (0, 3):
            tracker.prompt(frame, [spread(1 + frame)], multimask=False)
        if 3 < frame < 10:
            assert calls.attention == [1, 1]
    assert calls.attention == [2]


def test_prompting_a_still_image_again_and_again_only_decodes(
    engine: Sam2Engine, embeddings: list[Sam2Embedding]
):
    tracker = new_tracker(engine)
    tracker.advance(0, embeddings[0])
    with Calls(engine) as calls:
        for count in range(1, 8):
            points = [(20.0 + 10 * at, 60.0, at % 2) for at in range(count)]
            tracker.prompt(0, [clicks(1, *points)], multimask=False)
    assert calls.attention == []
    assert calls.memories == 0


def test_correcting_again_and_again_attends_to_memory_once(
    engine: Sam2Engine, embeddings: list[Sam2Embedding]
):
    tracker = new_tracker(engine)
    tracker.advance(0, embeddings[0])
    tracker.prompt(0, [spread(1)], multimask=False)
    tracker.advance(1, embeddings[1])
    with Calls(engine) as calls:
        for count in range(1, 5):
            points = [(20.0 + 10 * at, 60.0, 1) for at in range(count)]
            tracker.prompt(1, [clicks(1, *points)], multimask=False)
    assert calls.attention == [1]
    assert calls.memories == 0


def test_a_mask_that_is_taken_over_attends_to_nothing(
    engine: Sam2Engine, embeddings: list[Sam2Embedding]
):
    tracker = new_tracker(engine)
    tracker.advance(0, embeddings[0])
    tracker.prompt(0, [spread(1)], multimask=False)
    tracker.advance(1, embeddings[1])
    with Calls(engine) as calls:
        mask = np.ones((SIZE.height_px, SIZE.width_px), np.bool_)
        tracker.prompt(1, [only(1, mask=mask)], multimask=False)
    assert calls.attention == []


def test_a_first_prompt_gives_what_decoding_the_image_gives(
    engine: Sam2Engine, embeddings: list[Sam2Embedding]
):
    tracker = new_tracker(engine)
    tracker.advance(0, embeddings[0])
    asked = [spread(1), only(2, box=Box(30.0, 20.0, 120.5, 110.0)), clicks(3, (50.0, 60.0, 1))]
    for answer, expected in zip(
        tracker.prompt(0, asked, multimask=True),
        engine.decode(embeddings[0], asked, multimask=True),
        strict=True,
    ):
        assert len(answer.candidates) == 3
        for one, other in zip(answer.candidates, expected.candidates, strict=True):
            np.testing.assert_allclose(one.logits.values, other.logits.values, atol=1e-5)
            assert one.predicted_iou == pytest.approx(other.predicted_iou, abs=1e-5)


def test_of_alternatives_the_best_is_followed(engine: Sam2Engine, embeddings: list[Sam2Embedding]):
    box = only(1, box=Box(30.0, 20.0, 120.5, 110.0))
    tracker = new_tracker(engine)
    tracker.advance(0, embeddings[0])
    (answer,) = tracker.prompt(0, [box], multimask=True)
    assert len(answer.candidates) == 3
    assert answer.best.predicted_iou == max(each.predicted_iou for each in answer.candidates)
    assert answer.best is not answer.candidates[0], "or choosing would not show"
    tracker.advance(1, embeddings[1])
    kept = tracker._objects[1].conditioning[0].held_logits().numpy()
    np.testing.assert_array_equal(kept[0, 0], answer.best.logits.values)


def test_a_mask_alone_is_taken_over_as_it_is(engine: Sam2Engine, embeddings: list[Sam2Embedding]):
    mask = np.zeros((SIZE.height_px, SIZE.width_px), np.bool_)
    mask[30:90, 50:140] = True
    tracker = new_tracker(engine)
    tracker.advance(0, embeddings[0])
    full, empty = tracker.prompt(
        0, [only(1, mask=mask), only(2, mask=np.zeros_like(mask))], multimask=True
    )
    bitmap = full.best.logits.to_bitmap(SIZE)
    assert (bitmap & mask).sum() / (bitmap | mask).sum() > 0.95
    assert full.presence > 0.99
    assert full.best.predicted_iou == 1.0
    assert not empty.best.logits.to_bitmap(SIZE).any()
    assert empty.presence < 0.01


def test_a_mask_with_clicks_goes_in_as_the_earlier_answer(
    engine: Sam2Engine, embeddings: list[Sam2Embedding]
):
    mask = np.zeros((SIZE.height_px, SIZE.width_px), np.bool_)
    mask[30:90, 50:140] = True
    point = clicks(1, (60.0, 40.0, 1))
    both = ObjectPrompts(1, point.points, point.point_labels, box=None, mask=mask)
    tracker = new_tracker(engine)
    tracker.advance(0, embeddings[0])
    (answer,) = tracker.prompt(0, [both], multimask=True)
    (expected,) = engine.decode(embeddings[0], [both], multimask=True)
    for one, other in zip(answer.candidates, expected.candidates, strict=True):
        np.testing.assert_allclose(one.logits.values, other.logits.values, atol=1e-5)


def test_an_object_that_is_not_there_is_not_shown(
    quick_sam2: Sam2Files, embeddings: list[Sam2Embedding]
):
    engine = load(quick_sam2)
    with torch.no_grad():
        engine._network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(-10.0)
    tracker = new_tracker(engine)
    tracker.advance(0, embeddings[0])
    mask = np.ones((SIZE.height_px, SIZE.width_px), np.bool_)
    tracker.prompt(0, [only(1, mask=mask)], multimask=False)
    (sighting,) = tracker.advance(1, embeddings[1])
    assert sighting.presence < 0.01
    assert not sighting.logits.to_bitmap(SIZE).any()
    engine.close()


def test_memory_stays_the_same_over_300_frames(engine: Sam2Engine, embeddings: list[Sam2Embedding]):
    tracker = new_tracker(engine, held_frames=4)
    tracker.advance(0, embeddings[0])
    tracker.prompt(0, [spread(1), spread(2)], multimask=False)
    sizes: list[int] = []
    peaks: list[int] = []
    for frame in range(1, 301):
        tracker.advance(frame, embeddings[frame % 8])
        if frame % 20 == 0:
            tracker.prompt(frame, [clicks(1, (60.0, 40.0 + frame % 3, 1))], multimask=False)
        sizes.append(tracker.size_bytes)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    assert len({sizes[at] for at in range(39, 300, 20)}) == 1, "with a correction"
    assert len({sizes[at] for at in range(40, 300, 20)}) == 1, "without"
    assert peaks[-1] < peaks[99] * 1.02


def test_the_size_is_what_is_held(engine: Sam2Engine, embeddings: list[Sam2Embedding]):
    tracker = new_tracker(engine, held_frames=0)
    tracker.advance(0, embeddings[0])
    frame = embeddings[0].size_bytes
    assert tracker.size_bytes == frame
    tracker.prompt(0, [spread(1)], multimask=True)
    logits, pointer, score = 32 * 32 * 4, 64 * 4, 4
    assert tracker.size_bytes == frame + logits + pointer + score
    tracker.advance(1, embeddings[1])
    memory = 8 * 8 * 16 * 2
    conditioning, followed = memory + pointer + score, memory + logits + pointer + score
    assert tracker.size_bytes == frame + conditioning + followed


def test_corrections_are_remembered_as_followed_frames(
    engine: Sam2Engine, embeddings: list[Sam2Embedding]
):
    tracker = new_tracker(engine, held_frames=1)
    for frame in range(20):
        tracker.advance(frame, embeddings[frame % 8])
        tracker.prompt(frame, [spread(1)], multimask=False)
    assert set(tracker._objects[1].conditioning) == {0}
    assert set(tracker._objects[1].followed) == set(range(3, 20))


def test_a_correction_is_kept_when_the_object_is_carried_through_its_frame(
    engine: Sam2Engine, embeddings: list[Sam2Embedding]
):
    tracker = new_tracker(engine)
    tracker.advance(0, embeddings[0])
    tracker.prompt(0, [spread(1)], multimask=False)
    for frame in range(1, 4):
        tracker.advance(frame, embeddings[frame])
        if frame == 2:
            tracker.prompt(2, [clicks(1, (20.0, 20.0, 1))], multimask=False)
    corrected = tracker._objects[1].followed[2].held_logits().clone()
    plain = tracker._objects[1].followed[3].held_logits().clone()
    tracker.prompt(1, [clicks(1, (180.0, 20.0, 0))], multimask=False)
    assert torch.equal(tracker._objects[1].followed[2].held_logits(), corrected)
    assert not torch.equal(tracker._objects[1].followed[3].held_logits(), plain)


def test_a_failed_frame_leaves_the_tracker_as_it_was(
    engine: Sam2Engine, embeddings: list[Sam2Embedding]
):
    tracker, other = new_tracker(engine), new_tracker(engine)
    for each in (tracker, other):
        each.advance(0, embeddings[0])
        each.prompt(0, [spread(1), spread(2)], multimask=False)
        each.advance(1, embeddings[1])
    with (
        mock.patch.object(engine._network.sam_mask_decoder, "forward", side_effect=RuntimeError),
        pytest.raises(RuntimeError),
    ):
        tracker.advance(2, embeddings[2])
    again, expected = tracker.advance(2, embeddings[2]), other.advance(2, embeddings[2])
    for object_id, logits in logits_of(again).items():
        np.testing.assert_array_equal(logits, logits_of(expected)[object_id])


def test_frames_come_in_order_and_prompts_on_held_ones(
    engine: Sam2Engine, embeddings: list[Sam2Embedding]
):
    tracker = new_tracker(engine, held_frames=1)
    for frame in range(3):
        tracker.advance(frame, embeddings[frame])
    with pytest.raises(ValueError, match="frame 2 does not come after frame 2"):
        tracker.advance(2, embeddings[2])
    with pytest.raises(ValueError, match="frame 0 is not held"):
        tracker.prompt(0, [spread(1)], multimask=False)


def test_bf16_follows_much_as_fp32(quick_sam2: Sam2Files, engine: Sam2Engine):
    pixels = np.ascontiguousarray(skimage.data.astronaut()[:150, :200])
    half = load(quick_sam2, precision="bf16")
    bitmaps = []
    for each in (engine, half):
        (logits,) = run(each, [each.encode(pixels)] * 2, (1,), frames=2)
        bitmaps.append(MaskLogits(logits[1], Box.covering(SIZE)).to_bitmap(SIZE))
    assert bitmaps[0].any()
    assert (bitmaps[0] & bitmaps[1]).sum() / (bitmaps[0] | bitmaps[1]).sum() > 0.9
    half.close()
