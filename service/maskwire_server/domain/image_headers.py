"""What the first bytes of an untrusted image say: format, stored size, EXIF orientation.

Nothing here decodes pixels or allocates by what a header claims, and every loop over a file's
parts is capped. It also cuts a file down to the parts that a decoder needs, so that metadata
(compressed text, colour profiles, malformed EXIF) never reaches one. Limits and decoding live in
`images.py`.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

_MAX_PARTS = 65_536  # chunks or segments of one file
_MAX_JPEG_SCANS = 500  # a progressive JPEG costs a pass over all pixels for each scan
_EXIF_PREFIX = b"Exif\0\0"
_ORIENTATION_TAG = 0x0112


class ImageFormat(enum.Enum):
    """The image formats that are accepted, by media type."""

    JPEG = "image/jpeg"
    PNG = "image/png"
    WEBP = "image/webp"
    GIF = "image/gif"
    AVIF = "image/avif"


class UnreadableImageError(Exception):
    """The bytes are not a well-formed image; the text says what is wrong with them."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """What a file holds, before orientation is applied.

    Attributes:
        format: The format that the bytes are in.
        width_px: Stored width; 0 for AVIF, whose decoder reads the boxes.
        height_px: Stored height; 0 for AVIF.
        exif: The TIFF structure of its EXIF block, or nothing.
        channels: Colour components of a JPEG (4 is CMYK); 0 for the other formats.
        essence: The file without metadata, for a decoder.
    """

    format: ImageFormat
    width_px: int
    height_px: int
    exif: bytes
    channels: int
    essence: bytes


def detect_format(data: bytes) -> ImageFormat | None:
    """Return the format by the file's signature, or None for any other."""
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
    return None


def read_stored_image(data: bytes) -> StoredImage:
    """Read the structure of an image file.

    Raises:
        UnreadableImageError: Where the format is unknown or the file is cut off or malformed.
    """
    image_format = detect_format(data)
    try:
        match image_format:
            case ImageFormat.JPEG:
                return _read_jpeg(data)
            case ImageFormat.PNG:
                return _read_png(data)
            case ImageFormat.WEBP:
                return _read_webp(data)
            case ImageFormat.GIF:
                return _read_gif(data)
            case ImageFormat.AVIF:
                return StoredImage(ImageFormat.AVIF, 0, 0, b"", 0, data)
            case None:
                raise UnreadableImageError("must be a JPEG, PNG, WebP, GIF or AVIF image")
    except (struct.error, IndexError):
        raise UnreadableImageError("is cut off in its header") from None


def orientation_of(exif: bytes) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where there is none or it makes no sense."""
    exif = exif.removeprefix(_EXIF_PREFIX)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (offset,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, offset)
        for entry in range(offset + 2, offset + 2 + count * 12, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, entry)
            if tag == _ORIENTATION_TAG:
                return value if kind == 3 and 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


def _read_jpeg(data: bytes) -> StoredImage:
    """Walk the segments up to the first scan; keep all but application data and comments."""
    if data.count(b"\xff\xda") > _MAX_JPEG_SCANS:
        raise UnreadableImageError(f"must have at most {_MAX_JPEG_SCANS} scans")
    frames: list[tuple[int, int, int]] = []
    exif, kept, position = b"", [data[:2]], 2
    for _ in range(_MAX_PARTS):
        marker = _jpeg_marker(data, position)
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker == 0xDA:
            break
        (length,) = struct.unpack_from(">H", data, position + 2)
        segment = data[position : position + 2 + length]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frames.append(struct.unpack_from(">HHB", data, position + 5))
        elif marker == 0xE1 and segment[4:10] == _EXIF_PREFIX:
            exif = exif or segment[10:]
        # APP0 (JFIF) and APP14 (Adobe) say which colour space it is.
        if marker < 0xE0 or marker in (0xE0, 0xEE):
            kept.append(segment)
        position += 2 + length
    else:
        raise UnreadableImageError(f"must have at most {_MAX_PARTS} segments")
    if len(frames) != 1:
        raise UnreadableImageError("must have one JPEG frame header")
    (height, width, channels), rest = frames[0], data[position:]
    return StoredImage(ImageFormat.JPEG, width, height, exif, channels, b"".join([*kept, rest]))


def _jpeg_marker(data: bytes, position: int) -> int:
    """Return the marker's second byte."""
    if data[position] != 0xFF:
        raise UnreadableImageError("has no JPEG marker where one must be")
    return data[position + 1]


def _read_png(data: bytes) -> StoredImage:
    """Walk the chunks; keep the critical ones and transparency."""
    if data[12:16] != b"IHDR":
        raise UnreadableImageError("must begin with a PNG header chunk")
    width, height = struct.unpack_from(">II", data, 16)
    exif, kept, position = b"", [data[:8]], 8
    for _ in range(_MAX_PARTS):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise UnreadableImageError("is cut off")
        if kind == b"eXIf" and not exif:
            exif = data[position + 8 : end - 4]
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            kept.append(data[position:end])
        if kind == b"IEND":
            return StoredImage(ImageFormat.PNG, width, height, exif, 0, b"".join(kept))
        position = end
    raise UnreadableImageError(f"must have at most {_MAX_PARTS} chunks")


def _read_webp(data: bytes) -> StoredImage:
    """Read the canvas from the first chunk and look for an EXIF chunk."""
    (riff_size,) = struct.unpack_from("<I", data, 4)
    if riff_size + 8 > len(data):
        raise UnreadableImageError("is cut off")
    kind = data[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    elif kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", data, 21)
        width, height = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    else:
        raise UnreadableImageError("must begin with a WebP image chunk")
    exif, position = b"", 12
    for _ in range(_MAX_PARTS):
        if position + 8 > riff_size + 8 or kind != b"VP8X":
            return StoredImage(ImageFormat.WEBP, width, height, exif, 0, data)
        name, length = struct.unpack_from("<4sI", data, position)
        if name == b"EXIF":
            exif = data[position + 8 : position + 8 + length]
        position += 8 + length + (length & 1)
    raise UnreadableImageError(f"must have at most {_MAX_PARTS} chunks")


def _read_gif(data: bytes) -> StoredImage:
    """Return the size of the canvas, grown to hold a first frame that reaches beyond it."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    in_extension = False
    for _ in range(_MAX_PARTS):
        introducer = data[position]
        if in_extension:  # a sub-block, of length 0 at the end
            in_extension = introducer > 0
            position += 1 + introducer
        elif introducer == 0x21:
            in_extension = True
            position += 2
        elif introducer == 0x2C:
            left, top, columns, rows = struct.unpack_from("<HHHH", data, position + 1)
            width, height = max(width, left + columns), max(height, top + rows)
            return StoredImage(ImageFormat.GIF, width, height, b"", 0, data)
        else:
            raise UnreadableImageError("has no GIF frame")
    raise UnreadableImageError(f"must have at most {_MAX_PARTS} blocks before its first frame")
