"""Reading the masks of a request, whatever encodings they come in.

PNGs are files: all of a request go to a decoder of files together. Run lengths and polygons are
lists of numbers, which are checked and drawn here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .file_decoder import FileDecoder, MaskFile
from .geometry import ImageSize
from .masks import EncodedMask, EncodedPng, decode_mask


@dataclass(frozen=True, slots=True)
class SentMask:
    """A mask as a request brought it.

    Attributes:
        encoded: The mask.
        field: Path of the encoded mask in the request, for errors.
    """

    encoded: EncodedMask
    field: str


def decode_masks(
    masks: Sequence[SentMask], size: ImageSize, decoder: FileDecoder
) -> list[NDArray[np.bool_]]:
    """Decode untrusted masks, which must have the size of their image. Blocks.

    Args:
        masks: The masks.
        size: Size of the image; checked before anything is decoded.
        decoder: Decodes those that are files.

    Returns:
        One for each, shape (height, width), bool, contiguous.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` naming the field and the rule; as `FileDecoder.masks`.
    """
    files = [
        MaskFile(one.encoded.data, f"{one.field}.png.data")
        for one in masks
        if isinstance(one.encoded, EncodedPng)
    ]
    read = iter(decoder.masks(files, size) if files else ())
    return [
        next(read)
        if isinstance(one.encoded, EncodedPng)
        else decode_mask(one.encoded, size, one.field)
        for one in masks
    ]
