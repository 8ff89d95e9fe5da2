"""What every segmentation engine promises, whatever network runs inside it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from maskwire_server.domain.engine import ObjectPrediction, SegmentationEngine
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.prompts import ObjectPrompts, PromptKind
from maskwire_server.engines import registry
from tests.support.engines import SPECIFICATIONS, Candidate

WIDTH, HEIGHT = 240, 160
SIZE = ImageSize(width_px=WIDTH, height_px=HEIGHT)
BOX = Box(60.0, 20.0, 180.5, 140.0)


@pytest.fixture(scope="module")
def engine(candidate: Candidate) -> Iterator[SegmentationEngine]:
    loaded = candidate.factory.load(candidate.specification)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def photograph() -> NDArray[np.uint8]:
    return cv2.resize(skimage.data.astronaut()[:340], (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)


def prompts(
    object_id: int = 1,
    points: tuple[tuple[float, float, bool], ...] = (),
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


def disc() -> NDArray[np.bool_]:
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    return np.asarray((columns - 110) ** 2 + (rows - 70) ** 2 < 45**2)


POINT = prompts(1, points=((110.5, 70.5, True),))
MIXED = (
    prompts(7, box=BOX),
    prompts(3, points=((30.0, 30.0, True), (200.0, 100.0, False))),
    prompts(9, points=((110.0, 70.0, True),), box=BOX),
    prompts(4, box=Box(0.0, 0.0, WIDTH, HEIGHT)),
    prompts(5, points=((WIDTH - 0.5, HEIGHT - 0.5, True),)),
    prompts(6, mask=disc()),
    prompts(8, points=((100.0, 60.0, True),), mask=disc()),
)


def values(predictions: list[ObjectPrediction]) -> list[tuple[NDArray[np.float32], float]]:
    return [
        (candidate.logits.values.copy(), candidate.predicted_iou)
        for prediction in predictions
        for candidate in prediction.candidates
    ]


def assert_equal(first: list[ObjectPrediction], second: list[ObjectPrediction]) -> None:
    for (one, score), (other, other_score) in zip(values(first), values(second), strict=True):
        np.testing.assert_array_equal(one, other)
        assert score == other_score


def test_every_installed_engine_is_under_this_contract():
    assert set(registry.engine_names()) <= set(SPECIFICATIONS)


def test_description_is_complete(engine: SegmentationEngine, candidate: Candidate):
    description = engine.description
    assert description.name == candidate.specification.name
    assert description.engine == candidate.specification.engine
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", description.checkpoint_digest)
    assert {PromptKind.POINT, PromptKind.BOX, PromptKind.MASK} <= description.prompt_kinds
    assert description.masks_per_object >= 1
    assert description.max_objects >= 32, "the contract allows 32 masks in a response"
    assert description.native_resolution_px > 0
    assert (description.device, description.precision) == ("cpu", "fp32")
    assert description.architecture
    assert description.license


def test_an_embedding_knows_its_image_and_its_memory(engine: SegmentationEngine, photograph):
    embedding = engine.encode(photograph)
    assert embedding.image_size == SIZE
    assert embedding.size_bytes > 0


def test_pixels_may_be_read_only_and_are_not_changed(engine: SegmentationEngine, photograph):
    pixels = photograph.copy()
    pixels.flags.writeable = False
    engine.encode(pixels)
    np.testing.assert_array_equal(pixels, photograph)


@pytest.mark.parametrize("multimask", [False, True], ids=["single", "multiple"])
def test_answers_come_in_the_order_of_the_objects(engine, photograph, multimask: bool):
    predictions = engine.decode(engine.encode(photograph), MIXED, multimask=multimask)
    assert [prediction.object_id for prediction in predictions] == [7, 3, 9, 4, 5, 6, 8]
    most = engine.description.masks_per_object if multimask else 1
    for prediction in predictions:
        assert 1 <= len(prediction.candidates) <= most
        for answer in prediction.candidates:
            assert answer.logits.values.dtype == np.float32
            assert answer.logits.values.ndim == 2
            assert np.isfinite(answer.logits.values).all()
            assert answer.logits.window.width > 0
            assert answer.logits.window.height > 0
            assert math.isfinite(answer.predicted_iou)
            assert 0.0 <= answer.predicted_iou <= 1.0
            assert answer.logits.to_bitmap(SIZE).shape == (HEIGHT, WIDTH)


def test_objects_get_the_masks_that_each_gets_alone(engine, photograph):
    embedding = engine.encode(photograph)
    together = engine.decode(embedding, MIXED, multimask=True)
    for asked, prediction in zip(MIXED, together, strict=True):
        alone = engine.decode(embedding, [asked], multimask=True)[0]
        for one, other in zip(prediction.candidates, alone.candidates, strict=True):
            np.testing.assert_allclose(one.logits.values, other.logits.values, atol=1e-3)
            assert one.predicted_iou == pytest.approx(other.predicted_iou, abs=1e-4)


def test_nothing_remembers_what_came_between(engine, photograph):
    embedding = engine.encode(photograph)
    before = engine.decode(embedding, [POINT], multimask=True)
    other = engine.encode(photograph[::-1].copy())
    engine.decode(other, MIXED, multimask=False)
    engine.decode(embedding, MIXED, multimask=True)
    assert_equal(engine.decode(embedding, [POINT], multimask=True), before)
    assert_equal(engine.decode(engine.encode(photograph), [POINT], multimask=True), before)


def test_an_embedding_may_be_decoded_on_another_thread(engine, photograph):
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        embedding = first.submit(engine.encode, photograph).result()
        answers = second.submit(engine.decode, embedding, [POINT], multimask=True).result()
    assert_equal(answers, engine.decode(engine.encode(photograph), [POINT], multimask=True))


def test_earlier_logits_are_a_prompt(engine, photograph):
    embedding = engine.encode(photograph)
    earlier = engine.decode(embedding, [POINT], multimask=False)[0].candidates[0].logits
    kept = earlier.values.copy()
    refined = engine.decode(
        embedding, [prompts(1, points=((110.5, 70.5, True),), mask=earlier)], multimask=False
    )
    np.testing.assert_array_equal(earlier.values, kept)
    assert refined[0].candidates[0].logits.to_bitmap(SIZE).shape == (HEIGHT, WIDTH)


def test_logits_of_another_grid_and_window_are_a_prompt(engine, photograph):
    grid = np.full((37, 53), 8.0, dtype=np.float32)
    for window in (Box(80.0, 40.0, 140.0, 100.0), Box(-30.0, -20.0, 300.0, 200.0)):
        asked = prompts(2, mask=MaskLogits(grid, window))
        answer = engine.decode(engine.encode(photograph), [asked], multimask=False)[0]
        assert np.isfinite(answer.candidates[0].logits.values).all()


def test_a_mask_prompt_makes_a_difference(engine, photograph):
    embedding = engine.encode(photograph)
    with_mask = engine.decode(embedding, [MIXED[6]], multimask=False)
    bare = prompts(8, points=((100.0, 60.0, True),))
    without = engine.decode(embedding, [bare], multimask=False)
    assert not np.array_equal(values(with_mask)[0][0], values(without)[0][0])


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (3, 1700)])
def test_strange_shapes_of_images_are_served(engine, shape: tuple[int, int]):
    pixels = np.full((*shape, 3), 128, dtype=np.uint8)
    size = ImageSize(width_px=shape[1], height_px=shape[0])
    asked = prompts(1, points=((0.5, 0.5, True),), box=Box(0.0, 0.0, shape[1], shape[0]))
    answer = engine.decode(engine.encode(pixels), [asked], multimask=True)[0]
    assert answer.candidates[0].logits.to_bitmap(size).shape == shape


def assert_unavailable(candidate: Candidate, **changes: object) -> str:
    with pytest.raises(MaskwireError) as caught:
        candidate.factory.load(candidate.with_changes(**changes))
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
    return caught.value.message


def test_a_missing_checkpoint_is_named(candidate: Candidate, tmp_path: Path):
    missing = tmp_path / "missing.safetensors"
    assert str(missing) in assert_unavailable(candidate, checkpoint=missing)


def test_a_checkpoint_of_another_digest_is_refused(candidate: Candidate):
    message = assert_unavailable(candidate, sha256="0" * 64)
    assert "0" * 64 in message


def test_a_file_that_is_no_checkpoint_is_refused(candidate: Candidate, tmp_path: Path):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"not weights")
    assert str(file) in assert_unavailable(candidate, checkpoint=file)


@pytest.mark.parametrize("device", ["cuda:99", "toaster"])
def test_an_absent_device_is_named(candidate: Candidate, device: str):
    assert device in assert_unavailable(candidate, device=device)


def test_an_unknown_precision_is_refused(candidate: Candidate):
    assert "fp8" in assert_unavailable(candidate, precision="fp8")
