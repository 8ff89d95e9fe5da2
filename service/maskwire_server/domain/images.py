"""Decoding of untrusted image bytes into RGB pixels, within limits that the header must meet first.

JPEG goes through OpenCV (bit-equal to Pillow, under half its time at 12 MP), everything else
through the one Pillow plugin of its format, called directly: `Image.open` would consult
process-wide limits and warn. The structure of the files is read in `image_headers.py`; where the
bytes come from (uploads, digests, URIs other than `data:`) is not known here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import urllib.parse
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin
from PIL.ImageFile import ImageFile

from .errors import ErrorCode, FieldViolation, MaskwireError, invalid_field
from .geometry import ImageSize
from .image_headers import (
    ImageFormat,
    StoredImage,
    UnreadableImageError,
    orientation_of,
    read_stored_image,
)

_PLUGINS: dict[ImageFormat, type[ImageFile]] = {
    ImageFormat.JPEG: JpegImagePlugin.JpegImageFile,
    ImageFormat.PNG: PngImagePlugin.PngImageFile,
    ImageFormat.WEBP: WebPImagePlugin.WebPImageFile,
    ImageFormat.GIF: GifImagePlugin.GifImageFile,
    ImageFormat.AVIF: AvifImagePlugin.AvifImageFile,
}
_DEFAULT_FIELD = "image.data"


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What an image may be at most.

    Attributes:
        max_bytes: Size of the encoded file.
        max_pixels: Width times height.
        max_side_px: Width and height each.
    """

    max_bytes: int = 50_000_000
    max_pixels: int = 50_000_000
    max_side_px: int = 16_384


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What an image is, known before it is decoded.

    Attributes:
        format: The format of the file.
        size: Width and height after the EXIF orientation is applied.
        orientation: The EXIF orientation, 1 (upright) to 8.
    """

    format: ImageFormat
    size: ImageSize
    orientation: int

    @property
    def content_type(self) -> str:
        """Media type of the file, e.g. `image/jpeg`."""
        return self.format.value


def read_header(data: bytes, limits: ImageLimits, *, field: str = _DEFAULT_FIELD) -> ImageHeader:
    """Check an untrusted image from its header alone.

    Args:
        data: The encoded file.
        limits: What it may be at most.
        field: Path of the bytes in the request, for errors.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` where the bytes are empty, in another format than JPEG,
            PNG, WebP, GIF and AVIF, or malformed; `PAYLOAD_TOO_LARGE` where a limit is exceeded.
    """
    return _read(data, limits, field)[1]


def decode_image(
    data: bytes, limits: ImageLimits, *, field: str = _DEFAULT_FIELD
) -> NDArray[np.uint8]:
    """Decode an untrusted image as people see it.

    The EXIF orientation is applied, the first frame is taken, grey and palette images become RGB,
    16-bit values keep their high byte, CMYK is converted without a profile. Transparency is
    dropped, not composited: the colours stored beneath it show, as in Pillow's `convert("RGB")`,
    which is what segmentation models are fed with elsewhere.

    Args:
        data: The encoded file.
        limits: What it may be at most; checked before anything is decoded.
        field: Path of the bytes in the request, for errors.

    Returns:
        Shape (height, width, 3), uint8, RGB, contiguous.

    Raises:
        MaskwireError: As `read_header`; `INVALID_ARGUMENT` also where the data is cut off.
    """
    stored, header = _read(data, limits, field)
    try:
        if stored.format is ImageFormat.JPEG and stored.channels != 4:
            pixels = _decode_with_opencv(data)
        else:
            pixels = _decode_with_pillow(stored)
    except MemoryError:
        raise
    except Exception as error:  # whatever a decoder trips over is the file's fault
        raise invalid_field(field, _describe(stored.format, error)) from error
    upright = _apply_orientation(pixels, header.orientation)
    if upright.shape != (header.size.height_px, header.size.width_px, 3):
        raise invalid_field(field, "must hold an image of the size that its header states")
    return upright


def image_digest(data: bytes) -> str:
    """Return the name that image bytes go by: `sha256:` and 64 hexadecimal digits."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def parse_data_uri(uri: str, limits: ImageLimits, *, field: str = "image.uri") -> bytes:
    """Return the bytes that a `data:` URI holds; their size is checked before they are decoded.

    Args:
        uri: `data:[<media type>][;base64],<data>`; the media type is not relied upon.
        limits: `max_bytes` bounds what it may hold.
        field: Path of the URI in the request, for errors.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` where it is no data URI or its base64 is malformed;
            `PAYLOAD_TOO_LARGE` where it holds too many bytes.
    """
    head, comma, body = uri.partition(",")
    if not comma or not head[:5].lower() == "data:":
        raise invalid_field(field, "must have the form data:<media type>;base64,<data>")
    if not head.lower().endswith(";base64"):
        _check_bytes(len(body) - 2 * body.count("%"), limits, field)
        return urllib.parse.unquote_to_bytes(body)
    _check_bytes(len(body) // 4 * 3 - body[-2:].count("="), limits, field)
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise invalid_field(field, "must hold well-formed base64") from None


def _read(data: bytes, limits: ImageLimits, field: str) -> tuple[StoredImage, ImageHeader]:
    """Read and check a header."""
    if not data:
        raise invalid_field(field, "must not be empty")
    _check_bytes(len(data), limits, field)
    try:
        stored = read_stored_image(data)
    except UnreadableImageError as error:
        raise invalid_field(field, str(error)) from error
    width, height, exif = stored.width_px, stored.height_px, stored.exif
    if stored.format is ImageFormat.AVIF:
        try:
            image = AvifImagePlugin.AvifImageFile(io.BytesIO(data))
        except MemoryError:
            raise
        except Exception as error:
            raise invalid_field(field, _describe(stored.format, error)) from error
        (width, height), exif = image.size, image.info.get("exif", b"")
    if width < 1 or height < 1:
        raise invalid_field(field, "must be at least 1 pixel wide and high")
    if max(width, height) > limits.max_side_px:
        raise _too_large(
            field, f"{width} x {height} pixels exceed the limit of {limits.max_side_px} px a side"
        )
    if width * height > limits.max_pixels:
        raise _too_large(
            field,
            f"{width} x {height} = {width * height} pixels exceed the limit of {limits.max_pixels}",
        )
    orientation = orientation_of(exif)
    if orientation >= 5:
        width, height = height, width
    return stored, ImageHeader(stored.format, ImageSize(width, height), orientation)


def _check_bytes(size_bytes: int, limits: ImageLimits, field: str) -> None:
    if size_bytes > limits.max_bytes:
        raise _too_large(field, f"{size_bytes} bytes exceed the limit of {limits.max_bytes}")


def _too_large(field: str, rule: str) -> MaskwireError:
    return MaskwireError(
        ErrorCode.PAYLOAD_TOO_LARGE,
        f"{field}: {rule}",
        violations=(FieldViolation(field=field, description=rule),),
    )


def _describe(image_format: ImageFormat, error: Exception) -> str:
    """Return the rule that a file broke in a decoder; the decoder's own words stay in the log."""
    if isinstance(error, EOFError) or "truncated" in str(error):
        return f"must be a complete {image_format.name} image: it is cut off"
    return f"must be a well-formed {image_format.name} image"


def _decode_with_opencv(data: bytes) -> NDArray[np.uint8]:
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    if pixels is None:
        raise OSError("truncated or corrupt")
    return np.asarray(pixels, dtype=np.uint8)


def _decode_with_pillow(stored: StoredImage) -> NDArray[np.uint8]:
    image = _PLUGINS[stored.format](io.BytesIO(stored.essence))
    image.load()
    if image.mode.startswith("I"):  # 16 bits; convert() would clip instead of scale
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    image.info.pop("transparency", None)  # convert() warns of what it drops
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _apply_orientation(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn stored pixels upright: the inverse of what each EXIF value says was done to them."""
    match orientation:
        case 2:
            turned = cv2.flip(pixels, 1)
        case 3:
            turned = cv2.rotate(pixels, cv2.ROTATE_180)
        case 4:
            turned = cv2.flip(pixels, 0)
        case 5:
            turned = cv2.transpose(pixels)
        case 6:
            turned = cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE)
        case 7:
            turned = cv2.rotate(cv2.transpose(pixels), cv2.ROTATE_180)
        case 8:
            turned = cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE)
        case _:
            return pixels
    return np.asarray(turned, dtype=np.uint8)
