"""COCO run-length encoding of bitmaps, uncompressed and compressed, to and from numpy.

Runs go down the columns (column-major), alternate between background and object, and start with
background. The compressed form is the string of pycocotools (`maskApi.c`): each count from the
fourth on is stored as its difference to the count two before it, in groups of five bits, least
significant first, the sixth bit saying that another follows, offset by 48 into printable ASCII.
Encoding a row-major bitmap takes 0.05 ms at 256², 0.15 ms at 1024² and 1.4 ms at 4032² for one
large object; pycocotools, which has to be given a column-major copy, takes 0.06, 1.5 and 40 ms.
What else a mask can be encoded as lives in `mask_encodings.py`; the choice between them in
`masks.py`.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from .errors import invalid_field
from .geometry import ImageSize

_FIRST_CHARACTER = 48  # "0"; the last is 63 after it, "o"
_MORE_FOLLOWS = 32
_MAX_GROUPS = 7  # 35 bits hold any difference of two 32-bit counts
_SPARE_CHARACTERS = 64  # for the first, long counts of a small bitmap

# Below this size, or above one run in this many pixels, transposing the bitmap costs less than
# sorting its runs.
_SMALL_PIXELS = 1 << 17
_DENSE_PIXELS_PER_RUN = 256


def encode_counts(bitmap: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Return the uncompressed run lengths of a bitmap.

    Args:
        bitmap: Shape (height, width), bool, at least one and fewer than 2³² pixels.

    Returns:
        Shape (runs,), uint32: lengths of alternating runs down the columns, background first (so
        the first is 0 where the top-left pixel is object). They sum to height · width.
    """
    starts = _run_starts(bitmap)
    counts = np.empty(starts.size + 1, dtype=np.uint32)
    counts[:-1] = starts
    counts[-1] = bitmap.size
    counts[1:] -= starts
    return counts


