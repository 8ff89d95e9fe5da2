"""COCO run-length encoding against pycocotools, round trips and hostile strings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pycocotools import mask as coco

from maskwire_server.domain import rle
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import ImageSize

Bitmap = NDArray[np.bool_]


def size_of(bitmap: Bitmap) -> ImageSize:
    return ImageSize(width_px=bitmap.shape[1], height_px=bitmap.shape[0])


def reference_counts(bitmap: Bitmap) -> bytes:
    counts = coco.encode(np.asfortranarray(bitmap.view(np.uint8)))["counts"]
    assert isinstance(counts, bytes)
    return counts


def blobs(height: int, width: int, seed: int) -> Bitmap:
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    bitmap = np.zeros((height, width), dtype=np.bool_)
    for _ in range(4):
        centre_y, centre_x = generator.random(2) * (height, width)
        radius_y, radius_x = (generator.random(2) * 0.4 + 0.02) * (height, width)
        bitmap ^= ((y - centre_y) / radius_y) ** 2 + ((x - centre_x) / radius_x) ** 2 < 1
    return bitmap


def noise(height: int, width: int, seed: int, density: float) -> Bitmap:
    return np.random.default_rng(seed).random((height, width)) < density


@st.composite
def bitmaps(draw: st.DrawFn) -> Bitmap:
    height, width = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    kind = draw(st.sampled_from(["array", "noise", "blobs", "empty", "full"]))
    if kind == "array":
        return draw(hnp.arrays(np.bool_, (min(height, 12), min(width, 12))))
    if kind == "noise":
        density = draw(st.sampled_from([0.001, 0.02, 0.3, 0.5, 0.97]))
        return noise(height, width, draw(st.integers(0, 2**32 - 1)), density)
    if kind == "blobs":
        return blobs(height, width, draw(st.integers(0, 2**32 - 1)))
    return np.full((height, width), kind == "full")


def assert_matches_reference(bitmap: Bitmap) -> None:
    encoded = rle.encode_rle(bitmap)
    assert encoded == reference_counts(bitmap)
    counts = rle.encode_counts(bitmap)
    assert counts.dtype == np.uint32
    assert int(counts[1::2].sum()) == int(bitmap.sum())
    np.testing.assert_array_equal(rle.decompress_counts(encoded), counts)
    np.testing.assert_array_equal(rle.decode_rle(encoded, size_of(bitmap)), bitmap)


@settings(max_examples=400, deadline=None)
@given(bitmaps())
@example(np.ones((1, 1), dtype=np.bool_))
@example(np.zeros((1, 40), dtype=np.bool_))
@example(np.ones((40, 1), dtype=np.bool_))
def test_small_bitmaps_encode_as_pycocotools_does(bitmap: Bitmap) -> None:
    assert_matches_reference(bitmap)


def test_ten_thousand_random_bitmaps_encode_as_pycocotools_does() -> None:
    random = np.random.default_rng(20261121)
    for number in range(10_000):
        height, width = (int(side) for side in random.integers(1, 96, size=2))
        if number % 20 == 0:
            height, width = height * 5, width * 5
        seed = int(random.integers(2**32))
        if number % 3 == 0:
            bitmap = blobs(height, width, seed)
        else:
            bitmap = noise(height, width, seed, density=float(random.random() ** 3))
        assert rle.encode_rle(bitmap) == reference_counts(bitmap), (number, height, width)


# Small bitmaps are transposed; these are large enough for the path that sorts runs.
@settings(max_examples=200, deadline=None)
@given(bitmaps())
def test_the_path_for_large_bitmaps_finds_the_same_runs(bitmap: Bitmap) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rle, "_SMALL_PIXELS", 0)
        patch.setattr(rle, "_DENSE_PIXELS_PER_RUN", 0)
        assert_matches_reference(bitmap)


@pytest.mark.parametrize(
    "shape", [(401, 397), (3, 70_001), (70_001, 3), (1, 150_000), (150_000, 1)]
)
@pytest.mark.parametrize("kind", ["blobs", "sparse", "noise", "full", "empty", "corner"])
def test_large_bitmaps_encode_as_pycocotools_does(shape: tuple[int, int], kind: str) -> None:
    bitmap = np.zeros(shape, dtype=np.bool_)
    if kind == "blobs":
        bitmap = blobs(*shape, seed=3)
    elif kind in ("sparse", "noise"):
        bitmap = noise(*shape, seed=4, density=0.0005 if kind == "sparse" else 0.5)
    elif kind == "full":
        bitmap[:] = True
    elif kind == "corner":
        bitmap[-1, -1] = True
    assert_matches_reference(bitmap)


def test_a_view_with_strides_encodes_like_its_copy() -> None:
    whole = noise(500, 900, seed=1, density=0.4)
    for view in (whole[10:480, 3:891], whole[::2, ::3], whole.T):
        assert rle.encode_rle(view) == reference_counts(np.ascontiguousarray(view))


@settings(max_examples=300, deadline=None)
@given(hnp.arrays(np.uint32, st.integers(1, 60)))
def test_any_counts_survive_compression(counts: NDArray[np.uint32]) -> None:
    np.testing.assert_array_equal(rle.decompress_counts(rle.compress_counts(counts)), counts)


# pycocotools itself uses a deprecated protocol of numpy when it decodes.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_runs_of_no_length_are_read_as_pycocotools_reads_them() -> None:
    counts = np.array([2, 0, 3, 4, 0, 5, 2, 0], dtype=np.uint32)
    compressed = rle.compress_counts(counts)
    expected = coco.decode({"counts": compressed, "size": [4, 4]}).astype(np.bool_)
    np.testing.assert_array_equal(rle.decode_rle(compressed, ImageSize(4, 4)), expected)


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "must not be empty"),
        (b"0\xff0", "characters '0' to 'o'"),
        (b"0 0", "characters '0' to 'o'"),
        (b"00P", "must not end in the middle"),
        (b"P" * 7 + b"0", "over 7 characters"),
        (b"P" * 1_000_000 + b"0", "over 7 characters"),
        (b"O", "from 0 to 4294967295"),
        (b"0001O", "from 0 to 4294967295"),
        (b"oooooo?", "from 0 to 4294967295"),
    ],
)
def test_malformed_strings_are_refused_with_field_and_rule(data: bytes, rule: str) -> None:
    with pytest.raises(MaskwireError) as caught:
        rle.decompress_counts(data, field="masks[2].rle.counts")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert caught.value.violations[0].field == "masks[2].rle.counts"
    assert rule in caught.value.violations[0].description


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=60) | st.text("0123456789:;<=>?@OPQRSTop", max_size=40).map(str.encode))
def test_arbitrary_strings_decode_or_are_refused(data: bytes) -> None:
    size = ImageSize(width_px=7, height_px=9)
    refused = None
    try:
        bitmap = rle.decode_rle(data, size)
    except MaskwireError as error:
        refused = error.code
    assert refused is ErrorCode.INVALID_ARGUMENT or bitmap.shape == (9, 7)


def test_runs_that_do_not_cover_the_image_are_refused_before_anything_is_allocated() -> None:
    counts = np.array([4294967295] * 3, dtype=np.uint32)
    with pytest.raises(MaskwireError, match="must cover 100000 x 100000"):
        rle.decode_rle(rle.compress_counts(counts), ImageSize(100_000, 100_000))
    with pytest.raises(MaskwireError, match="must cover 2 x 2 = 4 pixels, not 12884901885"):
        rle.decode_rle(rle.compress_counts(counts), ImageSize(2, 2))


def test_more_runs_than_pixels_are_refused() -> None:
    with pytest.raises(MaskwireError, match="at most 5 runs"):
        rle.decode_rle(b"0" * 6, ImageSize(2, 2))
    with pytest.raises(MaskwireError, match="at most 101 runs"):
        rle.decode_rle(b"PPPPPP0" * 50, ImageSize(10, 10))
