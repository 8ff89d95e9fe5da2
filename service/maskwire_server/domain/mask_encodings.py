"""Masks as PNG files, written and read back; run-length encoding and polygons have modules of
their own (`rle.py`, `polygons.py`), and `masks.py` chooses between them.
"""

from __future__ import annotations

import io

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import PngImagePlugin

from .errors import invalid_field
from .geometry import ImageSize

# At 4032² OpenCV takes 16 ms and 34 kB for one bit (Pillow 27 ms), 21 ms and 100 kB for eight
# without row filters, which cost 95 ms and save nothing on two values.
_ONE_BIT = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_BILEVEL, 1]
_EIGHT_BIT = [
    cv2.IMWRITE_PNG_COMPRESSION,
    1,
    cv2.IMWRITE_PNG_FILTER,
    cv2.IMWRITE_PNG_FILTER_NONE,
]


def encode_png(bitmap: NDArray[np.bool_], *, bit_depth: int) -> bytes:
    """Return a greyscale PNG of a bitmap.

    Args:
        bitmap: Shape (height, width), bool.
        bit_depth: 1 (object is 1, shown white) or 8 (object is 255).
    """
    grey = np.ascontiguousarray(bitmap).view(np.uint8) * np.uint8(255)
    _, data = cv2.imencode(".png", grey, _ONE_BIT if bit_depth == 1 else _EIGHT_BIT)
    return data.tobytes()


def decode_png(data: bytes, size: ImageSize, *, field: str = "png.data") -> NDArray[np.bool_]:
    """Return the bitmap of an untrusted PNG: object is what is brighter than half.

    Any PNG is read; colours count by their luminance and transparency is ignored.

    Args:
        data: The file.
        size: What its header must say; nothing is decoded otherwise.
        field: Path of the bytes in the request, for the error.

    Returns:
        Shape (height, width), bool, contiguous.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` where it is no PNG, cut off, malformed or of another size.
    """
    try:
        image = PngImagePlugin.PngImageFile(io.BytesIO(data))
    except MemoryError:
        raise
    except Exception as error:  # whatever a parser trips over is the file's fault
        raise invalid_field(field, "must be a well-formed PNG image") from error
    if image.size != (size.width_px, size.height_px):
        width, height = image.size
        raise invalid_field(
            field,
            f"must be {size.width_px} x {size.height_px} pixels as the image is, "
            f"not {width} x {height}",
        )
    try:
        return _decode(image)
    except MemoryError:
        raise
    except Exception as error:  # whatever a decoder trips over is the file's fault
        raise invalid_field(field, "must be a complete and well-formed PNG image") from error


def _decode(image: PngImagePlugin.PngImageFile) -> NDArray[np.bool_]:
    image.load()
    if image.mode == "1":  # whose bytes are 0 and 255; a bool of 255 times 255 is 1 elsewhere
        return np.asarray(np.asarray(image, dtype=np.bool_).view(np.uint8) > 0)
    if image.mode.startswith("I"):  # 16 bits
        return np.asarray(image) > 0x7FFF
    image.info.pop("transparency", None)  # convert() warns of what it drops
    grey = image if image.mode == "L" else image.convert("L")
    return np.asarray(np.asarray(grey) > 127)
