"""COCO run-length encoding to and from numpy: what a client needs without the server's packages.

Runs go down the columns, alternate between background and object, and start with background. The
compressed form is the string of pycocotools (`maskApi.c`): each count from the fourth on is stored
as its difference to the count two before it, in groups of five bits, least significant first, the
sixth bit saying that another follows, offset by 48 into printable ASCII. Compressing is the
server's part.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MAX_GROUPS = 7  # 35 bits: the longest form of a difference of two 32-bit counts


def decompress_counts(compressed: bytes) -> NDArray[np.int64]:
    """Return the run lengths of a compressed string.

    Raises:
        ValueError: The string is not of this form.
    """
    codes = np.frombuffer(compressed, dtype=np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((codes & 0x20) == 0)
    is_unfinished = codes.size == 0 or ends.size == 0 or ends[-1] != codes.size - 1
    if is_unfinished or codes.min() < 0 or codes.max() > 63:
        raise ValueError("the mask's counts are not COCO's compressed run lengths")
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > _MAX_GROUPS:
        raise ValueError("a run length of the mask has too many digits")
    group = np.arange(codes.size) - np.repeat(starts, lengths)
    values = np.add.reduceat((codes & 0x1F) << (5 * group), starts)
    is_negative = (codes[ends] & 0x10) != 0
    values -= is_negative.astype(np.int64) << (5 * lengths)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def decode_counts(counts: NDArray[np.int64], width: int, height: int) -> NDArray[np.bool_]:
    """Return the bitmap, shape (height, width), of run lengths.

    Raises:
        ValueError: The counts do not sum to width times height.
    """
    if counts.size == 0 or counts.min() < 0 or int(counts.sum()) != width * height:
        raise ValueError(f"the mask's run lengths do not fill {width} by {height} pixels")
    is_object = np.arange(counts.size) % 2 == 1
    return np.ascontiguousarray(np.repeat(is_object, counts).reshape(width, height).T)


def encode_counts(bitmap: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the run lengths of a bitmap of shape (height, width), of one pixel at least."""
    flat = np.asarray(bitmap, dtype=np.bool_).T.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate(([0], changes, [flat.size])))
    return np.concatenate(([0], counts)) if flat[0] else counts
