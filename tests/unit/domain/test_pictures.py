"""Picture files: their formats, that they read back, and what is too large for them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.pictures import PictureFormat, check_picture, encode_picture


def read(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def two_halves() -> np.ndarray:
    pixels = np.zeros((48, 64, 3), dtype=np.uint8)
    pixels[:, :32] = (200, 60, 20)
    pixels[:, 32:] = (10, 90, 220)
    return pixels


@pytest.mark.parametrize("picture_format", list(PictureFormat))
def test_files_have_the_format_that_they_say_and_read_back(picture_format):
    pixels = two_halves()
    image = read(encode_picture(pixels, picture_format))
    assert image.format is not None
    assert Image.MIME[image.format] == picture_format.value
    difference = np.abs(np.asarray(image.convert("RGB")).astype(int) - pixels)
    assert difference.max() == 0 if picture_format is PictureFormat.PNG else difference.mean() < 4


@pytest.mark.parametrize("picture_format", [PictureFormat.JPEG, PictureFormat.WEBP])
def test_quality_trades_size(picture_format):
    pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    coarse, fine = (encode_picture(pixels, picture_format, quality) for quality in (10, 95))
    assert len(coarse) < len(fine)


@pytest.mark.parametrize("picture_format", [PictureFormat.PNG, PictureFormat.WEBP])
def test_transparency_is_kept_where_the_format_has_it(picture_format):
    pixels = np.dstack([two_halves(), np.zeros((48, 64), dtype=np.uint8)])
    pixels[10:20, :, 3] = 255
    image = read(encode_picture(pixels, picture_format))
    assert image.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(image)[..., 3], pixels[..., 3])


@pytest.mark.parametrize("picture_format", list(PictureFormat))
def test_grey_pictures_read_back(picture_format):
    grey = np.zeros((40, 30), dtype=np.uint8)
    grey[10:30, 5:20] = 255
    image = read(encode_picture(grey, picture_format, 100)).convert("L")
    np.testing.assert_array_equal(np.asarray(image) > 127, grey > 127)


def test_sixteen_bits_survive_in_png():
    labels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    image = read(encode_picture(labels, PictureFormat.PNG))
    np.testing.assert_array_equal(np.asarray(image), labels)


def test_what_is_too_large_for_a_format_is_refused_by_name():
    size = ImageSize(16_384, 1)
    check_picture(PictureFormat.PNG, size, "f")
    check_picture(PictureFormat.JPEG, size, "f")
    with pytest.raises(MaskwireError, match="at most 16383 pixels a side") as caught:
        check_picture(PictureFormat.WEBP, size, "renderings[1].format")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert caught.value.violations[0].field == "renderings[1].format"
    encode_picture(np.zeros((1, 16_383), dtype=np.uint8), PictureFormat.WEBP)
