"""Overlay pictures: what is painted, what stays, and that files read back."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from maskwire_server.domain.overlay import (
    OverlayOptions,
    PictureFormat,
    encode_picture,
    object_colour,
    picture_content_type,
    render_overlay,
)

FILL_ONLY = OverlayOptions(opacity=0.5, draw_outlines=False)


def photograph(height=60, width=80):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def rectangle(top, bottom, left, right, height=60, width=80):
    bitmap = np.zeros((height, width), dtype=np.bool_)
    bitmap[top:bottom, left:right] = True
    return bitmap


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
    assert len({object_colour(number) for number in range(1, 8)}) == 7
    assert object_colour(0) in {object_colour(number) for number in range(1, 8)}


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


@pytest.mark.parametrize("picture_format", list(PictureFormat))
def test_files_have_the_format_that_they_say_and_read_back(picture_format):
    pixels = np.zeros((48, 64, 3), dtype=np.uint8)
    pixels[:, :32] = (200, 60, 20)
    pixels[:, 32:] = (10, 90, 220)
    image = Image.open(io.BytesIO(encode_picture(pixels, picture_format)))
    assert image.format is not None
    assert Image.MIME[image.format] == picture_content_type(picture_format)
    difference = np.abs(np.asarray(image.convert("RGB")).astype(int) - pixels)
    assert difference.max() == 0 if picture_format is PictureFormat.PNG else difference.mean() < 4


@pytest.mark.parametrize("picture_format", [PictureFormat.JPEG, PictureFormat.WEBP])
def test_quality_trades_size(picture_format):
    pixels = photograph(128, 128)
    coarse, fine = (encode_picture(pixels, picture_format, quality) for quality in (10, 95))
    assert len(coarse) < len(fine)
