"""Masks that were sent in short are the masks that they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from maskwire.v1 import geometry_pb2, mask_pb2, realtime_pb2
from maskwire_client import (
    Box,
    CocoRleCounts,
    CroppedMask,
    ImageSize,
    MaskPrompt,
    ObjectState,
    PngMask,
    coco,
)
from maskwire_client._mask_memory import MaskMemory
from maskwire_client._requests import prompt_messages

SIZE = ImageSize(width_px=7, height_px=5)


def bitmap(left: int) -> np.ndarray:
    pixels = np.zeros((5, 7), dtype=bool)
    pixels[1:4, left : left + 3] = True
    pixels[2, left + 1] = False
    return pixels


def encoded(pixels: np.ndarray) -> mask_pb2.EncodedMask:
    return mask_pb2.EncodedMask(png=mask_pb2.PngMask(data=PngMask.encode(pixels).data))


def message(object_id: int = 1, pixels: np.ndarray | None = None, **fields):
    mask = mask_pb2.Mask(
        object_id=object_id,
        alternative=fields.pop("alternative", 0),
        mask=None if pixels is None else encoded(pixels),
    )
    state = fields.pop("state", realtime_pb2.OBJECT_STATE_TRACKED)
    return realtime_pb2.TrackedMask(mask=mask, state=state, **fields)


@pytest.fixture
def memory() -> MaskMemory:
    return MaskMemory(has_masks=True)


def resolve(memory: MaskMemory, *messages):
    return memory.resolve(messages, SIZE)


def test_a_whole_mask_is_itself(memory: MaskMemory) -> None:
    (mask,) = resolve(memory, message(4, bitmap(2), is_new=True))
    assert (mask.object_id, mask.is_new, mask.unchanged) == (4, True, False)
    assert mask.state is ObjectState.TRACKED
    assert np.array_equal(mask.bitmap, bitmap(2))


def test_an_unchanged_mask_is_the_last_one_sent_however_long_ago(memory: MaskMemory) -> None:
    resolve(memory, message(1, bitmap(0)), message(2, bitmap(3)))
    for _ in range(3):
        first, second = resolve(memory, message(1, unchanged=True), message(2, unchanged=True))
        assert (first.unchanged, second.unchanged) == (True, True)
        assert np.array_equal(first.bitmap, bitmap(0))
        assert np.array_equal(second.bitmap, bitmap(3))
    resolve(memory, message(1, bitmap(4)))
    (third,) = resolve(memory, message(1, unchanged=True))
    assert np.array_equal(third.bitmap, bitmap(4))


def test_an_unchanged_mask_that_never_was_sent_is_none(memory: MaskMemory) -> None:
    (mask,) = resolve(memory, message(1, unchanged=True))
    with pytest.raises(ValueError, match="no mask"):
        _ = mask.bitmap


def test_a_cropped_mask_is_put_in_its_place(memory: MaskMemory) -> None:
    crop = geometry_pb2.Box(x_min=2, y_min=1, x_max=5, y_max=4)
    (mask,) = resolve(memory, message(1, bitmap(2)[1:4, 2:5], crop=crop))
    assert np.array_equal(mask.bitmap, bitmap(2))
    (again,) = resolve(memory, message(1, unchanged=True))
    assert np.array_equal(again.bitmap, bitmap(2))


def test_a_cropped_mask_of_another_size_than_its_crop_is_refused(memory: MaskMemory) -> None:
    crop = geometry_pb2.Box(x_min=2, y_min=1, x_max=6, y_max=4)
    (mask,) = resolve(memory, message(1, bitmap(2)[1:4, 2:5], crop=crop))
    with pytest.raises(ValueError, match="does not fill"):
        _ = mask.bitmap


def test_a_lost_object_has_an_empty_mask_of_the_frames_size(memory: MaskMemory) -> None:
    resolve(memory, message(1, bitmap(2)))
    lost = realtime_pb2.OBJECT_STATE_LOST
    for unchanged in (False, True):
        (mask,) = resolve(memory, message(1, state=lost, unchanged=unchanged))
        assert mask.bitmap.shape == (5, 7)
        assert not mask.bitmap.any()
    (found,) = resolve(memory, message(1, bitmap(3), state=realtime_pb2.OBJECT_STATE_FOUND_AGAIN))
    assert found.state is ObjectState.FOUND_AGAIN


def test_only_the_best_alternative_is_remembered(memory: MaskMemory) -> None:
    resolve(memory, message(1, bitmap(0)), message(1, bitmap(4), alternative=1))
    (mask,) = resolve(memory, message(1, unchanged=True))
    assert np.array_equal(mask.bitmap, bitmap(0))


def test_objects_that_are_gone_are_forgotten(memory: MaskMemory) -> None:
    resolve(memory, message(1, bitmap(0)), message(2, bitmap(0)))
    memory.keep_only({2, 9})
    first, second = resolve(memory, message(1, unchanged=True), message(2, unchanged=True))
    assert first.encoded is None
    assert second.encoded is not None


def test_without_masks_there_is_none_for_lost_objects_either() -> None:
    lost = message(1, state=realtime_pb2.OBJECT_STATE_LOST)
    (mask,) = resolve(MaskMemory(has_masks=False), lost)
    assert mask.encoded is None


def test_a_state_of_a_newer_contract_is_unspecified(memory: MaskMemory) -> None:
    (mask,) = resolve(memory, message(1, bitmap(0), state=99))
    assert mask.state is ObjectState.UNSPECIFIED


def test_a_resolved_mask_can_be_a_prompt_and_an_annotation(memory: MaskMemory) -> None:
    crop = geometry_pb2.Box(x_min=2, y_min=1, x_max=5, y_max=4)
    (mask,) = resolve(memory, message(1, bitmap(2)[1:4, 2:5], crop=crop))
    (prompt,) = prompt_messages((), (), [MaskPrompt(mask)])
    sent = PngMask(prompt.mask.encoded.png.data).decode()
    assert np.array_equal(sent, bitmap(2))
    assert coco.annotation(mask, 1)["segmentation"]["size"] == [5, 7]
    part = CocoRleCounts.encode(bitmap(2)[1:4, 2:5])
    assert np.array_equal(CroppedMask(SIZE, Box(2, 1, 5, 4), part).decode(), bitmap(2))
