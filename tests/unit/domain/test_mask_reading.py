"""Masks of a request in all encodings: those that are files go to a decoder of files, together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from maskwire_server.domain.errors import MaskwireError
from maskwire_server.domain.file_decoder import InProcessDecoder, MaskFile
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.mask_reading import SentMask, decode_masks
from maskwire_server.domain.masks import MaskEncoding, encode_mask

SIZE = ImageSize(width_px=20, height_px=10)
ENCODINGS = [
    MaskEncoding.PNG_8BIT,
    MaskEncoding.COCO_RLE,
    MaskEncoding.PNG_1BIT,
    MaskEncoding.POLYGONS,
    MaskEncoding.COCO_RLE_UNCOMPRESSED,
    MaskEncoding.PNG_1BIT,
]


class RecordingDecoder(InProcessDecoder):
    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def masks(self, files: Sequence[MaskFile], size: ImageSize) -> list[NDArray[np.bool_]]:
        self.asked.append([one.field for one in files])
        return super().masks(files, size)


def _bitmaps() -> list[NDArray[np.bool_]]:
    bitmaps = []
    for index in range(len(ENCODINGS)):
        bitmap = np.zeros((10, 20), np.bool_)
        bitmap[index : index + 3, 2 : 5 + index] = True
        bitmaps.append(bitmap)
    return bitmaps


def test_files_go_to_the_decoder_together_and_all_come_in_their_order():
    bitmaps, decoder = _bitmaps(), RecordingDecoder()
    sent = [
        SentMask(encode_mask(bitmap, encoding), f"masks[{index}]")
        for index, (bitmap, encoding) in enumerate(zip(bitmaps, ENCODINGS, strict=True))
    ]
    np.testing.assert_array_equal(decode_masks(sent, SIZE, decoder), bitmaps)
    assert decoder.asked == [[f"masks[{index}].png.data" for index in (0, 2, 5)]]


def test_without_files_no_decoder_is_asked():
    decoder = RecordingDecoder()
    sent = SentMask(encode_mask(_bitmaps()[0], MaskEncoding.COCO_RLE), "masks[0]")
    assert len(decode_masks([sent], SIZE, decoder)) == 1
    assert decode_masks([], SIZE, decoder) == []
    assert decoder.asked == []


@pytest.mark.parametrize("encoding", [MaskEncoding.PNG_1BIT, MaskEncoding.COCO_RLE])
def test_a_mask_of_another_size_is_named(encoding: MaskEncoding):
    masks = [encode_mask(one, encoding) for one in (_bitmaps()[0], _bitmaps()[1].T)]
    sent = [SentMask(mask, f"masks[{index}]") for index, mask in enumerate(masks)]
    with pytest.raises(MaskwireError) as caught:
        decode_masks(sent, SIZE, InProcessDecoder())
    assert caught.value.violations[0].field.startswith("masks[1].")
