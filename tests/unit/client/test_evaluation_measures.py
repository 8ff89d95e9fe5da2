"""The measures of masks: against their definitions, written out the slow way."""

from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from maskwire_client.evaluation import (
    boundary_f,
    boundary_tolerance_px,
    deepest_pixel,
    iou,
    outline,
    squared_distances,
)


def rectangle(height: int, width: int, *edges: int) -> np.ndarray:
    """A mask with a rectangle: left, top, right, bottom, half open."""
    mask = np.zeros((height, width), dtype=np.bool_)
    left, top, right, bottom = edges
    mask[top:bottom, left:right] = True
    return mask


def random_mask(seed: int, height: int, width: int) -> np.ndarray:
    """A few blots, or nothing."""
    rng = np.random.default_rng(seed)
    smooth = cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), rng.uniform(0.5, 3))
    return smooth > rng.uniform(0.5, 1.2) * smooth.std()


masks = st.builds(
    random_mask, st.integers(0, 10_000), st.integers(min_value=1, max_value=24), st.just(17)
)


@settings(deadline=None)
@given(masks)
def test_distances_are_exact(mask: np.ndarray) -> None:
    if not mask.any():
        assert squared_distances(mask).min() > mask.shape[0] ** 2 + mask.shape[1] ** 2
        return
    expected = np.rint(ndimage.distance_transform_edt(~mask) ** 2).astype(int)
    assert np.array_equal(squared_distances(mask), expected)
    limited = squared_distances(mask, 3)
    assert np.array_equal(limited[expected <= 9], expected[expected <= 9])
    assert (limited[expected > 9] > 9).all()


@settings(deadline=None)
@given(masks)
def test_the_deepest_pixel_is_farthest_from_the_outside(mask: np.ndarray) -> None:
    found = deepest_pixel(mask)
    if not mask.any():
        assert found is None
        return
    depths = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(depths.argmax()), depths.shape)
    depth = round(float(depths[row, column]) ** 2)
    assert found == (int(column), int(row), depth)


def test_iou() -> None:
    truth = rectangle(20, 30, 0, 0, 10, 10)
    assert iou(truth, truth) == 1
    assert iou(rectangle(20, 30, 5, 0, 15, 10), truth) == pytest.approx(50 / 150)
    assert iou(np.zeros_like(truth), truth) == 0
    assert iou(np.zeros_like(truth), np.zeros_like(truth)) == 1


def test_pixels_of_which_nothing_is_known_do_not_count() -> None:
    truth, answer = rectangle(20, 30, 0, 0, 10, 10), rectangle(20, 30, 0, 0, 10, 15)
    assert iou(answer, truth) < 1
    void = rectangle(20, 30, 0, 10, 10, 15)
    assert iou(answer, truth, void) == 1
    assert boundary_f(answer, truth, void) == 1


def outline_by_definition(mask: np.ndarray) -> set[tuple[int, int]]:
    height, width = mask.shape
    found = set()
    for row, column in itertools.product(range(height), range(width)):
        neighbours = [(row, column + 1), (row + 1, column), (row + 1, column + 1)]
        for y, x in neighbours:
            y, x = min(y, height - 1), min(x, width - 1)
            if mask[y, x] != mask[row, column]:
                found.add((row, column))
    return found


def f_by_definition(answer: np.ndarray, truth: np.ndarray) -> float:
    """Every pixel of one outline against every one of the other."""
    tolerance = math.ceil(0.008 * math.sqrt(truth.shape[0] ** 2 + truth.shape[1] ** 2))
    found, wanted = outline_by_definition(answer), outline_by_definition(truth)
    if not found and not wanted:
        return 1.0
    if not found or not wanted:
        return 0.0

    def part_near(lines: set[tuple[int, int]], others: set[tuple[int, int]]) -> float:
        apart = np.array(sorted(lines))[:, None] - np.array(sorted(others))[None]
        return float(((apart**2).sum(axis=2) <= tolerance**2).any(axis=1).mean())

    precision, recall = part_near(found, wanted), part_near(wanted, found)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@settings(deadline=None)
@given(masks)
def test_the_outline_is_where_a_pixel_differs_from_its_neighbours(mask: np.ndarray) -> None:
    assert set(zip(*(axis.tolist() for axis in np.nonzero(outline(mask))), strict=True)) == (
        outline_by_definition(mask)
    )


@pytest.mark.parametrize(
    ("answer", "truth"),
    [
        ((10, 10, 30, 30), (10, 10, 30, 30)),
        ((11, 10, 31, 30), (10, 10, 30, 30)),
        ((12, 12, 32, 32), (10, 10, 30, 30)),
        ((14, 10, 40, 22), (10, 10, 30, 30)),
        ((0, 0, 60, 20), (0, 0, 60, 21)),
        ((0, 0, 60, 40), (5, 5, 20, 20)),
        ((50, 30, 60, 40), (0, 0, 8, 8)),
        ((0, 0, 0, 0), (5, 5, 20, 20)),
        ((5, 5, 20, 20), (0, 0, 0, 0)),
        ((0, 0, 0, 0), (0, 0, 0, 0)),
    ],
)
def test_f_of_rectangles(answer: tuple[int, ...], truth: tuple[int, ...]) -> None:
    masks = rectangle(40, 60, *answer), rectangle(40, 60, *truth)
    assert boundary_f(*masks) == pytest.approx(f_by_definition(*masks))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(8, 24), st.integers(8, 160))
def test_f_of_any_masks(first: int, second: int, height: int, width: int) -> None:
    answer, truth = random_mask(first, height, width), random_mask(second, height, width)
    assert boundary_f(answer, truth) == pytest.approx(f_by_definition(answer, truth))


def test_f_worked_out_by_hand() -> None:
    # Both begin at the left edge of the picture, where there is no outline. The truth's has 40
    # pixels above (row 19), 40 below (row 59) and 39 between them (column 39); the answer's 40
    # above (row 17), 40 below (row 62) and 44 between.
    truth, answer = rectangle(100, 100, 0, 20, 40, 60), rectangle(100, 100, 0, 18, 40, 63)
    assert boundary_tolerance_px(100, 100) == 2
    # Of the answer's, the line below is 3 px off; of the truth's as well, but for 3 pixels, which
    # are near the answer's column.
    precision, recall = (40 + 44) / 124, (40 + 39 + 3) / 119
    expected = 2 * precision * recall / (precision + recall)
    assert boundary_f(answer, truth) == pytest.approx(expected)


def test_f_with_dilated_outlines_as_the_benchmark_computes_it() -> None:
    answer, truth = random_mask(3, 480, 854), random_mask(4, 480, 854)
    assert boundary_tolerance_px(480, 854) == 8
    y, x = np.mgrid[-8:9, -8:9]
    disc = (x**2 + y**2 <= 64).astype(np.uint8)
    found, wanted = outline(answer), outline(truth)
    near_wanted = cv2.dilate(wanted.astype(np.uint8), disc).astype(np.bool_)
    near_found = cv2.dilate(found.astype(np.uint8), disc).astype(np.bool_)
    precision = (found & near_wanted).sum() / found.sum()
    recall = (wanted & near_found).sum() / wanted.sum()
    expected = 2 * precision * recall / (precision + recall)
    assert boundary_f(answer, truth) == pytest.approx(expected)