def _run_starts(bitmap: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Return the column-major positions at which the value changes, ascending.

    Changes between a pixel and the one above it are found along the rows of memory, eight pixels a
    byte, and sorted into column order; a bitmap that is small or has many runs is transposed.
    """
    if bitmap.size < _SMALL_PIXELS:
        return _run_starts_transposed(bitmap)
    height, width = bitmap.shape
    packed = np.packbits(bitmap, axis=1)
    changes = np.empty_like(packed)
    np.bitwise_xor(packed[1:], packed[:-1], out=changes[1:])
    before_columns = np.zeros(width, dtype=np.bool_)
    before_columns[1:] = bitmap[-1, :-1]  # runs go on from the foot of a column to the next head
    np.bitwise_xor(packed[0], np.packbits(before_columns), out=changes[0])
    flat = changes.ravel()
    occupied = np.flatnonzero(flat != 0)
    if occupied.size * _DENSE_PIXELS_PER_RUN > bitmap.size:
        return _run_starts_transposed(bitmap)
    bits = np.flatnonzero(np.unpackbits(flat[occupied]).view(np.bool_)).astype(np.uint32)
    byte = occupied.astype(np.uint32)[bits >> 3]
    bytes_per_row = np.uint32(packed.shape[1])
    row = byte // bytes_per_row
    column = ((byte - row * bytes_per_row) << 3) + (bits & 7)
    positions: NDArray[np.uint32] = column * np.uint32(height) + row
    positions.sort()
    return positions


def _run_starts_transposed(bitmap: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Return the same positions from the transposed bitmap, whose runs lie along memory."""
    flat = cv2.transpose(bitmap.view(np.uint8)).view(np.bool_).ravel()
    changes = np.empty(flat.size, dtype=np.bool_)
    changes[0] = flat[0]
    np.bitwise_xor(flat[1:], flat[:-1], out=changes[1:])
    return np.flatnonzero(changes).astype(np.uint32)


def compress_counts(counts: NDArray[np.uint32]) -> bytes:
    """Return the compressed string of run lengths, byte for byte that of pycocotools.

    Args:
        counts: Shape (runs,), uint32, at least one, as `encode_counts` returns.
    """
    values: NDArray[np.int32 | np.int64]
    values = counts.astype(np.int32 if int(counts.max()) < 1 << 31 else np.int64)
    values[3:] -= values[1:-2].copy()
    magnitudes = np.maximum(values, np.invert(values))  # the bits beside the sign
    groups = max(1, (int(magnitudes.max()).bit_length() + 5) // 5)
    # Each count's characters in a row, padded with zero bytes that are then deleted.
    characters = np.zeros((values.size, groups), dtype=np.uint8)
    present: NDArray[np.bool_] = np.ones(1, dtype=np.bool_)
    for group in range(groups):
        goes_on = magnitudes > (16 << 5 * group) - 1
        character = np.right_shift(values, 5 * group).astype(np.uint8)
        character &= 31
        character += goes_on * np.uint8(_MORE_FOLLOWS)
        character += _FIRST_CHARACTER
        character *= present
        characters[:, group] = character
        present = goes_on
    return characters.tobytes().translate(None, b"\0")


def decompress_counts(
    data: bytes, *, max_runs: int | None = None, field: str = "counts"
) -> NDArray[np.uint32]:
    """Return the run lengths that a compressed string holds; the string is not trusted.

    Args:
        data: The string, as `compress_counts` or pycocotools makes it.
        max_runs: Refuse more runs than this, or over twice as many characters, before they are
            decoded (a bitmap of n pixels has at most n + 1 runs, few of which can be long); None
            leaves memory bounded by the length of `data` alone.
        field: Path of the string in the request, for the error.

    Returns:
        Shape (runs,), uint32.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` where the string is empty, cut off or holds a foreign
            character, or where a count is overlong, negative or above 2³² - 1.
    """
    if not data:
        raise invalid_field(field, "must not be empty")
    characters = np.frombuffer(data, dtype=np.uint8) - np.uint8(_FIRST_CHARACTER)
    if int(characters.max()) > 63:
        raise invalid_field(field, "must hold only the characters '0' to 'o'")
    is_last = characters < _MORE_FOLLOWS
    if not is_last[-1]:
        raise invalid_field(field, "must not end in the middle of a count")
    if max_runs is not None and (
        int(np.count_nonzero(is_last)) > max_runs or len(data) > 2 * max_runs + _SPARE_CHARACTERS
    ):
        raise invalid_field(field, f"must have at most {max_runs} runs for an image of this size")
    values = _differences(characters & np.uint8(31), np.flatnonzero(is_last), field)
    np.cumsum(values[1::2], out=values[1::2])
    np.cumsum(values[2::2], out=values[2::2])
    if int(values.min()) < 0 or int(values.max()) > 0xFFFF_FFFF:
        raise invalid_field(field, "must hold run lengths from 0 to 4294967295")
    return values.astype(np.uint32)


def _differences(
    groups: NDArray[np.uint8], ends: NDArray[np.intp], field: str
) -> NDArray[np.int64]:
    """Return the signed numbers whose five-bit groups end at `ends`."""
    gaps = np.diff(ends, prepend=-1)
    longest = int(gaps.max())
    if longest > _MAX_GROUPS:
        raise invalid_field(field, f"must not spell a count with over {_MAX_GROUPS} characters")
    lengths = gaps.astype(np.uint8)
    del gaps
    # From the last group, which carries the sign, to the first.
    values: NDArray[np.int64] = (groups[ends].astype(np.int64) ^ 16) - 16
    for group in range(1, longest):
        unfinished = np.flatnonzero(lengths > group)
        values[unfinished] = (values[unfinished] << 5) | groups[ends[unfinished] - group]
    return values


def encode_rle(bitmap: NDArray[np.bool_]) -> bytes:
    """Return the compressed string of a bitmap: what pycocotools' `encode` gives as `counts`.

    Args:
        bitmap: Shape (height, width), bool, at least one and fewer than 2³² pixels.
    """
    return compress_counts(encode_counts(bitmap))


def decode_rle(counts: bytes, size: ImageSize, *, field: str = "counts") -> NDArray[np.bool_]:
    """Return the bitmap of an untrusted compressed string.

    Args:
        counts: The string, as `encode_rle` or pycocotools makes it.
        size: Size of the bitmap, within the caller's limits.
        field: Path of the string in the request, for the error.

    Returns:
        Shape (height, width), bool, contiguous.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` as `decompress_counts`, or where the runs do not cover
            width · height pixels exactly; nothing of the bitmap's size is allocated before.
    """
    runs = decompress_counts(counts, max_runs=size.pixels + 1, field=field)
    return decode_counts(runs, size, field=field)


def decode_counts(
    counts: NDArray[np.uint32], size: ImageSize, *, field: str = "counts"
) -> NDArray[np.bool_]:
    """Return the bitmap of untrusted run lengths; as `decode_rle`, for the uncompressed form.

    Args:
        counts: Shape (runs,), uint32, alternating from background; runs may be 0 long.
        size: Size of the bitmap, within the caller's limits.
        field: Path of the counts in the request, for the error.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` where they do not sum to width · height.
    """
    covered = int(counts.sum(dtype=np.uint64))
    if covered != size.pixels:
        rule = f"must cover {size.width_px} x {size.height_px} = {size.pixels} pixels"
        raise invalid_field(field, f"{rule}, not {covered}")
    bitmap = np.zeros((size.height_px, size.width_px), dtype=np.bool_)
    if counts.size < 2:
        return bitmap
    values = np.zeros(counts.size, dtype=np.uint8)
    values[1::2] = 1
    columns = np.repeat(values, counts).reshape(size.width_px, size.height_px)
    cv2.transpose(columns, dst=bitmap.view(np.uint8))
    return bitmap
