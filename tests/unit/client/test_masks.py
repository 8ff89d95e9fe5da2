"""Decoding masks: against pycocotools, against the server's encoders, and refusing nonsense."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from pycocotools import mask as pycocotools_mask

from maskwire_client import (
    CocoRle,
    CocoRleCounts,
    ImageSize,
    Mask,
    PngMask,
    Polygon,
    PolygonMask,
)
from maskwire_server.domain import polygons as server_polygons

# pycocotools itself warns so when it decodes, under numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BITMAPS = npst.arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40)))


def size_of(bitmap: np.ndarray) -> ImageSize:
    return ImageSize(width_px=bitmap.shape[1], height_px=bitmap.shape[0])


@given(BITMAPS)
def test_compressed_counts_of_pycocotools_decode_to_the_bitmap(bitmap: np.ndarray) -> None:
    encoded = pycocotools_mask.encode(np.asfortranarray(bitmap.astype(np.uint8)))
    mask = CocoRle(size_of(bitmap), encoded["counts"])
    assert np.array_equal(mask.decode(), bitmap)
    assert mask.to_coco() == {"size": list(bitmap.shape), "counts": encoded["counts"].decode()}


def test_long_runs_decode() -> None:
    bitmap = np.zeros((3000, 5000), dtype=np.bool_)
    bitmap[1000:2500, 17:4000] = True
    encoded = pycocotools_mask.encode(np.asfortranarray(bitmap.astype(np.uint8)))
    assert np.array_equal(CocoRle(size_of(bitmap), encoded["counts"]).decode(), bitmap)


@given(BITMAPS)
def test_run_lengths_encode_and_decode(bitmap: np.ndarray) -> None:
    mask = CocoRleCounts.encode(bitmap)
    assert np.array_equal(mask.decode(), bitmap)
    reference = pycocotools_mask.frPyObjects(mask.to_coco(), *bitmap.shape)
    assert np.array_equal(pycocotools_mask.decode(reference).astype(np.bool_), bitmap)


@given(BITMAPS)
def test_png_encodes_and_decodes(bitmap: np.ndarray) -> None:
    assert np.array_equal(PngMask.encode(bitmap).decode(), bitmap)


@given(BITMAPS)
def test_the_servers_polygons_decode_to_the_bitmap(bitmap: np.ndarray) -> None:
    polygons = tuple(
        Polygon(
            outer=tuple(polygon.outer.ravel().tolist()),
            holes=tuple(tuple(hole.ravel().tolist()) for hole in polygon.holes),
        )
        for polygon in server_polygons.bitmap_to_polygons(bitmap)
    )
    assert np.array_equal(PolygonMask(size_of(bitmap), polygons).decode(), bitmap)


def test_overlapping_polygons_are_united() -> None:
    square = (1.0, 1.0, 4.0, 1.0, 4.0, 4.0, 1.0, 4.0)
    mask = PolygonMask(ImageSize(6, 6), (Polygon(square), Polygon(square)))
    assert mask.decode().sum() == 9


def test_a_polygon_that_reaches_beyond_the_image_is_clipped() -> None:
    square = (-10.0, -10.0, 3.0, -10.0, 3.0, 20.0, -10.0, 20.0)
    bitmap = PolygonMask(ImageSize(6, 4), (Polygon(square),)).decode()
    assert np.array_equal(bitmap, np.tile([True] * 3 + [False] * 3, (4, 1)))


@pytest.mark.parametrize(
    "counts",
    [b"", b"0", b"!!", b"P", b"PPPPPPPP0", bytes([255])],
)
def test_counts_that_are_no_mask_are_refused(counts: bytes) -> None:
    with pytest.raises(ValueError, match="mask"):
        CocoRle(ImageSize(4, 4), counts).decode()


@given(st.binary(max_size=40))
def test_any_counts_decode_or_are_refused(counts: bytes) -> None:
    try:
        bitmap = CocoRle(ImageSize(5, 7), counts).decode()
    except ValueError:
        return
    assert bitmap.shape == (7, 5)


def test_a_picture_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="PNG"):
        PngMask(b"no picture").decode()


def test_the_bitmap_is_decoded_once_and_cannot_be_changed() -> None:
    encoded = CocoRleCounts.encode(np.eye(4, dtype=np.bool_))
    mask = Mask(index=0, object_id=1, area_px=4, encoded=encoded)
    assert mask.bitmap is mask.bitmap
    with pytest.raises(ValueError, match="read-only"):
        mask.bitmap[0, 0] = False


def test_a_mask_that_was_not_sent_says_so() -> None:
    with pytest.raises(ValueError, match="NONE"):
        _ = Mask(index=0, object_id=1, area_px=4).bitmap
