"""Automatic segmentation beside upstream's own generator: the same masks for the same settings."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from maskwire_server.domain.auto_segmentation.proposals import ProposalCriteria, measuring_size
from maskwire_server.domain.auto_segmentation.requests import AutoSegmentOptions, AutoSegmentRequest
from maskwire_server.domain.engine import ModelSpecification
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.segmentation import Caller, InlineImage
from maskwire_server.engines.sam2 import Sam2Engine, Sam2EngineFactory
from maskwire_server.engines.sam2.point_decoder import PointDecoder
from maskwire_server.engines.sam2.proposals import only_stable
from tests.support.auto_segmentation import (
    as_png,
    auto_segmentation,
    bitmaps_of,
    matched_iou,
    upstream_bitmaps,
    upstream_generator,
)
from tests.support.sam2_checkpoints import Sam2Files
from tests.support.sam2_upstream import upstream_predictor

# The logits of a random network are faint, so the offset is small and the thresholds are low.
FAINT = AutoSegmentOptions(
    points_per_side=6,
    criteria=ProposalCriteria(True, 0.0, 0.6, 0.005),
    box_nms_thresh=0.95,
    crop_nms_thresh=0.95,
    min_mask_region_area=0,
)
CASES = {
    "grid": FAINT,
    "every_mask": replace(FAINT, points_per_side=3, box_nms_thresh=1.0),
    "predicted_iou": replace(FAINT, criteria=ProposalCriteria(True, 0.48, 0.5, 0.005)),
    "one_mask_a_point": replace(
        FAINT, criteria=ProposalCriteria(False, 0.0, 0.4, 0.005), box_nms_thresh=1.0
    ),
    "crops": replace(FAINT, crop_n_layers=1, crop_n_points_downscale_factor=2),
    "clean_up": replace(FAINT, min_mask_region_area=100),
}


def discs(seed: int, count: int, width: int = 512, height: int = 384) -> NDArray[np.uint8]:
    """Discs on black: a random network's masks of them have boxes that differ."""
    random = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), dtype=np.uint8)
    for _ in range(count):
        x, y = random.integers(50, width - 50), random.integers(50, height - 50)
        colour = tuple(int(value) for value in random.integers(0, 256, 3))
        cv2.circle(picture, (int(x), int(y)), int(random.integers(12, 60)), colour, -1)
    return picture


@pytest.fixture(scope="module")
def engine(small_sam2: Sam2Files) -> Iterator[Sam2Engine]:
    loaded = Sam2EngineFactory().load(
        ModelSpecification(
            "small", "sam2", small_sam2.checkpoint, config=small_sam2.config, device="cpu"
        )
    )
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def predictor(small_sam2: Sam2Files) -> Any:
    return upstream_predictor(small_sam2)


@pytest.mark.parametrize("options", CASES.values(), ids=CASES.keys())
def test_the_masks_are_upstreams(engine: Sam2Engine, predictor: Any, options: AutoSegmentOptions):
    picture = discs(0, 10)
    with auto_segmentation(engine) as service:
        request = AutoSegmentRequest(InlineImage(as_png(picture)), options=options)
        result = asyncio.run(service.segment(request, Caller("", "")))
    theirs = upstream_bitmaps(upstream_generator(predictor, options), picture, options)
    ours = bitmaps_of(result.masks)

    assert len(theirs) >= 2, "a comparison of nothing says nothing"
    assert matched_iou(ours, theirs) >= 0.99
    for mask, bitmap in zip(result.masks, ours, strict=True):
        assert mask.area_px == bitmap.sum()


def test_the_comparison_sees_masks_that_are_missing():
    rows = np.arange(30)[:, None] // np.array([10])
    masks = [np.broadcast_to(rows == row, (30, 20)) for row in range(3)]
    assert matched_iou(masks, masks) == 1.0
    assert matched_iou(masks[:2], masks) == pytest.approx(2 / 3)
    assert matched_iou([], masks) == 0.0


@pytest.mark.parametrize("multimask", [True, False], ids=["multiple", "single"])
def test_clicks_are_decoded_as_upstream_decodes_them(
    engine: Sam2Engine, predictor: Any, multimask: bool
):
    picture = discs(3, 10)
    points = np.array([[30.5, 40.25], [400, 200], [255, 380], [511, 2]], dtype=np.float32)
    predictor.set_image(picture)
    embedding = engine.encode(picture)
    scale = torch.tensor([512 / 512, 512 / 384])
    with torch.inference_mode():
        decoder = PointDecoder(engine._network, engine._position_encoding, embedding)
        decoded = decoder.decode(
            torch.from_numpy(points) * scale, multimask=multimask, min_quality=0
        )
    expected = [predictor.predict(point[None], [1], multimask_output=multimask) for point in points]
    scores = np.concatenate([scores for _, scores, _ in expected])
    logits = np.concatenate([logits for _, _, logits in expected])
    per_click = 3 if multimask else 1
    assert decoded.clicks.tolist() == np.repeat(np.arange(4), per_click).tolist()
    np.testing.assert_allclose(decoded.qualities, scores, atol=1e-5)
    np.testing.assert_allclose(decoded.logits, logits, atol=1e-5)
    middle = float(np.sort(scores)[len(scores) // 2 - 1 :][:2].mean())
    better = scores > middle
    assert 0 < better.sum() < len(scores)
    with torch.inference_mode():
        passed = decoder.decode(
            torch.from_numpy(points) * scale, multimask=multimask, min_quality=middle
        )
    np.testing.assert_allclose(passed.logits, logits[better], atol=1e-5)


def test_what_an_accelerator_filters_is_what_the_caller_would_drop(engine: Sam2Engine):
    picture, size = discs(4, 10), ImageSize(512, 384)
    criteria = ProposalCriteria(True, 0.0, 0.7, 0.005)
    with torch.inference_mode():
        decoder = PointDecoder(engine._network, engine._position_encoding, engine.encode(picture))
        clicks = torch.rand(16, 2, generator=torch.Generator().manual_seed(0)) * 512
        decoded = decoder.decode(clicks, multimask=True, min_quality=0)
        kept = only_stable(decoded, measuring_size(size), criteria)
    resized = [cv2.resize(mask, (512, 384)) for mask in decoded.logits.numpy()]
    stability = np.array([(one > 0.005).sum() / (one > -0.005).sum() for one in resized])
    assert 0 < (stability >= 0.7).sum() < (stability >= 0.69).sum() < len(stability)
    passed = {logits.tobytes() for logits in kept.logits.numpy()}
    for logits, measured in zip(decoded.logits.numpy(), stability, strict=True):
        assert (logits.tobytes() in passed) or measured < 0.7
        assert (logits.tobytes() not in passed) or measured > 0.69
