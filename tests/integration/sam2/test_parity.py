"""The SAM 2 engine against the `sam2` package's own predictor, on the same checkpoint files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray

from maskwire_server.domain.engine import ImageEmbedding, ModelSpecification, ObjectPrediction
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.engines.sam2 import Sam2Engine, Sam2EngineFactory
from tests.support.sam2_checkpoints import Sam2Files
from tests.support.sam2_upstream import upstream_official_predictor, upstream_predictor

MASK_IOU, SCORE_TOLERANCE = 0.999, 1e-3
IMAGES = ("square", "wide")
MODELS = ("small_512", "official_tiny_1024")


@dataclass(frozen=True)
class Case:
    """Prompts of one object in fractions of the image, so that they fit any size."""

    points: tuple[tuple[float, float, int], ...] = ()
    box: tuple[float, float, float, float] | None = None
    has_mask: bool = False


CASES = {
    "point": Case(points=((0.4, 0.3, 1),)),
    "points": Case(points=((0.4, 0.3, 1), (0.7, 0.61, 0), (0.511, 0.25, 1))),
    "box": Case(box=(0.2, 0.1, 0.62, 0.907)),
    "box_and_points": Case(points=((0.41, 0.5, 1), (0.25, 0.2, 0)), box=(0.2, 0.1, 0.62, 0.907)),
    "mask": Case(has_mask=True),
    "mask_and_point": Case(points=((0.33, 0.4, 1),), has_mask=True),
    "mask_box_and_point": Case(points=((0.33, 0.4, 0),), box=(0.1, 0.15, 0.7, 0.8), has_mask=True),
}


@dataclass(frozen=True)
class Pair:
    """Our engine and upstream's predictor, both of which have seen one image."""

    engine: Sam2Engine
    embedding: ImageEmbedding
    predictor: Any
    size: ImageSize
    earlier_logits: NDArray[np.float32]

    def prompts(self, case: Case, object_id: int = 1) -> ObjectPrompts:
        width, height = self.size.width_px, self.size.height_px
        points = np.array([(x * width, y * height) for x, y, _ in case.points], dtype=np.float32)
        box = case.box and Box(
            case.box[0] * width, case.box[1] * height, case.box[2] * width, case.box[3] * height
        )
        return ObjectPrompts(
            object_id=object_id,
            points=points.reshape(-1, 2),
            point_labels=np.array([label == 1 for _, _, label in case.points], dtype=bool),
            box=box or None,
            mask=MaskLogits(self.earlier_logits, Box.covering(self.size))
            if case.has_mask
            else None,
        )

    def ours(self, case: Case, multimask: bool) -> ObjectPrediction:
        return self.engine.decode(self.embedding, [self.prompts(case)], multimask=multimask)[0]

    def upstreams(self, case: Case, multimask: bool) -> tuple[NDArray[np.bool_], NDArray[Any]]:
        prompts = self.prompts(case)
        box = prompts.box and (
            prompts.box.x_min,
            prompts.box.y_min,
            prompts.box.x_max,
            prompts.box.y_max,
        )
        masks, scores, _ = self.predictor.predict(
            point_coords=prompts.points if case.points else None,
            point_labels=prompts.point_labels.astype(np.int32) if case.points else None,
            box=None if box is None else np.array(box),
            mask_input=self.earlier_logits[None] if case.has_mask else None,
            multimask_output=multimask,
        )
        return masks.astype(bool), scores


def photograph(name: str) -> NDArray[np.uint8]:
    astronaut = skimage.data.astronaut()
    return astronaut if name == "square" else cv2.resize(astronaut[100:420], (811, 457))


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float((first & second).sum() / (first | second).sum())


@pytest.fixture(scope="module", params=MODELS)
def engines(
    request: pytest.FixtureRequest,
    small_sam2: Sam2Files,
    official_tiny_sam2: Sam2Files,
) -> Iterator[tuple[Sam2Engine, Any]]:
    if request.param == "small_512":
        predictor = upstream_predictor(small_sam2)
        specification = ModelSpecification(
            "own", "sam2", small_sam2.checkpoint, config=small_sam2.config, device="cpu"
        )
    else:
        checkpoint: Path = official_tiny_sam2.checkpoint
        predictor = upstream_official_predictor("configs/sam2.1/sam2.1_hiera_t.yaml", checkpoint)
        specification = ModelSpecification("sam2.1-hiera-tiny", "sam2", checkpoint, device="cpu")
    engine = Sam2EngineFactory().load(specification)
    yield engine, predictor
    engine.close()


