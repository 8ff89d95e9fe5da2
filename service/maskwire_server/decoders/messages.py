"""What the server and its decoders say to each other: small JSON objects, one a packet.

Decoders are not trusted: what comes from them is bounded in size and checked value by value.
"""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Mapping
from typing import Any

from ..domain.errors import ErrorCode, FieldViolation, MaskwireError
from ..domain.geometry import ImageSize
from ..domain.video.requests import VideoInfo

MAX_MESSAGE_BYTES = 1 << 16
_MAX_TEXT = 8192
_CODES = {
    code.name: code
    for code in (ErrorCode.INVALID_ARGUMENT, ErrorCode.PAYLOAD_TOO_LARGE, ErrorCode.DATA_LOSS)
}

Fields = Mapping[str, Any]


def encode(fields: Fields) -> bytes:
    """Write a message."""
    return json.dumps(fields).encode()


def decode(data: bytes) -> dict[str, Any]:
    """Read a message.

    Raises:
        ValueError: It is none.
    """
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError("no message") from error
    if not isinstance(fields, dict):
        raise ValueError("no message: it is an object")
    return fields


def receive(connection: socket.socket) -> dict[str, Any] | None:
    """Return the next message; None where the other side is gone."""
    data = connection.recv(MAX_MESSAGE_BYTES)
    return decode(data) if data else None


def error_to_fields(error: MaskwireError) -> dict[str, Any]:
    """Write an error about a file."""
    return {
        "code": error.code.name,
        "message": error.message[:_MAX_TEXT],
        "rules": [[one.field[:_MAX_TEXT], one.description[:_MAX_TEXT]] for one in error.violations],
    }


def error_from_fields(fields: Any) -> MaskwireError:
    """Read an error about a file.

    Raises:
        ValueError: It is none that a decoder may report.
    """
    match fields:
        case {"code": str(code), "message": str(message), "rules": [*rules]} if code in _CODES:
            violations = tuple(_violation(rule) for rule in rules[:1])
            return MaskwireError(_CODES[code], message[:_MAX_TEXT], violations=violations)
    raise ValueError("no error of a decoder")


def _violation(rule: Any) -> FieldViolation:
    match rule:
        case [str(field), str(description)]:
            return FieldViolation(field=field, description=description)
    raise ValueError("no rule")


def shape_from_fields(fields: Any, most_values: int) -> tuple[int, int, int]:
    """Read the shape of an array of three channels.

    Raises:
        ValueError: It is no shape, or of more values than that.
    """
    match fields:
        case [int(height), int(width), 3] if height > 0 and width > 0:
            if height * width * 3 <= most_values:
                return height, width, 3
    raise ValueError("no shape within the limits")


def video_to_fields(info: VideoInfo, readable_frames: int, *, is_whole: bool) -> dict[str, Any]:
    """Write what a video is."""
    return {
        "size": [info.size.width_px, info.size.height_px],
        "frame_count": info.frame_count,
        "frames_per_second": info.frames_per_second,
        "duration_s": info.duration_s,
        "digest": info.digest,
        "readable_frames": readable_frames,
        "is_whole": is_whole,
    }


def video_from_fields(fields: Any, max_side_px: int) -> tuple[VideoInfo, int, bool]:
    """Read what a video is, the number of readable frames and whether it is whole.

    Raises:
        ValueError: It is malformed.
    """
    match fields:
        case {
            "size": [int(width), int(height)],
            "frame_count": (int() | None) as frame_count,
            "frames_per_second": (float() | int()) as rate,
            "duration_s": (float() | int()) as duration_s,
            "digest": str(digest),
            "readable_frames": int(readable),
            "is_whole": bool(is_whole),
        } if (
            0 < width <= max_side_px
            and 0 < height <= max_side_px
            and readable >= 0
            and math.isfinite(rate)
            and math.isfinite(duration_s)
        ):
            size = ImageSize(width, height)
            info = VideoInfo(size, frame_count, float(rate), float(duration_s), digest)
            return info, readable, is_whole
    raise ValueError("no video")
