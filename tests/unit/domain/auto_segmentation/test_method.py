"""Grid, crops, suppression and clean-up against upstream's own functions, and the pool's bounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sam2.utils import amg
from torchvision.ops import nms

from maskwire_server.domain.auto_segmentation.box_suppression import suppress
from maskwire_server.domain.auto_segmentation.finishing import choose, clean
from maskwire_server.domain.auto_segmentation.point_grid import (
    Crop,
    crops,
    point_grid,
    points_per_side,
)
from maskwire_server.domain.auto_segmentation.proposal_pool import (
    Candidate,
    HeldLogits,
    ProposalPool,
    measure,
)
from maskwire_server.domain.auto_segmentation.proposals import (
    Proposal,
    ProposalCriteria,
    measuring_size,
)
from maskwire_server.domain.auto_segmentation.requests import AutoSegmentOptions
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.packed_masks import Window
from maskwire_server.domain.postprocessing import PostprocessOptions

SIDES = st.integers(8, 3000)


@settings(deadline=None)
@given(SIDES, SIDES, st.integers(0, 4), st.floats(0, 0.9))
def test_crops_are_upstreams(width, height, layers, overlap_ratio):
    boxes, numbers = amg.generate_crop_boxes((height, width), layers, overlap_ratio)
    expected = [
        (layer, tuple(box))
        for box, layer in zip(boxes, numbers, strict=True)
        if box[2] > box[0] and box[3] > box[1]
    ]
    found = [
        (crop.layer, (crop.window.left, crop.window.top, crop.window.right, crop.window.bottom))
        for crop in crops(ImageSize(width, height), layers, overlap_ratio)
    ]
    assert found == expected


@pytest.mark.parametrize(("per_side", "factor"), [(1, 1), (8, 2), (32, 3), (33, 2)])
def test_grids_are_upstreams(per_side, factor):
    size = ImageSize(640, 427)
    layers = 3 if per_side > 8 else 0
    expected = amg.build_all_layer_point_grids(per_side, layers, factor)
    for layer, grid in enumerate(expected):
        points = point_grid(points_per_side(layer, per_side, factor), size)
        np.testing.assert_allclose(points, grid * [640, 427], rtol=1e-6)


def test_a_grid_has_at_least_one_point():
    assert points_per_side(4, 8, 8) == 1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 120), st.sampled_from([0.0, 0.3, 0.7, 1.0]))
def test_suppression_is_torchvisions(seed, count, threshold):
    random = np.random.default_rng(seed)
    corners = random.integers(0, 60, (count, 2))
    boxes = np.concatenate([corners, corners + random.integers(1, 40, (count, 2))], 1)
    boxes = boxes.astype(np.float32)
    scores = random.integers(0, 12, count).astype(np.float32)  # with ties
    expected = nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold)
    assert suppress(boxes, scores, threshold).tolist() == expected.tolist()


def blobs(seed: int, side: int = 64) -> MaskLogits:
    """Smooth logits with islands and holes of all sizes."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=(side // 4, side // 4)).astype(np.float32)
    values = torch.nn.functional.interpolate(
        torch.from_numpy(noise)[None, None], (side, side), mode="bicubic"
    )[0, 0].numpy()
    values = (values + random.normal(scale=0.4, size=(side, side))).astype(np.float32)
    return MaskLogits(values, Box(0, 0, 200, 150))


SIZE = ImageSize(200, 150)
WHOLE = Crop(0, Window.covering(SIZE))
POINTS = point_grid(2, SIZE)


def candidate(logits: MaskLogits, predicted_iou: float = 0.9) -> Candidate:
    [found] = measure(
        [Proposal(0, logits, predicted_iou)],
        POINTS,
        WHOLE,
        SIZE,
        ProposalCriteria(stability_score_thresh=0.0),
    )
    return found


@pytest.mark.parametrize("seed", range(8))
def test_measures_are_upstreams(seed):
    logits = blobs(seed)
    full = torch.nn.functional.interpolate(
        torch.from_numpy(logits.values)[None, None], (150, 200), mode="bilinear"
    )[0]
    found = candidate(MaskLogits(logits.values, logits.window))
    expected = amg.calculate_stability_score(full, 0.0, 1.0)
    assert found.stability_score == pytest.approx(float(expected[0]), abs=2e-4)
    assert found.box.tolist() == amg.batched_mask_to_box(full > 0)[0].tolist()


@pytest.mark.parametrize("seed", range(8))
def test_what_is_held_of_logits_gives_the_same_bitmap(seed):
    values = blobs(seed).values
    values[:20] = values[:, -9:] = -3.0
    logits = MaskLogits(values, Box(0, 0, 200, 150))
    held = HeldLogits.of(logits)
    assert held.values.size < values.size
    np.testing.assert_array_equal(held.restore().to_bitmap(SIZE), logits.to_bitmap(SIZE))


