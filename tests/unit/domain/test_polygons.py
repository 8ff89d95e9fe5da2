"""Outlines along pixel edges, holes, and filling of shapes that nobody checked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from maskwire_server.domain import polygons as module
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.polygons import Polygon, bitmap_to_polygons, polygons_to_bitmap

BITMAPS = hnp.arrays(
    np.bool_,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=16),
    elements=st.booleans(),
    fill=st.booleans(),
)


def ring(*coordinates: float) -> np.ndarray:
    return np.array(coordinates, dtype=np.float32).reshape(-1, 2)


def assert_survives(bitmap):
    size = ImageSize(width_px=bitmap.shape[1], height_px=bitmap.shape[0])
    back = polygons_to_bitmap(bitmap_to_polygons(bitmap), size)
    np.testing.assert_array_equal(back, bitmap)


@settings(max_examples=300, deadline=None)
@given(BITMAPS)
def test_filling_outlines_gives_the_bitmap_back_exactly(bitmap):
    assert_survives(bitmap)


@pytest.mark.parametrize("density", [0.05, 0.4, 0.6, 0.95])
def test_noise_survives_in_chunks_as_well(density, monkeypatch):
    bitmap = np.random.default_rng(2).random((90, 110)) < density
    assert_survives(bitmap)
    whole = bitmap_to_polygons(bitmap)
    monkeypatch.setattr(module, "_CHUNK", 50)
    assert_survives(bitmap)
    chunked = bitmap_to_polygons(bitmap)
    assert all(
        np.array_equal(one.outer, other.outer) for one, other in zip(chunked, whole, strict=True)
    )


@pytest.mark.parametrize("thickness", [0.6, 1.0, 3.0])
def test_thin_lines_keep_their_pixels(thickness):
    y, x = np.mgrid[:200, :260]
    circle = np.abs(np.hypot(y - 100, x - 130) - 80) < thickness
    assert circle.any()
    assert_survives(circle)


def test_a_pixel_is_a_unit_square_and_straight_edges_have_no_vertices_between():
    bitmap = np.zeros((5, 6), dtype=np.bool_)
    bitmap[2, 3] = True
    (polygon,) = bitmap_to_polygons(bitmap)
    assert {tuple(vertex) for vertex in polygon.outer.tolist()} == {(3, 2), (4, 2), (4, 3), (3, 3)}
    bitmap[1:4, 1:5] = True
    (polygon,) = bitmap_to_polygons(bitmap)
    assert {tuple(vertex) for vertex in polygon.outer.tolist()} == {(1, 1), (5, 1), (5, 4), (1, 4)}
    assert polygon.outer.dtype == np.float32
    assert polygon.holes == ()


def test_holes_belong_to_the_region_around_them():
    bitmap = np.zeros((20, 40), dtype=np.bool_)
    bitmap[1:19, 1:19] = True
    bitmap[4:9, 4:9] = False
    bitmap[12:15, 4:9] = False
    bitmap[6, 6] = True  # an island in a hole is a region of its own
    bitmap[5:15, 25:35] = True
    bitmap[8:10, 28:30] = False
    holes = {
        (tuple(one.outer.min(axis=0)), tuple(one.outer.max(axis=0))): len(one.holes)
        for one in bitmap_to_polygons(bitmap)
    }
    assert holes == {((1, 1), (19, 19)): 2, ((6, 6), (7, 7)): 0, ((25, 5), (35, 15)): 1}


def test_an_empty_bitmap_has_no_polygons():
    assert bitmap_to_polygons(np.zeros((4, 7), dtype=np.bool_)) == ()
    assert not polygons_to_bitmap((), ImageSize(7, 4)).any()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_pycocotools_fills_our_rings_to_the_same_mask():
    y, x = np.mgrid[:150, :200]
    bitmap = ((y - 70) / 50) ** 2 + ((x - 90) / 70) ** 2 < 1
    rings = [one.outer.ravel().astype(float).tolist() for one in bitmap_to_polygons(bitmap)]
    filled = coco.decode(coco.merge(coco.frPyObjects(rings, 150, 200))).astype(np.bool_)
    assert (filled & bitmap).sum() / (filled | bitmap).sum() > 0.99


def test_pixels_count_by_their_centres():
    triangle = Polygon(ring(0, 0, 4, 0, 0, 4))
    expected = [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(polygons_to_bitmap([triangle], ImageSize(4, 4)), expected)


def test_overlapping_polygons_unite_but_rings_of_one_polygon_cut_out():
    square, shifted = ring(0, 0, 4, 0, 4, 4, 0, 4), ring(2, 0, 6, 0, 6, 4, 2, 4)
    size = ImageSize(width_px=6, height_px=4)
    assert polygons_to_bitmap([Polygon(square), Polygon(shifted)], size).all()
    cut = polygons_to_bitmap([Polygon(square, (shifted,))], size)
    np.testing.assert_array_equal(cut, np.broadcast_to([1, 1, 0, 0, 1, 1], (4, 6)))


def test_shapes_beyond_the_image_are_clipped():
    huge = Polygon(ring(-1e30, -1e30, 1e30, -1e30, 1e30, 1e30, -1e30, 1e30))
    assert polygons_to_bitmap([huge], ImageSize(9, 5)).all()
    outside = Polygon(ring(50, 50, 60, 50, 60, 60))
    assert not polygons_to_bitmap([outside], ImageSize(9, 5)).any()


@pytest.mark.parametrize(
    ("outer", "rule"),
    [
        (ring(0, 0, 1, 1), "at least 3 vertices"),
        (ring(), "at least 3 vertices"),
        (ring(0, 0, 1, float("nan"), 2, 2), "finite"),
        (ring(0, 0, float("inf"), 3, 2, 2), "finite"),
    ],
)
def test_broken_rings_are_refused(outer, rule):
    with pytest.raises(MaskwireError, match=rule) as caught:
        polygons_to_bitmap([Polygon(outer)], ImageSize(8, 8), field="prompts[0].mask.polygons")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert caught.value.violations[0].field == "prompts[0].mask.polygons"


def test_edges_that_cross_too_many_rows_are_refused_before_they_are_filled():
    zigzag = np.zeros((2 * module._MAX_CROSSINGS // 10_000 + 4, 2), dtype=np.float32)
    zigzag[::2, 1] = 10_000
    with pytest.raises(MaskwireError, match="must cross at most"):
        polygons_to_bitmap([Polygon(zigzag)], ImageSize(10, 10_000))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        hnp.arrays(
            np.float32,
            st.tuples(st.integers(0, 6), st.just(2)),
            elements=st.floats(width=32, allow_nan=True, allow_infinity=True),
        ),
        max_size=4,
    )
)
def test_arbitrary_rings_fill_or_are_refused(rings):
    refused = None
    try:
        bitmap = polygons_to_bitmap([Polygon(one) for one in rings], ImageSize(12, 8))
    except MaskwireError as error:
        refused = error.code
    assert refused is ErrorCode.INVALID_ARGUMENT or bitmap.shape == (8, 12)