@pytest.fixture(scope="module", params=IMAGES)
def pair(request: pytest.FixtureRequest, engines: tuple[Sam2Engine, Any]) -> Pair:
    engine, predictor = engines
    pixels = photograph(request.param)
    predictor.set_image(pixels)
    _, _, logits = predictor.predict(np.array([[150.0, 200.0]]), np.array([1]))
    # A first answer of a random network is faint; as strong as a trained one's, it matters.
    earlier = np.clip(logits[1] * 40, -32, 32).astype(np.float32)
    return Pair(
        engine=engine,
        embedding=engine.encode(pixels),
        predictor=predictor,
        size=ImageSize(width_px=pixels.shape[1], height_px=pixels.shape[0]),
        earlier_logits=earlier,
    )


@pytest.mark.parametrize("multimask", [False, True], ids=["single", "multiple"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_masks_and_scores_equal_upstreams(pair: Pair, case: Case, multimask: bool):
    masks, scores = pair.upstreams(case, multimask)
    answers = pair.ours(case, multimask).candidates

    assert len(answers) == len(masks) == (3 if multimask else 1)
    for answer, mask, score in zip(answers, masks, scores, strict=True):
        assert 0.005 < mask.mean() < 0.995, "an empty or full mask would compare nothing"
        assert iou(answer.logits.to_bitmap(pair.size), mask) >= MASK_IOU
        assert answer.predicted_iou == pytest.approx(score, abs=SCORE_TOLERANCE)


def test_the_comparison_sees_a_click_that_is_three_pixels_off(pair: Pair):
    masks, _ = pair.upstreams(CASES["point"], multimask=True)
    moved = Case(points=((0.4 + 3 / pair.size.width_px, 0.3, 1),))
    answers = pair.ours(moved, multimask=True).candidates

    overlaps = [
        iou(answer.logits.to_bitmap(pair.size), mask)
        for answer, mask in zip(answers, masks, strict=True)
    ]
    assert min(overlaps) < MASK_IOU


def test_objects_of_one_request_get_the_masks_that_each_gets_alone(pair: Pair):
    cases = [CASES["box"], CASES["point"], CASES["mask"], CASES["box"]]
    cases += [Case(points=((x / 10, 0.45, x % 2),)) for x in (2, 5, 8)]
    objects = [pair.prompts(case, object_id) for object_id, case in enumerate(cases, 10)]
    together = pair.engine.decode(pair.embedding, objects, multimask=True)

    assert [prediction.object_id for prediction in together] == list(range(10, 17))
    for prompts, prediction in zip(objects, together, strict=True):
        alone = pair.engine.decode(pair.embedding, [prompts], multimask=True)[0]
        for one, other in zip(prediction.candidates, alone.candidates, strict=True):
            assert np.abs(one.logits.values - other.logits.values).max() < 1e-4
            assert one.predicted_iou == pytest.approx(other.predicted_iou, abs=1e-5)


def test_bf16_equals_upstream_under_autocast(small_sam2: Sam2Files):
    checkpoint, config = small_sam2.checkpoint, small_sam2.config
    engine = Sam2EngineFactory().load(
        ModelSpecification("own", "sam2", checkpoint, config, device="cpu", precision="bf16")
    )
    predictor = upstream_predictor(small_sam2)
    pixels = photograph("wide")
    size = ImageSize(width_px=pixels.shape[1], height_px=pixels.shape[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predictor.set_image(pixels)
        masks, scores, _ = predictor.predict(np.array([[310.0, 200.0]]), np.array([1]))

    point = np.array([[310.0, 200.0]], dtype=np.float32)
    prompts = ObjectPrompts(1, point, np.array([True]), box=None, mask=None)
    (answer,) = engine.decode(engine.encode(pixels), [prompts], multimask=True)
    assert engine.description.precision == "bf16"
    for candidate, mask, score in zip(answer.candidates, masks, scores, strict=True):
        assert iou(candidate.logits.to_bitmap(size), mask.astype(bool)) >= MASK_IOU
        assert candidate.predicted_iou == pytest.approx(score, abs=SCORE_TOLERANCE)
