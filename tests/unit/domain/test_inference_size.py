"""Smaller copies of images: what is reduced, and that frames fall on each other exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwire_server.domain.auto_segmentation.proposals import Proposal
from maskwire_server.domain.engine import MaskCandidate, ObjectPrediction
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.inference_size import (
    enlarge_predictions,
    enlarge_proposals,
    reduce_prompts,
    reduced_size,
    shown_to_model,
)
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.prompts import ObjectPrompts

SIZE, REDUCED = ImageSize(width_px=400, height_px=300), ImageSize(width_px=100, height_px=75)

sides = st.integers(1, 16_384)


@given(sides, sides, st.integers(64, 8192))
def test_the_longest_side_is_what_was_asked_for_and_nothing_is_enlarged(width, height, longest):
    size = ImageSize(width, height)
    reduced = reduced_size(size, longest)
    if max(width, height) <= longest:
        assert reduced == size
    else:
        assert max(reduced.width_px, reduced.height_px) == longest
        assert min(reduced.width_px, reduced.height_px) >= 1
        expected = longest * min(width, height) / max(width, height)
        assert abs(min(reduced.width_px, reduced.height_px) - expected) <= 1


def test_pixels_are_averaged_over_areas_and_small_images_stay_as_they_are():
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    shown = shown_to_model(pixels, 100)
    areas = pixels.reshape(75, 4, 100, 4, 3).mean(axis=(1, 3))
    assert np.abs(shown - areas).max() <= 0.51
    assert shown_to_model(pixels, 400) is pixels
    assert shown_to_model(pixels, None) is pixels
    part = shown_to_model(pixels[10:60, 20:90], 1000)
    assert part.flags.c_contiguous
    np.testing.assert_array_equal(part, pixels[10:60, 20:90])


def test_prompts_are_brought_into_the_smaller_frame():
    bitmap = np.zeros((300, 400), dtype=np.bool_)
    bitmap[100:200, 40:80] = True
    [reduced] = reduce_prompts(
        [
            ObjectPrompts(
                object_id=3,
                points=np.array([[40.0, 30.0], [399.0, 299.0]], dtype=np.float32),
                point_labels=np.array([True, False]),
                box=Box(40, 60, 400, 300),
                mask=bitmap,
            )
        ],
        SIZE,
        REDUCED,
    )
    np.testing.assert_allclose(reduced.points, [[10, 7.5], [99.75, 74.75]])
    assert reduced.box == Box(10, 15, 100, 75)
    expected = np.zeros((75, 100), dtype=np.bool_)
    expected[25:50, 10:20] = True
    np.testing.assert_array_equal(reduced.mask, expected)
    assert (reduced.object_id, reduced.point_labels.tolist()) == (3, [True, False])


def test_a_mask_that_is_thinner_than_a_pixel_is_not_lost():
    bitmap = np.zeros((300, 400), dtype=np.bool_)
    bitmap[100, 40] = True
    nothing = np.zeros((0, 2), dtype=np.float32)
    prompts = ObjectPrompts(1, nothing, np.zeros(0, dtype=np.bool_), None, bitmap)
    [reduced] = reduce_prompts([prompts], SIZE, REDUCED)
    assert isinstance(reduced.mask, np.ndarray)
    assert reduced.mask[25, 10]
    assert reduced.mask.sum() == 1


def test_logits_go_into_the_smaller_frame_and_answers_come_back():
    logits = MaskLogits(np.ones((4, 4), dtype=np.float32), Box(40, 40, 80, 80))
    nothing = np.zeros((0, 2), dtype=np.float32)
    prompts = ObjectPrompts(1, nothing, np.zeros(0, dtype=np.bool_), None, logits)
    [reduced] = reduce_prompts([prompts], SIZE, REDUCED)
    assert isinstance(reduced.mask, MaskLogits)
    assert reduced.mask.window == Box(10, 10, 20, 20)
    answers = [ObjectPrediction(1, (MaskCandidate(reduced.mask, 0.5),))]
    [back] = enlarge_predictions(answers, REDUCED, SIZE)
    assert back.candidates[0].logits.window == logits.window
    assert back.candidates[0].predicted_iou == 0.5
    [proposal] = enlarge_proposals([Proposal(7, reduced.mask, 0.25)], REDUCED, SIZE)
    assert (proposal.point, proposal.logits.window) == (7, logits.window)


@given(sides, sides, st.integers(64, 8192))
@pytest.mark.filterwarnings("error")
def test_a_window_that_covers_the_copy_covers_the_image_exactly(width, height, longest):
    size = ImageSize(width, height)
    reduced = reduced_size(size, longest)
    logits = MaskLogits(np.zeros((2, 2), dtype=np.float32), Box.covering(reduced))
    [back] = enlarge_predictions(
        [ObjectPrediction(1, (MaskCandidate(logits, 1.0),))], reduced, size
    )
    assert back.candidates[0].logits.window == Box.covering(size)
