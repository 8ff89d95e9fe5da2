"""Where a second pass looks, what it asks there, and how its answers come back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from maskwire_server.domain.engine import MaskCandidate, ObjectPrediction
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.packed_masks import Window
from maskwire_server.domain.prompts import ObjectPrompts, PromptKind
from maskwire_server.domain.refinement_windows import (
    LARGEST_SHARE,
    MARGIN,
    SMALLEST_PX,
    FirstMask,
    SharedWindow,
    merged,
    plan_windows,
    prompts_inside,
)

SIZE = ImageSize(width_px=1000, height_px=600)
ALL = frozenset({PromptKind.POINT, PromptKind.BOX, PromptKind.MASK})
MASK = Box(400, 200, 500, 260)


def logits(box: Box, size: ImageSize = SIZE) -> MaskLogits:
    """A box as a mask, on a grid of ten pixels a cell over the whole image."""
    values = np.full((size.height_px // 10, size.width_px // 10), -6, np.float32)
    rows = slice(int(box.y_min) // 10, int(box.y_max) // 10)
    columns = slice(int(box.x_min) // 10, int(box.x_max) // 10)
    values[rows, columns] = 6
    return MaskLogits(values, Box.covering(size))


def prediction(box: Box, object_id: int = 1, score: float = 0.5) -> ObjectPrediction:
    return ObjectPrediction(object_id, (MaskCandidate(logits(box), score),))


def said(*points: tuple[float, float, bool], box: Box | None = None) -> ObjectPrompts:
    return ObjectPrompts(
        object_id=1,
        points=np.array([point[:2] for point in points], np.float32).reshape(-1, 2),
        point_labels=np.array([point[2] for point in points], np.bool_),
        box=box,
        mask=None,
    )


def planned(*predictions: ObjectPrediction, prompts=None, masks=16, objects=64):
    return plan_windows(predictions, prompts or {}, SIZE, masks, objects)


def test_the_window_is_a_square_with_a_margin_around_the_mask():
    (window,) = planned(prediction(MASK))
    assert window.area == Window(375, 155, 525, 305)
    assert window.size == ImageSize(150, 150)


def test_foreground_points_beyond_the_mask_are_seen_too_and_background_points_need_not_be():
    points = said((600.0, 230.0, True), (100.0, 100.0, False))
    (window,) = planned(prediction(MASK), prompts={1: points})
    assert window.area == Window(350, 80, 650, 380)


@pytest.mark.parametrize(
    ("left", "top", "width", "height"),
    [
        (0, 0, 1, 1),
        (95, 55, 5, 5),
        (50, 0, 40, 8),
        (97, 2, 3, 30),
        (10, 20, 44, 30),
        (0, 30, 45, 9),
    ],
)
def test_a_window_lies_in_the_image_holds_the_mask_and_is_smaller(left, top, width, height):
    right, bottom = min(left + width, 100), min(top + height, 60)
    box = Box(left * 10, top * 10, right * 10, bottom * 10)
    windows = planned(prediction(box))
    side = max(SMALLEST_PX, round(MARGIN * max(box.width, box.height)))
    assert bool(windows) == (side <= LARGEST_SHARE * 1000)
    for window in windows:
        area = window.area
        assert 0 <= area.left <= box.x_min < box.x_max <= area.right <= SIZE.width_px
        assert 0 <= area.top <= box.y_min < box.y_max <= area.bottom <= SIZE.height_px


def test_a_mask_that_fills_the_image_or_is_empty_is_not_looked_at():
    assert planned(prediction(Box(100, 0, 600, 600)), prediction(Box(0, 0, 0, 0))) == []


def test_tiny_masks_get_a_window_that_shows_something():
    (window,) = planned(prediction(Box(0, 0, 10, 10)))
    assert window.area == Window(0, 0, SMALLEST_PX, SMALLEST_PX)


def test_masks_that_lie_close_together_share_a_window():
    near, apart = Box(410, 210, 500, 260), Box(800, 210, 900, 260)
    windows = planned(prediction(MASK, 1), prediction(near, 2), prediction(apart, 3))
    masks = [[question.mask.prediction for question in window.questions] for window in windows]
    assert sorted(masks) == [[0, 1], [2]]
    assert len(planned(prediction(MASK, 1), prediction(MASK, 2), objects=1)) == 2


def test_a_small_mask_does_not_share_the_window_of_a_large_one():
    assert (
        len(planned(prediction(Box(400, 200, 700, 400)), prediction(Box(500, 250, 560, 300)))) == 2
    )


def test_of_too_many_masks_the_best_are_drawn_anew():
    boxes = [Box(left, 100, left + 60, 160) for left in (0, 300, 600)]
    several = [prediction(box, 1, score) for box, score in zip(boxes, (0.2, 0.9, 0.5), strict=True)]
    several.append(replace(prediction(Box(900, 0, 960, 60)), confidence=0.7))
    kept = {one.mask for window in planned(*several, masks=2) for one in window.questions}
    assert kept == {FirstMask(1, 0), FirstMask(3, 0)}


def asked(prompts: ObjectPrompts | None, kinds: frozenset[PromptKind] = ALL) -> ObjectPrompts:
    (window,) = planned(prediction(MASK), prompts=None if prompts is None else {1: prompts})
    (inside,) = prompts_inside(window, kinds)
    return inside


def test_prompts_move_into_the_window_and_what_lies_outside_is_left_out():
    inside = asked(said((450.5, 230.5, True), (380.0, 160.0, False), (100.0, 100.0, False)))
    assert inside.points.tolist() == [[75.5, 75.5], [5.0, 5.0]]
    assert inside.point_labels.tolist() == [True, False]
    assert inside.box is None
    assert isinstance(inside.mask, MaskLogits)
    assert inside.mask.window == Box(-375, -155, 625, 445)
    assert inside.mask.to_bitmap(ImageSize(150, 150)).sum() == pytest.approx(100 * 60, rel=0.01)


def test_a_box_is_cut_off_at_the_edges_of_the_window():
    assert asked(said(box=Box(390, 100, 900, 250))).box == Box(15, 0, 150, 95)


def test_a_box_outside_the_window_gives_way_to_that_of_the_mask():
    assert asked(said(box=Box(800, 400, 900, 500))).box == Box(25, 45, 125, 105)


def test_what_a_concept_found_is_asked_by_its_mask_and_box():
    inside = asked(None)
    assert inside.box == Box(25, 45, 125, 105)
    assert inside.mask is not None


def test_background_points_alone_do_not_name_an_object():
    assert asked(said((410.0, 210.0, False))).box == Box(25, 45, 125, 105)


def test_a_model_without_mask_prompts_is_told_the_box_of_the_mask():
    inside = asked(said((450.0, 230.0, True)), frozenset({PromptKind.POINT, PromptKind.BOX}))
    assert (inside.mask, inside.box) == (None, Box(25, 45, 125, 105))


def answered(box: Box, values: np.ndarray, least: float = 0.5):
    """Merge an answer over a box of the window (150 x 150, from 375, 155) with the mask."""
    (window,) = planned(prediction(MASK))
    answer = ObjectPrediction(1, (MaskCandidate(MaskLogits(values, box), 0.8),))
    return window, merged(window, [answer], least)


def inner(rows: slice, columns: slice, size: int = 150) -> np.ndarray:
    values = np.full((size, size), -4, np.float32)
    values[rows, columns] = 4
    return values


def test_the_answer_comes_back_in_the_frame_of_the_image():
    window, drawn = answered(Box(0, 0, 150, 150), inner(slice(40, 105), slice(25, 125)))
    candidate = drawn[FirstMask(0, 0)]
    assert candidate.is_refined
    assert candidate.predicted_iou == 0.8
    rows, columns = np.nonzero(candidate.logits.to_bitmap(SIZE))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (195, 259, 400, 499)
    assert candidate.logits.window == window.box


def test_an_answer_that_reaches_beyond_the_window_is_cut_off_there():
    """An engine that zooms in may answer for more than the picture that it was shown."""
    window, drawn = answered(Box(-150, -150, 150, 150), np.full((100, 100), 3, np.float32), 0.0)
    logits_of = drawn[FirstMask(0, 0)].logits
    assert logits_of.window == window.box
    assert logits_of.values.shape == (50, 50)
    assert logits_of.to_bitmap(SIZE).sum() == 150 * 150


def test_what_is_empty_or_another_object_leaves_the_first_mask():
    whole = Box(0, 0, 150, 150)
    assert answered(whole, inner(slice(0, 0), slice(0, 0)), 0.0)[1] == {}
    assert answered(whole, inner(slice(0, 40), slice(0, 150)), 0.0)[1] == {}
    assert answered(whole, inner(slice(0, 150), slice(0, 150)))[1] == {}
    assert answered(Box(500, 500, 600, 600), np.full((4, 4), 3, np.float32), 0.0)[1] == {}


def test_a_shared_window_keeps_its_questions_apart():
    window = SharedWindow(Window(0, 0, 10, 10))
    assert window.questions is not SharedWindow(Window(0, 0, 10, 10)).questions
