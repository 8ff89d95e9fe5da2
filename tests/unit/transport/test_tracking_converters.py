"""Masks of tracked objects on the wire."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from maskwire.v1 import mask_pb2, realtime_pb2
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.masks import EncodedRle
from maskwire_server.domain.segmentation import MaskOptions, ScoreKind, SegmentedMask
from maskwire_server.domain.tracked_masks import ObjectState, TrackedMask
from maskwire_server.transport.converters.tracking import tracked_mask_to_proto

SIZE = ImageSize(10, 20)
BOX = Box(1, 2, 3, 6)
SEEN = TrackedMask(
    mask=SegmentedMask(
        index=1,
        object_id=4,
        alternative=0,
        score=0.75,
        score_kind=ScoreKind.OBJECT_PRESENCE,
        stability_score=None,
        area_px=8,
        box=BOX,
        encoded=EncodedRle(b"0", ImageSize(2, 4)),
        logits=MaskLogits(np.ones((2, 2), np.float32), Box(0, 0, 10, 20)),
    ),
    state=ObjectState.FOUND_AGAIN,
    unchanged=False,
    crop=BOX,
    is_new=True,
)
EVERYTHING = MaskOptions(include_scores=True, include_boxes=True, include_logits=True)


def test_a_tracked_mask_carries_everything_that_was_asked_for():
    message = tracked_mask_to_proto(SEEN, EVERYTHING, SIZE)
    assert (message.mask.index, message.mask.object_id, message.mask.area_px) == (1, 4, 8)
    assert message.mask.score == 0.75
    assert message.mask.score_kind == mask_pb2.SCORE_KIND_OBJECT_PRESENCE
    assert message.mask.mask.coco_rle.counts == b"0"
    assert message.mask.normalized_box.center_x == pytest.approx(0.2)
    assert (message.crop.x_min, message.crop.y_min) == (1, 2)
    assert (message.crop.x_max, message.crop.y_max) == (3, 6)
    assert message.state == realtime_pb2.OBJECT_STATE_FOUND_AGAIN
    assert message.is_new
    assert not message.unchanged


def test_of_a_tracked_mask_only_what_was_asked_for_is_sent():
    message = tracked_mask_to_proto(SEEN, MaskOptions(), SIZE)
    assert not message.mask.HasField("score")
    assert not message.mask.HasField("normalized_box")


def test_a_lost_or_unchanged_mask_is_not_sent():
    bare = replace(SEEN.mask, encoded=None, logits=None, box=None, area_px=0)
    lost = TrackedMask(bare, ObjectState.LOST, unchanged=True, crop=None, is_new=False)
    message = tracked_mask_to_proto(lost, EVERYTHING, SIZE)
    assert message.state == realtime_pb2.OBJECT_STATE_LOST
    assert message.unchanged
    assert not message.HasField("crop")
    sent = {field.name for field, _ in message.mask.ListFields()}
    assert sent.isdisjoint({"mask", "box", "logits", "normalized_box"})


def test_every_state_has_a_number_of_its_own():
    numbers = {
        tracked_mask_to_proto(replace(SEEN, state=state), MaskOptions(), SIZE).state
        for state in ObjectState
    }
    assert numbers == set(realtime_pb2.ObjectState.values()) - {0}
