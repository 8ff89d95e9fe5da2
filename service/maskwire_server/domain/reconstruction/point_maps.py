"""Reading of untrusted point maps and depth maps into points of the camera frame.

A pixel's point is unknown, NaN in all coordinates, where a coordinate is NaN or infinite, the point
does not lie in front of the camera, it is farther than 1,000 km, or it is seen at more than 89.4°
from the optical axis. Files are read by `arrays`, and 16-bit pictures by Pillow.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import PngImagePlugin

from ..errors import invalid_field, too_large
from ..geometry import ImageSize
from .arrays import read_array
from .camera import unproject_depth
from .geometry import Intrinsics

LEAST_POINTS = 16
"""Fewest known points of an object: a square of side 4. With fewer, a single wrong measurement
decides how deep and how large an object is."""

_FARTHEST_M = 1e6
_NEAREST_M = 1e-6
_STEEPEST_SLOPE = 100.0
_ROWS_AT_ONCE = 256
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER_BYTES = 33
_PNG_GREYSCALE = 0


def read_point_map(data: bytes, size: ImageSize, field: str, max_bytes: int) -> NDArray[np.float32]:
    """Read a point map: NPY, or NPZ with one array, of shape (height, width, 3).

    Args:
        data: The file.
        size: The image's size.
        field: Path of the bytes in the request, for errors.
        max_bytes: Most bytes of the file and of its values.

    Returns:
        Shape (height, width, 3), float32, metres in the camera frame, NaN where unknown; at least
        one point is known.

    Raises:
        MaskwireError: As `arrays.read_array`; `INVALID_ARGUMENT` also where no point is known.
    """
    values = read_array(data, (size.height_px, size.width_px, 3), field, max_bytes)
    points = np.empty(values.shape, np.float32)
    for rows in _row_blocks(size):
        points[rows] = _to_float32(values[rows])
    return _with_known_points(points, field)


def read_depth_map(
    data: bytes, size: ImageSize, intrinsics: Intrinsics, unit_m: float, field: str, max_bytes: int
) -> NDArray[np.float32]:
    """Read a depth map: NPY, or NPZ with one array, of shape (height, width); or 16-bit grey PNG.

    Args:
        data: The file.
        size: The image's size.
        intrinsics: The camera.
        unit_m: Metres of one step of a PNG's values; arrays are in metres whatever it is.
        field: Path of the bytes in the request, for errors.
        max_bytes: Most bytes of the file and of its values.

    Returns:
        As `read_point_map`.

    Raises:
        MaskwireError: As `read_point_map`; the same codes for a PNG that is malformed, has another
            size or depth, or is too large.
    """
    if data.startswith(PNG_SIGNATURE):
        depth = _read_png(data, size, field, max_bytes).astype(np.float32)
        depth *= np.float32(unit_m)
    else:
        values = read_array(data, (size.height_px, size.width_px), field, max_bytes)
        depth = _to_float32(values)
    with np.errstate(over="ignore", invalid="ignore"):
        points = unproject_depth(depth, intrinsics)
    return _with_known_points(points, field)


def check_points(
    points: NDArray[np.float32], masks: Sequence[NDArray[np.bool_]], field: str
) -> None:
    """Refuse objects of which too little is known.

    Args:
        points: Shape (height, width, 3), as `read_point_map` returns it.
        masks: One for each object, shape (height, width), bool.
        field: Path of the masks in the request, for errors.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` naming the first mask with less than `LEAST_POINTS` known
            points.
    """
    known = np.isfinite(points[..., 2])
    for index, mask in enumerate(masks):
        count = int(np.count_nonzero(known & mask))
        if count < LEAST_POINTS:
            raise invalid_field(
                f"{field}[{index}]",
                f"must cover at least {LEAST_POINTS} pixels with a known point; it covers {count}",
            )


def _with_known_points(points: NDArray[np.float32], field: str) -> NDArray[np.float32]:
    """Set what is unknown to NaN, in place, and refuse a map without any point."""
    height, width = points.shape[:2]
    any_known = False
    for rows in _row_blocks(ImageSize(width, height)):
        block = points[rows]
        depth = block[..., 2]
        lateral = np.abs(block[..., :2]).max(axis=2)  # NaN where either is
        known = (depth >= _NEAREST_M) & (depth <= _FARTHEST_M)
        known &= (lateral <= _FARTHEST_M) & (lateral / _STEEPEST_SLOPE <= depth)
        block[~known] = np.nan
        any_known = any_known or bool(known.any())
    if not any_known:
        raise invalid_field(field, "must hold at least one finite point in front of the camera")
    return points


def _row_blocks(size: ImageSize) -> list[slice]:
    """Return blocks of rows, so that what is computed on the way stays small."""
    return [
        slice(start, min(start + _ROWS_AT_ONCE, size.height_px))
        for start in range(0, size.height_px, _ROWS_AT_ONCE)
    ]


def _to_float32(values: NDArray[np.floating]) -> NDArray[np.float32]:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return values.astype(np.float32)


def _read_png(data: bytes, size: ImageSize, field: str, max_bytes: int) -> NDArray[np.uint16]:
    """Read a 16-bit greyscale PNG of the image's size."""
    if max(len(data), size.pixels * 2) > max_bytes:
        raise too_large(field, f"its bytes or pixels exceed the limit of {max_bytes} bytes")
    if len(data) < _PNG_HEADER_BYTES:
        raise invalid_field(field, "must be a complete PNG image: it is cut off")
    bits, color_type = data[24], data[25]
    if (bits, color_type) != (16, _PNG_GREYSCALE):
        raise invalid_field(field, "must be a PNG image of 16 bits a pixel, greyscale")
    expected = (size.width_px, size.height_px)
    try:
        image = PngImagePlugin.PngImageFile(io.BytesIO(data))
        if image.size == expected:
            image.load()
            values = np.asarray(image)
    except MemoryError:
        raise
    except Exception as error:  # whatever a decoder trips over is the file's fault
        raise invalid_field(field, "must be a well-formed, complete PNG image") from error
    if image.size != expected:
        raise invalid_field(field, f"must be {expected[0]} x {expected[1]} pixels, as the image is")
    return values.astype(np.uint16)
