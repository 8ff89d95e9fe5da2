"""Turns point maps and depth maps, as callers have them, into what is sent; pure but for files."""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import numpy as np

from .images import ImageReference
from .reconstruction import MapInput
from .results import StoredFile

INLINE_BYTES = 16 * 2**20
"""Maps up to this size go with the call; a server takes 64 MiB in a message unless it is set, and
the image and its masks go with them."""

MAP_TIME_TO_LIVE = timedelta(hours=1)
"""How long an uploaded map is kept: a job that was accepted has its own copy, and until then the
same request may be sent again."""

_ELSEWHERE = re.compile(r"(https?|s3|gs|az):|files/", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class MapSource:
    """A map: its bytes, or where they are.

    Attributes:
        content: The file's bytes, or its path where it is too large to go with the call; None where
            it is elsewhere already.
        uri: Where it is; empty where it is here.
    """

    content: bytes | Path | None = field(default=None, repr=False)
    uri: str = ""

    @property
    def is_large(self) -> bool:
        """Whether it is to be uploaded before the call."""
        return isinstance(self.content, Path) or len(self.content or b"") > INLINE_BYTES


def map_source(given: MapInput, dimensions: int) -> MapSource:
    """Return the source of a map.

    Args:
        given: The map.
        dimensions: Of its array: 3 for (height, width, 3), 2 for (height, width).

    Raises:
        OSError: The file cannot be read.
        TypeError: It is of a kind that is not taken.
        ValueError: It is empty, or the array has another shape or dtype.
    """
    match given:
        case StoredFile():
            return MapSource(uri=given.name)
        case ImageReference():
            return MapSource(uri=given.address)
        case str() if _ELSEWHERE.match(given):
            return MapSource(uri=given)
        case str() | os.PathLike():
            file = Path(given)
            size = file.stat().st_size
            content = file if size > INLINE_BYTES else file.read_bytes()
        case bytes() | bytearray():
            content = bytes(given)
        case np.ndarray():
            content = _npy(given, dimensions)
        case _:
            raise TypeError(
                "a map is an array, a path, bytes, a stored file or a URI, "
                f"not {type(given).__name__}"
            )
    if not content:
        raise ValueError("the map is empty")
    return MapSource(content)


def _npy(array: np.ndarray, dimensions: int) -> bytes:
    is_shaped = array.ndim == dimensions and (dimensions == 2 or array.shape[2] == 3)
    if not is_shaped or array.dtype not in (np.float32, np.float64) or array.size == 0:
        shape = "(height, width, 3)" if dimensions == 3 else "(height, width)"
        raise ValueError(
            f"the map must be float32 or float64 of shape {shape}, "
            f"not {array.dtype} of shape {array.shape}"
        )
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()
