"""Overlays and outlines: what is painted, and what stays."""

from __future__ import annotations

import numpy as np
import pytest

from maskwire_server.domain import overlay
from maskwire_server.domain.overlay import OverlayOptions, render_contours
from maskwire_server.domain.packed_masks import PackedMask
from maskwire_server.domain.palette import object_colour

FILL_ONLY = OverlayOptions(opacity=0.5, draw_outlines=False)


def photograph(height=60, width=80):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def rectangle(top, bottom, left, right, height=60, width=80):
    bitmap = np.zeros((height, width), dtype=np.bool_)
    bitmap[top:bottom, left:right] = True
    return bitmap


def render_overlay(pixels, bitmaps_by_object, options):
    packed = {number: PackedMask.pack(bitmap) for number, bitmap in bitmaps_by_object.items()}
    return overlay.render_overlay(pixels, packed, options)


def test_a_fill_blends_the_object_colour_inside_the_mask_and_nothing_else():
    pixels, bitmap = photograph(), rectangle(10, 30, 20, 50)
    before = pixels.copy()
    picture = render_overlay(pixels, {3: bitmap}, FILL_ONLY)
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(picture[~bitmap], pixels[~bitmap])
    expected = pixels[bitmap] * 0.5 + np.array(object_colour(3)) * 0.5
    assert np.abs(picture[bitmap] - expected).max() <= 1.0


@pytest.mark.parametrize("opacity", [0.0, 1.0])
def test_opacity_reaches_from_nothing_to_plain_colour(opacity):
    pixels, bitmap = photograph(), rectangle(0, 60, 0, 80)
    picture = render_overlay(pixels, {1: bitmap}, OverlayOptions(opacity, draw_outlines=False))
    expected = pixels if opacity == 0 else np.broadcast_to(object_colour(1), pixels.shape)
    np.testing.assert_array_equal(picture, expected)


def test_later_objects_lie_on_top_and_ids_keep_their_colours():
    pixels = np.zeros((60, 80, 3), dtype=np.uint8)
    opaque = OverlayOptions(opacity=1.0, draw_outlines=False)
    masks = {7: rectangle(0, 40, 0, 40), 2: rectangle(20, 60, 20, 60)}
    picture = render_overlay(pixels, masks, opaque)
    assert tuple(picture[5, 5]) == object_colour(7)
    assert tuple(picture[30, 30]) == object_colour(2)
    alone = render_overlay(pixels, {2: masks[2]}, opaque)
    assert tuple(alone[30, 30]) == object_colour(2)


def test_outlines_follow_the_edge_of_the_mask_only():
    pixels, bitmap = np.zeros((60, 80, 3), dtype=np.uint8), rectangle(10, 40, 10, 60)
    picture = render_overlay(pixels, {1: bitmap}, OverlayOptions(opacity=0.0))
    painted = np.asarray(picture.any(axis=2))
    assert painted[10, 10:60].all()
    assert painted[10:40, 59].all()
    assert not painted[14:36, 14:56].any()
    assert not painted[44:, 64:].any()


def test_an_empty_mask_changes_nothing():
    pixels = photograph()
    picture = render_overlay(pixels, {1: rectangle(0, 0, 0, 0)}, OverlayOptions())
    np.testing.assert_array_equal(picture, pixels)


def test_contours_are_the_overlays_outlines_without_its_fills():
    pixels, bitmap = photograph(), rectangle(10, 40, 10, 60)
    picture = render_contours(pixels, {1: PackedMask.pack(bitmap)})
    with_nothing_filled = render_overlay(pixels, {1: bitmap}, OverlayOptions(opacity=0.0))
    np.testing.assert_array_equal(picture, with_nothing_filled)
    assert (picture != pixels).any()
