"""What may be given as an image, and what becomes of it."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwire_client import EncodedImage, ImageReference, encode_image, load_image


def pixels_of(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_files_are_sent_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "image.jpg"
    file.write_bytes(b"whatever it is")
    digest = "sha256:" + hashlib.sha256(b"whatever it is").hexdigest()
    expected = EncodedImage(b"whatever it is", digest)
    assert load_image(file) == load_image(str(file)) == load_image(b"whatever it is") == expected
    assert load_image(expected) is expected


@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7)])
def test_arrays_are_sent_without_loss(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    loaded = load_image(pixels)
    assert isinstance(loaded, EncodedImage)
    assert np.array_equal(pixels_of(loaded.data), pixels)
    assert np.array_equal(pixels_of(encode_image(pixels[:, ::-1])), pixels[:, ::-1])


def test_jpeg_is_smaller() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    noisy = ramp ^ np.random.default_rng(0).integers(0, 8, ramp.shape, dtype=np.uint8)
    assert len(encode_image(noisy, "jpeg", quality=80)) < len(encode_image(noisy))


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA", "CMYK", "1"])
def test_pictures_of_other_modes_become_rgb(mode: str) -> None:
    loaded = load_image(Image.new(mode, (3, 2)))
    assert isinstance(loaded, EncodedImage)
    assert pixels_of(loaded.data).shape == (2, 3, 3)


@pytest.mark.parametrize(
    "address",
    ["data:image/png;base64,AAAA", "https://host/image.png", "s3://bucket/a", "sha256:" + "0" * 64],
)
def test_addresses_are_not_read(address: str) -> None:
    assert load_image(address) == ImageReference(address)


def test_an_uploaded_file_is_named_explicitly() -> None:
    reference = ImageReference("files/abc")
    assert load_image(reference) is reference
    with pytest.raises(FileNotFoundError):
        load_image("files/abc")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 4), np.uint8),
    ],
)
def test_arrays_of_another_form_are_refused(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8 of shape"):
        load_image(array)


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(TypeError, match="not int"):
        load_image(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="empty"):
        load_image(b"")
