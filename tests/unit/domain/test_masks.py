"""Masks in every encoding: there and back, sizes and hostile files."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.mask_encodings import decode_png, encode_png
from maskwire_server.domain.masks import (
    EncodedPng,
    EncodedRleCounts,
    MaskEncoding,
    decode_mask,
    encode_mask,
)

ENCODINGS = [encoding for encoding in MaskEncoding if encoding is not MaskEncoding.NONE]
SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=25)


def size_of(bitmap):
    return ImageSize(width_px=bitmap.shape[1], height_px=bitmap.shape[0])


def png(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


@settings(max_examples=300, deadline=None)
@given(hnp.arrays(np.bool_, SHAPES), st.sampled_from(ENCODINGS))
def test_every_encoding_gives_the_bitmap_back(bitmap, encoding):
    back = decode_mask(encode_mask(bitmap, encoding), size_of(bitmap))
    assert back.dtype == np.bool_
    assert back.flags.c_contiguous
    np.testing.assert_array_equal(back, bitmap)


def test_there_is_no_mask_to_encode_for_none():
    with pytest.raises(ValueError, match="nothing to encode"):
        encode_mask(np.zeros((2, 2), dtype=np.bool_), MaskEncoding.NONE)


@pytest.mark.parametrize(
    ("encoding", "path"),
    [
        (MaskEncoding.COCO_RLE, "coco_rle.size"),
        (MaskEncoding.COCO_RLE_UNCOMPRESSED, "coco_rle_counts.size"),
        (MaskEncoding.PNG_1BIT, "png.data"),
        (MaskEncoding.PNG_8BIT, "png.data"),
        (MaskEncoding.POLYGONS, "polygons.size"),
    ],
)
def test_a_mask_of_another_size_is_refused_by_field_and_rule(encoding, path):
    encoded = encode_mask(np.ones((30, 40), dtype=np.bool_), encoding)
    with pytest.raises(MaskwireError) as caught:
        decode_mask(encoded, ImageSize(width_px=30, height_px=40), "prompts[1].mask.encoded")
    (violation,) = caught.value.violations
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert violation.field == f"prompts[1].mask.encoded.{path}"
    rule = "must be 30 x 40 pixels as the image is, not 40 x 30"
    assert violation.description == rule


def test_counts_that_do_not_cover_the_image_are_refused():
    encoded = EncodedRleCounts(np.array([5, 5], dtype=np.uint32), ImageSize(3, 3))
    with pytest.raises(MaskwireError, match=r"m\.coco_rle_counts\.counts: must cover 3 x 3"):
        decode_mask(encoded, ImageSize(3, 3), "m")


@pytest.mark.parametrize(("bit_depth", "mode"), [(1, "1"), (8, "L")])
def test_png_files_hold_0_and_255_for_any_reader(bit_depth, mode):
    bitmap = np.random.default_rng(0).random((33, 47)) < 0.5
    image = Image.open(io.BytesIO(encode_png(bitmap, bit_depth=bit_depth)))
    assert image.mode == mode
    np.testing.assert_array_equal(np.asarray(image.convert("L")), bitmap * 255)


def test_png_of_a_view_with_strides():
    whole = np.random.default_rng(0).random((60, 70)) < 0.5
    view = whole[3:50:2, 5:66]
    np.testing.assert_array_equal(decode_png(encode_png(view, bit_depth=1), size_of(view)), view)


@pytest.mark.parametrize("bit_depth", [1, 8])
def test_a_bitmap_read_from_a_png_can_be_written_again(bit_depth):
    """Found by fuzzing: bools of the byte 255 came out of one bit, and were written as nothing."""
    bitmap = np.random.default_rng(1).random((6, 7)) < 0.5
    read = decode_png(encode_png(bitmap, bit_depth=bit_depth), size_of(bitmap))
    assert read.view(np.uint8).max() == 1
    for again in (1, 8):
        written = encode_png(read, bit_depth=again)
        np.testing.assert_array_equal(decode_png(written, size_of(bitmap)), bitmap)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
def test_what_is_brighter_than_half_is_object(mode):
    grey = np.array([[0, 1, 127], [128, 254, 255]], dtype=np.uint8)
    data = png(Image.fromarray(grey).convert(mode))
    np.testing.assert_array_equal(decode_png(data, ImageSize(3, 2)), grey > 127)


def test_half_of_sixteen_bits_is_half():
    grey = np.array([[0, 128, 0x7FFF], [0x8000, 0x80FF, 0xFFFF]], dtype=np.uint16)
    data = png(Image.fromarray(grey))
    np.testing.assert_array_equal(decode_png(data, ImageSize(3, 2)), grey > 0x7FFF)


def test_palette_with_transparency_does_not_warn():
    data = png(Image.new("P", (4, 4)), transparency=bytes(256))
    assert not decode_png(data, ImageSize(4, 4)).any()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a\4\0\4\0\0\0\0,\0\0\0\0\4\0\4\0\0",
        encode_png(np.eye(4, dtype=np.bool_), bit_depth=8)[:40],
        encode_png(np.eye(4, dtype=np.bool_), bit_depth=8).replace(b"IDAT", b"IDAX"),
    ],
)
def test_files_that_are_no_png_are_refused(data):
    with pytest.raises(MaskwireError, match="well-formed PNG") as caught:
        decode_mask(EncodedPng(data), ImageSize(4, 4), "m")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert caught.value.violations[0].field == "m.png.data"
