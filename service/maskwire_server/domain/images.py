"""Decoding of untrusted image bytes into RGB pixels, within limits that the header must meet first.

Pillow reads the headers and decodes everything but JPEG, for which OpenCV takes a third of its time
at 12 MP and gives the same bits. The one plugin of the file's format is called directly:
`Image.open` would consult process-wide limits and warn. Where the bytes come from (uploads,
digests, URIs other than `data:`) is not known here.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import io
import urllib.parse
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin
from PIL.ExifTags import Base as ExifTag
from PIL.Image import DecompressionBombError
from PIL.ImageFile import ImageFile

from .errors import ErrorCode, FieldViolation, MaskwireError, invalid_field
from .geometry import ImageSize

_MAX_JPEG_SCANS = 500  # a progressive JPEG costs a pass over all pixels for each scan
_START_OF_SCAN = b"\xff\xda"
_DEFAULT_FIELD = "image.data"


class ImageFormat(enum.Enum):
    """The image formats that are accepted, by media type."""

    JPEG = "image/jpeg"
    PNG = "image/png"
    WEBP = "image/webp"
    GIF = "image/gif"
    AVIF = "image/avif"


_PLUGINS: dict[ImageFormat, type[ImageFile]] = {
    ImageFormat.JPEG: JpegImagePlugin.JpegImageFile,
    ImageFormat.PNG: PngImagePlugin.PngImageFile,
    ImageFormat.WEBP: WebPImagePlugin.WebPImageFile,
    ImageFormat.GIF: GifImagePlugin.GifImageFile,
    ImageFormat.AVIF: AvifImagePlugin.AvifImageFile,
}


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
    return _open(data, limits, field)[1]


def identify_format(data: bytes, *, field: str = _DEFAULT_FIELD) -> ImageFormat:
    """Return the format of an untrusted file by its signature.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` where it is none of the accepted ones.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return ImageFormat.JPEG
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return ImageFormat.PNG
    if data.startswith((b"GIF87a", b"GIF89a")):
        return ImageFormat.GIF
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ImageFormat.WEBP
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis", b"mif1", b"msf1"):
        return ImageFormat.AVIF
    raise invalid_field(field, "must be a JPEG, PNG, WebP, GIF or AVIF image")


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
    image, header = _open(data, limits, field)
    try:
        if header.format is ImageFormat.JPEG and image.mode != "CMYK":
            pixels = _decode_with_opencv(data)
        else:
            pixels = _decode_with_pillow(image)
    except MemoryError:
        raise
    except Exception as error:  # whatever a decoder trips over is the file's fault
        raise invalid_field(field, _describe(header.format, error)) from error
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
        check_bytes(len(body) - 2 * body.count("%"), limits, field)
        return urllib.parse.unquote_to_bytes(body)
    check_bytes(len(body) // 4 * 3 - body[-2:].count("="), limits, field)
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise invalid_field(field, "must hold well-formed base64") from None


def check_file(data: bytes, limits: ImageLimits, field: str) -> ImageFormat:
    """Check what can be told of an untrusted file without parsing it, and return its format.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` where it is empty, of a format that is not accepted, or a
            JPEG of far too many scans; `PAYLOAD_TOO_LARGE`.
    """
    if not data:
        raise invalid_field(field, "must not be empty")
    check_bytes(len(data), limits, field)
    image_format = identify_format(data, field=field)
    if image_format is ImageFormat.JPEG and data.count(_START_OF_SCAN) > _MAX_JPEG_SCANS:
        raise invalid_field(field, f"must have at most {_MAX_JPEG_SCANS} scans")
    return image_format


def _open(data: bytes, limits: ImageLimits, field: str) -> tuple[ImageFile, ImageHeader]:
    """Read and check a header; no pixel is decoded yet."""
    image_format = check_file(data, limits, field)
    try:
        image = _PLUGINS[image_format](io.BytesIO(data))
    except DecompressionBombError as error:  # GIF and WebP check as they open
        raise _too_large(field, "its pixels exceed what can be decoded") from error
    except MemoryError:
        raise
    except Exception as error:  # whatever a parser trips over is the file's fault
        raise invalid_field(field, _describe(image_format, error)) from error
    width, height = image.size
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
    orientation = _orientation(image)
    if orientation >= 5:
        width, height = height, width
    return image, ImageHeader(image_format, ImageSize(width, height), orientation)


def _orientation(image: ImageFile) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where there is none or it makes no sense."""
    try:
        value = image.getexif().get(ExifTag.Orientation)
    except Exception:  # malformed metadata says nothing about the pixels
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def check_bytes(size_bytes: int, limits: ImageLimits, field: str) -> None:
    """Refuse encoded images that are too large.

    Raises:
        MaskwireError: `PAYLOAD_TOO_LARGE`.
    """
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


def _decode_with_pillow(image: ImageFile) -> NDArray[np.uint8]:
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
