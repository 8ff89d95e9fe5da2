"""Packed masks: nothing is lost, and overlaps are those of the bitmaps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.packed_masks import PackedMask, Window, object_window


@st.composite
def bitmaps(draw, shape=None):
    height, width = shape or (draw(st.integers(1, 20)), draw(st.integers(1, 40)))
    seed = draw(st.integers(0, 2**32 - 1))
    bitmap = np.zeros((height, width), dtype=np.bool_)
    top, left = draw(st.integers(0, height)), draw(st.integers(0, width))
    bottom, right = draw(st.integers(0, height)), draw(st.integers(0, width))
    block = bitmap[top:bottom, left:right]
    block[:] = np.random.default_rng(seed).random(block.shape) < draw(st.sampled_from([0.05, 0.6]))
    return bitmap


@settings(deadline=None, max_examples=200)
@given(bitmaps())
def test_packing_loses_nothing(bitmap):
    packed = PackedMask.pack(bitmap)
    np.testing.assert_array_equal(packed.unpack(), bitmap)
    assert packed.area_px == bitmap.sum()
    assert packed.size == ImageSize(width_px=bitmap.shape[1], height_px=bitmap.shape[0])
    if bitmap.any():
        crop = packed.crop()
        np.testing.assert_array_equal(crop, bitmap[packed.window.slices])
        assert crop.flags.c_contiguous
        for edge in (crop[0], crop[-1], crop[:, 0], crop[:, -1]):
            assert edge.any()
    else:
        assert packed.window.is_empty


@settings(deadline=None, max_examples=300)
@given(bitmaps(shape=(18, 37)), bitmaps(shape=(18, 37)))
def test_iou_is_that_of_the_bitmaps(first, second):
    union = (first | second).sum()
    expected = (first & second).sum() / union if union else 0.0
    one, two = PackedMask.pack(first), PackedMask.pack(second)
    assert one.iou(two) == two.iou(one) == pytest.approx(expected)
    for threshold in (0.0, 0.3, expected, 1.0):
        assert one.overlaps_more(two, threshold) == (one.iou(two) > threshold)


def test_a_small_object_in_a_large_image_takes_the_room_of_its_box():
    bitmap = np.zeros((4000, 4000), dtype=np.bool_)
    bitmap[1000:1100, 2003:2103] = True
    packed = PackedMask.pack(bitmap)
    assert packed.bits.nbytes <= 100 * 14
    assert packed.window == object_window(bitmap) == Window(2003, 1000, 2103, 1100)


def test_windows_grow_to_the_edge_of_the_image_and_no_further():
    window = Window(2, 3, 9, 10)
    assert window.grown(2, ImageSize(10, 20)) == Window(0, 1, 10, 12)
    assert Window.covering(ImageSize(7, 5)) == Window(0, 0, 7, 5)


def test_masks_are_equal_when_every_pixel_and_the_size_are():
    bitmap = np.zeros((20, 30), np.bool_)
    bitmap[3:9, 5:17] = True
    moved, holed = np.roll(bitmap, 8, axis=1), bitmap.copy()
    holed[5, 8] = False
    packed = PackedMask.pack(bitmap)
    assert packed.equals(PackedMask.pack(bitmap.copy()))
    for other in (moved, holed, bitmap[:19], np.zeros_like(bitmap)):
        assert not packed.equals(PackedMask.pack(np.ascontiguousarray(other)))
