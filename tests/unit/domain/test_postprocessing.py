"""Post-processing: holes, islands, smoothing, clean-up, coarse masks, and sets of masks."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.packed_masks import PackedMask
from maskwire_server.domain.postprocessing import (
    PostprocessOptions,
    ScoredMask,
    clean_bitmap,
    fill_holes,
    is_good_enough,
    remove_islands,
    to_bitmap,
    without_overlaps,
)


def blank(height=60, width=80):
    return np.zeros((height, width), dtype=np.bool_)


def square(top, bottom, left, right, height=60, width=80):
    bitmap = blank(height, width)
    bitmap[top:bottom, left:right] = True
    return bitmap


def disc(radius, height=120, width=120):
    y, x = np.mgrid[:height, :width]
    return np.asarray(np.hypot(y - height / 2, x - width / 2) < radius)


def reference_regions(bitmap):
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(
        bitmap.astype(np.uint8), connectivity=8
    )
    return [(labels == label, statistics[label, -1]) for label in range(1, count)]


def reference_filled(bitmap, area):
    filled = bitmap.copy()
    for region, size in reference_regions(~bitmap):
        if size < area:
            filled |= region
    return filled if bitmap.any() else bitmap


@st.composite
def blotches(draw):
    """Noise with structure, often touching the image's edges, sometimes far from them."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    noise = random.random((height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), draw(st.sampled_from([0.5, 1.0, 2.0])))
    bitmap = smooth > np.quantile(smooth, draw(st.sampled_from([0.3, 0.5, 0.9])))
    margin = draw(st.integers(0, 8))
    if margin:
        bitmap[:margin] = False
        bitmap[:, :margin] = draw(st.booleans())
        bitmap[-margin:] = False
    return np.ascontiguousarray(bitmap)


@settings(deadline=None, max_examples=300)
@given(blotches(), st.integers(1, 400))
def test_small_background_regions_are_filled_wherever_they_are(bitmap, area):
    np.testing.assert_array_equal(fill_holes(bitmap, area), reference_filled(bitmap, area))


@settings(deadline=None, max_examples=300)
@given(blotches(), st.integers(1, 400))
def test_small_islands_go_and_one_of_the_largest_stays(bitmap, area):
    regions = reference_regions(bitmap)
    large = [region for region, size in regions if size >= area]
    cleaned = remove_islands(bitmap, area)
    if large or not regions:
        expected = np.logical_or.reduce([blank(*bitmap.shape), *large])
        np.testing.assert_array_equal(cleaned, expected)
    else:
        assert cleaned.sum() == max(size for _, size in regions)
        assert any(np.array_equal(cleaned, region) for region, _ in regions)


def test_the_area_that_is_asked_for_is_the_first_that_stays():
    bitmap = square(10, 40, 10, 60)
    bitmap[20:24, 20:25] = False  # a hole of 20 pixels
    bitmap[50:54, 10:15] = True  # an island of 20 pixels
    assert fill_holes(bitmap, 20)[22, 22] == np.False_
    assert fill_holes(bitmap, 21)[22, 22] == np.True_
    assert remove_islands(bitmap, 20)[52, 12] == np.True_
    assert remove_islands(bitmap, 21)[52, 12] == np.False_


def test_with_nothing_to_do_the_bitmap_itself_comes_back():
    bitmap = disc(30)
    assert clean_bitmap(bitmap, PostprocessOptions()) is bitmap
    areas = PostprocessOptions(max_hole_area_px=50, min_region_area_px=50)
    assert clean_bitmap(bitmap, areas) is bitmap


@pytest.mark.parametrize(
    "options",
    [
        PostprocessOptions(max_hole_area_px=9),
        PostprocessOptions(min_region_area_px=9),
        PostprocessOptions(smoothing_radius_px=4.0),
        PostprocessOptions(morphological_cleanup=True),
        PostprocessOptions(9, 9, 4.0, True),
    ],
)
def test_no_mask_is_changed_in_place_and_none_vanishes(options):
    for bitmap in (blank(), square(5, 6, 5, 6), square(0, 60, 40, 41), disc(40) ^ disc(39)):
        before = bitmap.copy()
        cleaned = clean_bitmap(bitmap, options)
        np.testing.assert_array_equal(bitmap, before)
        assert cleaned.dtype == np.bool_
        assert cleaned.shape == bitmap.shape
        assert cleaned.any() == bitmap.any()


