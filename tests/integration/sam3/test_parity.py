"""The SAM 3 engine against `transformers`' own models and processors, on the same folder.

Upstream's detector and tracker each run a vision encoder of their own there; the engine runs one
for both. Pixels may differ only where upstream's value is within rounding of the threshold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from maskwire_server.domain.concepts import ConceptPrompt
from maskwire_server.domain.engine import ModelSpecification
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.engines.sam3 import Sam3Engine, Sam3EngineFactory
from maskwire_server.engines.sam3.detection import DEFAULT_SCORE_THRESHOLD
from tests.support.sam3_scenes import Scene, draw_scene

ROUNDING = 1e-4
KINDS = (("red", "disc"), ("red", "disc"), ("blue", "square"), ("green", "triangle"))
# Every query of the network answers at this threshold, so that all of its masks are compared.
EVERYTHING = 0.0


@dataclass(frozen=True)
class Upstream:
    """Direct use of `transformers`."""

    detector: Any
    processor: Any
    tracker: Any
    tracker_processor: Any

    @classmethod
    def load(cls, folder: Path) -> Upstream:
        from transformers import (
            Sam3Model,
            Sam3Processor,
            Sam3TrackerModel,
            Sam3TrackerProcessor,
        )

        return cls(
            Sam3Model.from_pretrained(folder, local_files_only=True).eval(),
            Sam3Processor.from_pretrained(folder, local_files_only=True),
            Sam3TrackerModel.from_pretrained(folder, local_files_only=True).eval(),
            Sam3TrackerProcessor.from_pretrained(folder, local_files_only=True),
        )

    def detect(self, pixels: NDArray[np.uint8], concept: ConceptPrompt) -> dict[str, Any]:
        """Return what the processor makes of the answer, best first, and probabilities of masks."""
        boxes = [[b.x_min, b.y_min, b.x_max, b.y_max] for b in _boxes(concept)]
        labels = [1] * len(concept.positive_boxes) + [0] * len(concept.negative_boxes)
        exemplars = {"input_boxes": [boxes], "input_boxes_labels": [labels]} if boxes else {}
        inputs = self.processor(
            images=pixels, text=concept.text or None, return_tensors="pt", **exemplars
        )
        size = tuple(pixels.shape[:2])
        with torch.inference_mode():
            output = self.detector(**inputs)
        threshold = 0.5 if concept.score_threshold is None else concept.score_threshold
        (found,) = self.processor.post_process_instance_segmentation(
            output, threshold=threshold, target_sizes=[size]
        )
        scores = (output.pred_logits.sigmoid() * output.presence_logits.sigmoid())[0]
        probabilities = functional.interpolate(
            output.pred_masks.sigmoid(), size, mode="bilinear", align_corners=False
        )[0, scores > threshold]
        order = found["scores"].argsort(descending=True, stable=True)
        return {
            "scores": found["scores"][order].numpy(),
            "boxes": found["boxes"][order].numpy(),
            "masks": found["masks"][order].numpy().astype(bool),
            "probabilities": probabilities[order].numpy(),
        }

    def decode(
        self, pixels: NDArray[np.uint8], prompts: ObjectPrompts, *, multimask: bool
    ) -> tuple[torch.Tensor, NDArray[np.bool_], NDArray[np.float32]]:
        """Return low-resolution logits, full-size masks and predicted IoUs."""
        arguments: dict[str, Any] = {}
        if len(prompts.points):
            arguments["input_points"] = [[prompts.points.tolist()]]
            arguments["input_labels"] = [[prompts.point_labels.astype(int).tolist()]]
        if prompts.box is not None:
            box = prompts.box
            arguments["input_boxes"] = [[[box.x_min, box.y_min, box.x_max, box.y_max]]]
        inputs = self.tracker_processor(images=pixels, return_tensors="pt", **arguments)
        sizes = inputs.pop("original_sizes")
        masks = {}
        if isinstance(prompts.mask, MaskLogits):
            masks["input_masks"] = torch.from_numpy(prompts.mask.values)[None, None]
        with torch.inference_mode():
            output = self.tracker(**inputs, **masks, multimask_output=multimask)
        (full,) = self.tracker_processor.post_process_masks(output.pred_masks, sizes)
        return output.pred_masks[0, 0], full[0].numpy(), output.iou_scores[0, 0].numpy()


@pytest.fixture(scope="module")
def engine(small_sam3: Path) -> Iterator[Sam3Engine]:
    loaded = Sam3EngineFactory().load(ModelSpecification("own", "sam3", small_sam3, device="cpu"))
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def upstream(small_sam3: Path) -> Upstream:
    return Upstream.load(small_sam3)


@pytest.fixture(scope="module", params=[(168, 168), (240, 130), (97, 211)], ids=str)
def scene(request: pytest.FixtureRequest) -> Scene:
    width, height = request.param
    return draw_scene(np.random.default_rng(11), width=width, height=height, kinds=KINDS)


def _boxes(concept: ConceptPrompt) -> tuple[Box, ...]:
    return (*concept.positive_boxes, *concept.negative_boxes)


def size_of(scene: Scene) -> ImageSize:
    return ImageSize(width_px=scene.pixels.shape[1], height_px=scene.pixels.shape[0])


def concepts(scene: Scene) -> dict[str, ConceptPrompt]:
    first, second = scene.shapes[0].box, scene.shapes[1].box
    return {
        "text": ConceptPrompt("red disc", score_threshold=EVERYTHING),
        "another text": ConceptPrompt("blue shape", score_threshold=EVERYTHING),
        "default threshold": ConceptPrompt("disc"),
        "text and exemplar": ConceptPrompt("square", (first,), score_threshold=EVERYTHING),
        "exemplars alone": ConceptPrompt("", (first, second), score_threshold=EVERYTHING),
        "negative exemplar": ConceptPrompt("disc", (), (first,), score_threshold=EVERYTHING),
        "both exemplars": ConceptPrompt("disc", (first,), (second,), score_threshold=EVERYTHING),
    }


@pytest.mark.parametrize("kind", list(concepts(draw_scene(np.random.default_rng(1), kinds=KINDS))))
def test_concepts_are_answered_as_upstream(
    engine: Sam3Engine, upstream: Upstream, scene: Scene, kind: str
):
    concept = concepts(scene)[kind]
    size = size_of(scene)
    (ours,) = engine.detect(engine.encode(scene.pixels), [concept])
    theirs = upstream.detect(scene.pixels, concept)
    assert len(ours) == len(theirs["scores"])
    if concept.score_threshold == EVERYTHING:
        assert len(ours) == engine._network.detector.config.detr_decoder_config.num_queries
    extent = [size.width_px, size.height_px] * 2
    for number, instance in enumerate(ours):
        assert instance.score == pytest.approx(theirs["scores"][number], abs=1e-5)
        box = instance.box
        np.testing.assert_allclose(
            [box.x_min, box.y_min, box.x_max, box.y_max],
            np.clip(theirs["boxes"][number], 0, extent),
            atol=1e-2,
        )
        assert_same(
            instance.logits.to_bitmap(size),
            theirs["masks"][number],
            theirs["probabilities"][number] - 0.5,
        )


def test_the_default_threshold_is_upstreams():
    from transformers import Sam3VideoConfig

    assert Sam3VideoConfig().score_threshold_detection == DEFAULT_SCORE_THRESHOLD


POINT = np.array([[0.4, 0.5]], dtype=np.float32)
POINTS = np.array([[0.4, 0.5], [0.8, 0.2], [0.35, 0.55]], dtype=np.float32)
SHARES = (0.3, 0.25, 0.7, 0.8)
VISUAL = {
    "point": (POINT, [True], None, False),
    "points": (POINTS, [True, False, True], None, False),
    "box": (POINT[:0], [], SHARES, False),
    "box and points": (POINTS, [True, False, True], SHARES, False),
    "mask": (POINT[:0], [], None, True),
    "mask and point": (POINT, [True], None, True),
    "mask, box and point": (POINT, [False], SHARES, True),
}


@pytest.mark.parametrize("multimask", [False, True], ids=["single", "multiple"])
@pytest.mark.parametrize("kind", list(VISUAL))
def test_visual_prompts_are_answered_as_upstream(
    engine: Sam3Engine, upstream: Upstream, scene: Scene, kind: str, multimask: bool
):
    size = size_of(scene)
    prompts = visual(VISUAL[kind], upstream, scene)
    embedding = engine.encode(scene.pixels)
    (ours,) = engine.decode(embedding, [prompts], multimask=multimask)
    logits, masks, scores = upstream.decode(scene.pixels, prompts, multimask=multimask)
    assert len(ours.candidates) == len(scores) == (3 if multimask else 1)
    full = functional.interpolate(
        logits[None], masks.shape[-2:], mode="bilinear", align_corners=False
    )[0].numpy()
    for number, candidate in enumerate(ours.candidates):
        np.testing.assert_allclose(candidate.logits.values, logits[number], atol=1e-3)
        assert candidate.predicted_iou == pytest.approx(scores[number], abs=1e-5)
        assert_same(candidate.logits.to_bitmap(size), masks[number], full[number])


def test_a_detected_mask_is_refined_as_upstream(
    engine: Sam3Engine, upstream: Upstream, scene: Scene
):
    embedding = engine.encode(scene.pixels)
    ((best, *_),) = engine.detect(embedding, [ConceptPrompt("disc", score_threshold=EVERYTHING)])
    prompts = ObjectPrompts(1, POINT * np.float32(90), np.array([False]), None, best.logits)
    (ours,) = engine.decode(embedding, [prompts], multimask=False)
    logits, _, _ = upstream.decode(scene.pixels, prompts, multimask=False)
    np.testing.assert_allclose(ours.candidates[0].logits.values, logits[0], atol=1e-3)


def visual(case: Any, upstream: Upstream, scene: Scene) -> ObjectPrompts:
    points, labels, shares, has_mask = case
    size = size_of(scene)
    extent = np.array([size.width_px, size.height_px], dtype=np.float32)
    mask = None
    if has_mask:
        first = ObjectPrompts(1, POINT * extent, np.array([True]), None, None)
        earlier, _, _ = upstream.decode(scene.pixels, first, multimask=True)
        mask = MaskLogits(np.clip(earlier[1].numpy(), -32, 32), Box.covering(size))
    box = None
    if shares is not None:
        corners = np.array(shares) * np.tile(extent, 2)
        box = Box(*(float(corner) for corner in corners))
    return ObjectPrompts(1, points * extent, np.array(labels, dtype=bool), box, mask)


def assert_same(
    ours: NDArray[np.bool_], theirs: NDArray[np.bool_], margin: NDArray[np.float32]
) -> None:
    differing = ours != theirs
    assert np.abs(margin[differing]).max(initial=0.0) < ROUNDING
    assert differing.mean() < ROUNDING
