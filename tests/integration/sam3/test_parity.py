"""The SAM 3 engine against `transformers`' own models and processors, on the same folder.

Upstream's detector and tracker each run a vision encoder of their own there; the engine runs one
for both. Pixels may differ only where upstream's value is within rounding of the threshold.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskwire_server.domain.concepts import ConceptPrompt
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.engines.sam3 import Sam3Engine
from maskwire_server.engines.sam3.detection import DEFAULT_SCORE_THRESHOLD
from tests.support.sam3_scenes import Scene, draw_scene
from tests.support.sam3_upstream import (
    Upstream,
    assert_same_candidates,
    assert_same_instances,
)

KINDS = (("red", "disc"), ("red", "disc"), ("blue", "square"), ("green", "triangle"))
# Every query of the network answers at this threshold, so that all of its masks are compared.
EVERYTHING = 0.0


@pytest.fixture(scope="module")
def upstream(small_sam3: Path) -> Upstream:
    return Upstream.load(small_sam3)


@pytest.fixture(scope="module", params=[(168, 168), (240, 130), (97, 211)], ids=str)
def scene(request: pytest.FixtureRequest) -> Scene:
    width, height = request.param
    return draw_scene(np.random.default_rng(11), width=width, height=height, kinds=KINDS)


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
    assert_same_instances(ours, theirs, size)


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
    assert_same_candidates(ours, logits, masks, scores, size)


def test_upstream_adds_the_sign_of_no_memory_where_nobody_reads_it(
    upstream: Upstream, scene: Scene
):
    """Once this fails, `Upstream.levels` has nothing to add any more."""
    point = {"input_points": [[[[60.0, 50.0]]]], "input_labels": [[[1]]]}
    inputs = upstream.tracker_processor(images=scene.pixels, return_tensors="pt", **point)
    del inputs["original_sizes"]
    pixels = inputs["pixel_values"]
    said = {name: inputs[name] for name in ("input_points", "input_labels")}
    with torch.inference_mode():
        as_it_is = upstream.tracker(pixel_values=pixels, **said).pred_masks
        without = upstream.tracker.get_image_embeddings(pixels)
        without_it = upstream.tracker(image_embeddings=without, **said).pred_masks
        with_it = upstream.tracker(image_embeddings=upstream.levels(pixels), **said).pred_masks
    torch.testing.assert_close(as_it_is, without_it)
    assert (as_it_is - with_it).abs().max() > 1e-2


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