def test_cleaning_up_removes_specks_and_closes_cracks_but_keeps_the_shape():
    clean = disc(40)
    dirty = clean.copy()
    dirty[60, 30:90] = False
    dirty[5, 5] = True
    cleaned = clean_bitmap(dirty, PostprocessOptions(morphological_cleanup=True))
    assert not cleaned[5, 5]
    assert (cleaned & clean).sum() / (cleaned | clean).sum() > 0.99


def test_cleaning_up_leaves_the_edge_of_the_image_alone():
    bitmap = square(0, 60, 0, 40)
    for options in (
        PostprocessOptions(morphological_cleanup=True),
        PostprocessOptions(smoothing_radius_px=5.0),
    ):
        np.testing.assert_array_equal(clean_bitmap(bitmap, options), bitmap)


def test_smoothing_shortens_the_outline_and_keeps_the_area():
    random = np.random.default_rng(5)
    rough = disc(40) ^ ((random.random((120, 120)) < 0.5) & (disc(43) ^ disc(37)))
    smooth = clean_bitmap(rough, PostprocessOptions(smoothing_radius_px=3.0))

    def outline(bitmap):
        return np.count_nonzero(bitmap[:, 1:] ^ bitmap[:, :-1])

    assert outline(smooth) < outline(rough) / 2
    assert smooth.sum() == pytest.approx(disc(40).sum(), rel=0.02)


def test_coarse_masks_take_the_cell_that_each_pixel_lies_in():
    values = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    logits = MaskLogits(values, Box(0, 0, 80, 60))
    coarse = to_bitmap(logits, ImageSize(80, 60), PostprocessOptions(coarse_masks=True))
    np.testing.assert_array_equal(coarse, np.kron(values > 0, np.ones((10, 10), dtype=np.bool_)))
    fine = to_bitmap(logits, ImageSize(80, 60), PostprocessOptions())
    assert (fine != coarse).any()


def test_coarse_masks_are_false_outside_the_window_of_the_logits():
    logits = MaskLogits(np.ones((4, 4), dtype=np.float32), Box(-10, 20, 30, 100))
    coarse = to_bitmap(logits, ImageSize(80, 60), PostprocessOptions(coarse_masks=True))
    np.testing.assert_array_equal(coarse, square(20, 60, 0, 30))


def test_single_masks_are_cleaned_on_their_way_from_logits():
    values = np.full((60, 80), -5, dtype=np.float32)
    values[10:40, 10:60] = 5
    values[20, 20] = -5
    logits = MaskLogits(values, Box(0, 0, 80, 60))
    options = PostprocessOptions(max_hole_area_px=100)
    np.testing.assert_array_equal(
        to_bitmap(logits, ImageSize(80, 60), options), square(10, 40, 10, 60)
    )


def test_the_least_score_is_inclusive_and_off_by_default():
    assert is_good_enough(0.0, PostprocessOptions())
    assert is_good_enough(0.4, PostprocessOptions(min_score=0.4))
    assert not is_good_enough(0.39, PostprocessOptions(min_score=0.4))


def scored(bitmap, object_id, score):
    return ScoredMask(PackedMask.pack(bitmap), object_id, score)


def test_the_worse_of_two_overlapping_objects_goes():
    masks = [
        scored(square(0, 40, 0, 40), 1, 0.6),
        scored(square(0, 40, 2, 42), 2, 0.9),
        scored(square(50, 60, 50, 60), 3, 0.1),
    ]
    assert without_overlaps(masks, PostprocessOptions(max_overlap_iou=0.8)) == [1, 2]
    assert without_overlaps(masks, PostprocessOptions(max_overlap_iou=0.95)) == [0, 1, 2]
    assert without_overlaps(masks, PostprocessOptions()) == [0, 1, 2]


def test_masks_of_one_object_do_not_drop_each_other_and_equals_keep_their_order():
    bitmap = square(0, 40, 0, 40)
    alternatives = [scored(bitmap, 1, 0.9), scored(bitmap, 1, 0.8)]
    options = PostprocessOptions(max_overlap_iou=0.0)
    assert without_overlaps(alternatives, options) == [0, 1]
    assert without_overlaps([scored(bitmap, 2, 0.5), scored(bitmap, 1, 0.5)], options) == [0]


def test_what_was_dropped_drops_nothing():
    masks = [
        scored(square(0, 20, 0, 40), 1, 0.9),
        scored(square(0, 20, 10, 50), 2, 0.8),
        scored(square(0, 20, 20, 60), 3, 0.7),
    ]
    # 1 and 3 overlap by a third, each of them and 2 by three fifths.
    assert without_overlaps(masks, PostprocessOptions(max_overlap_iou=0.5)) == [0, 2]
