"""The engine with the weights that ship: it segments, and each answer depends on its request."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from maskwire_client.evaluation import iou
from maskwire_server.domain.engine import ModelSpecification
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import Box
from maskwire_server.domain.prompts import ObjectPrompts, PromptKind
from maskwire_server.engines.nano import NanoEngine, NanoEngineFactory
from maskwire_server.engines.weights import write_state
from tests.support.prompted_engine import ask, best_of, measure_box, measure_clicks
from training.scenes import Scene, make_scene
from training.textures import TextureBank

NO_POINTS = (np.empty((0, 2), np.float32), np.empty(0, np.bool_))


@pytest.fixture(scope="module")
def engine() -> NanoEngine:
    return NanoEngineFactory().load(ModelSpecification("maskwire-nano", "nano", device="cpu"))


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    """Scenes of a seed that training never used."""
    bank = TextureBank(977, size=40)
    return [make_scene(977, index, bank) for index in range(6)]


def _targets(scenes: list[Scene]) -> list[tuple[np.ndarray, np.ndarray]]:
    found = []
    for scene in scenes:
        for number in range(1, len(scene.areas)):
            mask = scene.objects == number
            if mask.sum() > max(400, 0.6 * scene.areas[number]):
                found.append((scene.image, mask))
    return found[:16]


def _boxed(object_id: int, *corners: float) -> ObjectPrompts:
    return ObjectPrompts(object_id, *NO_POINTS, Box(*corners), None)


def test_it_says_what_it_is(engine: NanoEngine) -> None:
    description = engine.description
    assert description.license == "Apache-2.0"
    assert description.checkpoint_digest.startswith("sha256:")
    assert description.prompt_kinds == {PromptKind.POINT, PromptKind.BOX, PromptKind.MASK}
    assert description.masks_per_object == 3


def test_a_box_gives_far_more_than_the_box(engine: NanoEngine, scenes: list[Scene]) -> None:
    answered, filled = [], []
    for image, mask in _targets(scenes):
        score = measure_box(engine, engine.encode(image), mask)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        answered.append(score)
        filled.append(mask.sum() / ((np.ptp(rows) + 1) * (np.ptp(columns) + 1)))
    assert len(answered) > 8
    assert np.mean(answered) > np.mean(filled) + 0.08


def test_more_clicks_make_a_better_mask(engine: NanoEngine, scenes: list[Scene]) -> None:
    curves = [
        measure_clicks(engine, engine.encode(image), mask, 4)
        for image, mask in _targets(scenes)[:8]
    ]
    means = np.mean(curves, axis=0)
    assert means[3] > means[0] + 0.1


def test_alternatives_come_only_when_asked_for(engine: NanoEngine, scenes: list[Scene]) -> None:
    embedding = engine.encode(scenes[0].image)
    click = [(60.0, 60.0, 1)]
    assert len(ask(engine, embedding, clicks=click)) == 1
    assert len(ask(engine, embedding, clicks=click, multimask=True)) == 3
    box = Box(20, 20, 90, 90)
    assert len(ask(engine, embedding, box=box)) == 1
    several = ask(engine, embedding, box=box, multimask=True)
    assert len(several) == 3
    assert all(0 <= candidate.predicted_iou <= 1 for candidate in several)
    assert best_of(several).predicted_iou == max(c.predicted_iou for c in several)


def test_an_earlier_mask_is_taken_up(engine: NanoEngine, scenes: list[Scene]) -> None:
    scores = []
    for image, mask in _targets(scenes)[:8]:
        embedding = engine.encode(image)
        prompts = ObjectPrompts(1, *NO_POINTS, None, mask)
        (refined,) = engine.decode(embedding, [prompts], multimask=False)
        bitmap = refined.candidates[0].logits.to_bitmap(embedding.image_size)
        scores.append(iou(bitmap, mask))
    assert np.mean(scores) > 0.7


def test_objects_are_answered_in_their_order(engine: NanoEngine, scenes: list[Scene]) -> None:
    embedding = engine.encode(scenes[1].image)
    points = np.array([[100, 100]], np.float32)
    objects = [
        _boxed(7, 10, 10, 80, 80),
        ObjectPrompts(3, points, np.array([True]), None, None),
        _boxed(5, 90, 20, 150, 120),
    ]
    together = engine.decode(embedding, objects, multimask=False)
    assert [prediction.object_id for prediction in together] == [7, 3, 5]
    for prompts, prediction in zip(objects, together, strict=True):
        (alone,) = engine.decode(embedding, [prompts], multimask=False)
        size = embedding.image_size
        first, second = alone.candidates[0], prediction.candidates[0]
        assert iou(first.logits.to_bitmap(size), second.logits.to_bitmap(size)) > 0.99


def test_concurrent_requests_get_what_each_gets_alone(
    engine: NanoEngine, scenes: list[Scene]
) -> None:
    embeddings = [engine.encode(scene.image) for scene in scenes[:4]]
    requests = [
        (embedding, _boxed(1, 20 + 5 * shift, 20, 120, 100 + 5 * shift))
        for embedding in embeddings
        for shift in range(4)
    ]

    def answer(request) -> bytes:
        embedding, prompts = request
        (prediction,) = engine.decode(embedding, [prompts], multimask=False)
        return prediction.candidates[0].logits.values.tobytes()

    alone = [answer(request) for request in requests]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(answer, requests)) == alone


def test_the_embedding_does_not_follow_the_caller_s_array(engine: NanoEngine) -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    embedding = engine.encode(pixels)
    pixels[:] = 255
    assert embedding.pixels.max() == 0
    assert embedding.size_bytes == 64 * 64 * 3
    with pytest.raises(ValueError, match="read-only"):
        embedding.pixels[:] = 1


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    write_state(file, {"stem.weight": torch.zeros(1)}, "test")
    specification = ModelSpecification("other", "nano", file, device="cpu")
    with pytest.raises(MaskwireError) as caught:
        NanoEngineFactory().load(specification)
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