def test_masks_at_the_edge_of_a_crop_are_upstreams():
    size, crop = ImageSize(400, 300), Window(100, 0, 300, 200)
    random = np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        left, top = random.integers(0, 150, 2)
        width, height = random.integers(5, 200, 2)
        box = [left, top, min(left + width, 199), min(top + height, 199)]
        values = np.full((200, 200), -5.0, dtype=np.float32)
        values[box[1] : box[3] + 1, box[0] : box[2] + 1] = 5.0
        proposal = Proposal(0, MaskLogits(values, Box(0, 0, 200, 200)), 0.9)
        found = measure([proposal], POINTS, Crop(1, crop), size, ProposalCriteria())
        expected = amg.is_box_near_crop_edge(
            torch.tensor([box]), [100, 0, 300, 200], [0, 0, 400, 300]
        )
        assert bool(found) != bool(expected[0])
        seen.add(bool(found))
        if found:
            assert found[0].box.tolist() == [box[0] + 100, box[1], box[2] + 100, box[3]]
            assert found[0].point.x == POINTS[0, 0] + 100
    assert seen == {True, False}


@pytest.mark.parametrize("seed", range(6))
def test_clean_up_of_small_regions_is_upstreams(seed):
    one = candidate(MaskLogits(blobs(seed).values, Box(0, 0, 200, 150)))
    bitmap = one.logits.restore().to_bitmap(SIZE)
    mask, holes = amg.remove_small_regions(bitmap, 100, mode="holes")
    mask, islands = amg.remove_small_regions(mask, 100, mode="islands")
    [cleaned] = clean([one], SIZE, 100, PostprocessOptions())
    np.testing.assert_array_equal(cleaned.mask.unpack(), mask)
    assert cleaned.was_changed == (holes or islands)


def square(left: int, top: int, side: int, speck: bool = False) -> MaskLogits:
    values = np.full((150, 200), -5.0, dtype=np.float32)
    values[top : top + side, left : left + side] = 5.0
    if speck:
        values[top + side + 4, left] = 5.0
    return MaskLogits(values, Box(0, 0, 200, 150))


def test_of_duplicates_the_one_that_needed_no_clean_up_stays():
    worse = candidate(square(20, 20, 40), 0.7)
    better_with_speck = candidate(square(20, 20, 40, speck=True), 0.9)
    other = candidate(square(120, 60, 50), 0.8)
    cleaned = clean([better_with_speck, other, worse], SIZE, 20, PostprocessOptions())
    options = AutoSegmentOptions(min_mask_region_area=20)
    chosen = choose(cleaned, options, PostprocessOptions())
    assert [one.candidate for one in chosen] == [other, worse]
    best = choose(cleaned, AutoSegmentOptions(max_masks=1), PostprocessOptions(min_score=0.75))
    assert [one.candidate for one in best] == [better_with_speck]


def test_a_pool_beyond_its_budget_drops_duplicates_first_then_the_worst():
    squares = [(10, 10, 30, 0.9), (11, 10, 30, 0.8), (80, 20, 30, 0.7), (140, 60, 30, 0.6)]
    candidates = [candidate(square(x, y, side), score) for x, y, side, score in squares]
    held = candidates[0].logits.values.nbytes

    def chosen(budget: int) -> list[float]:
        pool = ProposalPool(box_nms_thresh=0.7, crop_nms_thresh=0.7, budget_bytes=budget)
        pool.start_crop(WHOLE)
        for one in candidates:
            pool.add([one])
        pool.finish_crop()
        return [one.predicted_iou for one in pool.chosen()]

    assert chosen(100 * held) == [0.9, 0.7, 0.6]
    assert chosen(3 * held) == [0.9, 0.7, 0.6]
    assert chosen(2 * held) == [0.9, 0.7]
    assert chosen(held - 1) == []


def test_between_crops_the_smaller_one_is_preferred():
    pool = ProposalPool(box_nms_thresh=0.7, crop_nms_thresh=0.7, budget_bytes=1 << 30)
    whole, part = candidate(square(30, 30, 40), 0.9), candidate(square(30, 30, 40), 0.6)
    pool.start_crop(WHOLE)
    pool.add([whole])
    pool.finish_crop()
    assert pool.chosen() == [whole]
    pool.start_crop(Crop(1, Window(0, 0, 120, 90)))
    pool.add([part])
    assert pool.chosen() == [part]
    pool.finish_crop()
    assert pool.chosen() == [part]


def test_large_images_are_measured_at_a_bounded_size():
    assert measuring_size(ImageSize(1000, 20)) == ImageSize(1000, 20)
    assert measuring_size(ImageSize(4096, 2)) == ImageSize(1024, 1)
    logits = MaskLogits(square(50, 50, 60).values, Box(0, 0, 8000, 6000))
    size = ImageSize(8000, 6000)
    [found] = measure(
        [Proposal(3, logits, 0.9)], POINTS, Crop(0, Window.covering(size)), size, ProposalCriteria()
    )
    np.testing.assert_allclose(found.box, [2000, 2000, 4399, 4399], atol=16)


def test_masks_without_a_pixel_are_no_candidates():
    nothing = MaskLogits(np.full((8, 8), -9.0, dtype=np.float32), Box(0, 0, 200, 150))
    criteria = ProposalCriteria(stability_score_thresh=0.0)
    assert measure([Proposal(0, nothing, 0.9)], POINTS, WHOLE, SIZE, criteria) == []
