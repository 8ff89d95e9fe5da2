"""Which kind of video file some bytes are, and whether the file is all there.

Looks at signatures and at the lengths that the outermost parts of a file state; what is inside is
for `video_reader.py`.
"""

from __future__ import annotations

import enum
import os
import struct
from typing import BinaryIO

from ..errors import invalid_field
from ..geometry import ImageSize

_MAX_BOXES = 1 << 16
_GIF_TRAILER = b";"
_EBML_HEADER = b"\x1a\x45\xdf\xa3"
_MATROSKA_SEGMENT = b"\x18\x53\x80\x67"
_WEBM_HEADER_BYTES = 128


class VideoFormat(enum.Enum):
    """The video formats that are read, by media type."""

    MP4 = "video/mp4"
    WEBM = "video/webm"
    GIF = "image/gif"


def identify_video(file: BinaryIO, *, field: str) -> VideoFormat:
    """Return the format of an untrusted file by its signature.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` where it is none of those that are read.
    """
    head = _read(file, 0, _WEBM_HEADER_BYTES)
    if head[4:8] == b"ftyp":
        return VideoFormat.MP4
    if head.startswith(_EBML_HEADER) and b"webm" in head:
        return VideoFormat.WEBM
    if head.startswith((b"GIF87a", b"GIF89a")):
        return VideoFormat.GIF
    raise invalid_field(field, "must be an MP4, WebM or GIF video")


def gif_size(file: BinaryIO) -> ImageSize:
    """Return the size that a GIF's header states; 0 where it is cut off."""
    head = _read(file, 6, 4).ljust(4, b"\0")
    width, height = struct.unpack("<HH", head)
    return ImageSize(width, height)


def is_cut_off(file: BinaryIO, video_format: VideoFormat) -> bool:
    """Whether a file states that it is longer than it is."""
    size = file.seek(0, os.SEEK_END)
    match video_format:
        case VideoFormat.MP4:
            return _mp4_end(file, size) > size
        case VideoFormat.WEBM:
            return _webm_end(file) > size
        case VideoFormat.GIF:
            tail = _read(file, max(0, size - 64), 64)
            return not tail.rstrip(b"\0").endswith(_GIF_TRAILER)


def _mp4_end(file: BinaryIO, size: int) -> int:
    """Return where the last of a file's boxes ends."""
    end = 0
    for _ in range(_MAX_BOXES):
        if end >= size:
            break
        head = _read(file, end, 16)
        if len(head) < 8:
            return size + 1
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        if length < 8:  # 0: up to the end of the file; anything else makes no sense
            break
        end += length
    return end


def _webm_end(file: BinaryIO) -> int:
    """Return where a file's segment ends; 0 where it does not say."""
    head = _read(file, 0, 4 + 8)
    length = _ebml_length(head[4:])
    if length is None:
        return 0
    start = 4 + _length_width(head[4]) + length
    head = _read(file, start, 4 + 8)
    if not head.startswith(_MATROSKA_SEGMENT):
        return 0
    length = _ebml_length(head[4:])
    return 0 if length is None else start + 4 + _length_width(head[4]) + length


def _length_width(first_byte: int) -> int:
    """Return how many bytes an EBML length takes: one more than its leading zero bits."""
    return 9 - first_byte.bit_length()


def _ebml_length(data: bytes) -> int | None:
    """Return the length that `data` begins with; None where it is cut off or left open."""
    width = _length_width(data[0]) if data else 0
    if not 1 <= width <= min(8, len(data)):
        return None
    every_bit = (1 << 7 * width) - 1
    length = int.from_bytes(data[:width], "big") & every_bit
    return None if length == every_bit else length


def _read(file: BinaryIO, offset: int, count: int) -> bytes:
    file.seek(offset)
    return file.read(count)
