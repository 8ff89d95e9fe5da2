"""Everything in a picture, with the options of the auto-segment endpoint."""

from __future__ import annotations

import hashlib

import cv2
import grpc
import numpy as np

from maskwire.v1 import (
    file_pb2,
    rendering_pb2,
    segmentation_pb2,
)
from tests.support.hosted_requests import (
    HEIGHT,
    WIDTH,
    auto,
    bitmap_of,
    everything,
    opened,
    picture,
)


def test_everything(channel: grpc.Channel) -> None:
    masks = auto(channel, everything()).masks
    assert len(masks) > 3
    for fewer in ({"points_per_side": 1}, {"pred_iou_thresh": 1}, {"stability_score_thresh": 1}):
        assert len(auto(channel, everything(**fewer)).masks) < len(masks)
    defaults = segmentation_pb2.AutoSegmentRequest()
    defaults.image.data = picture()
    spelt_out = segmentation_pb2.AutoSegmentRequest()
    spelt_out.CopyFrom(defaults)
    spelt_out.options.points_per_side = 32
    spelt_out.options.pred_iou_thresh = 0.88
    spelt_out.options.stability_score_thresh = 0.95
    spelt_out.options.min_mask_region_area = 100
    assert auto(channel, defaults).masks == auto(channel, spelt_out).masks


def test_small_regions(channel: grpc.Channel) -> None:
    def smallest(least: int) -> int:
        """Return the area of the smallest region of a mask that has several."""
        masks = auto(channel, everything(min_mask_region_area=least)).masks
        areas = [region_areas(bitmap_of(mask)) for mask in masks]
        return min((min(of_one) for of_one in areas if len(of_one) > 1), default=WIDTH * HEIGHT)

    def region_areas(bitmap: np.ndarray) -> list[int]:
        _, _, statistics, _ = cv2.connectedComponentsWithStats(bitmap.astype(np.uint8))
        return [int(area) for area in statistics[1:, cv2.CC_STAT_AREA]]

    assert smallest(0) < 30 <= smallest(30)


def test_combined_and_individual_masks(channel: grpc.Channel) -> None:
    wanted = everything()
    wanted.renderings.add(style=rendering_pb2.RENDERING_STYLE_BLACK_WHITE)
    wanted.renderings.add(
        style=rendering_pb2.RENDERING_STYLE_INDIVIDUAL_MASKS,
        format=rendering_pb2.PICTURE_FORMAT_WEBP,
    )
    response = auto(channel, wanted)
    combined, *individual = response.pictures
    assert opened(combined).format == "PNG"
    assert {opened(one).format for one in individual} == {"WEBP"}
    assert [one.mask_index for one in individual] == [mask.index for mask in response.masks]
    together = np.logical_or.reduce([bitmap_of(mask) for mask in response.masks])
    np.testing.assert_array_equal(np.asarray(opened(combined)), np.where(together, 255, 0))


def test_stored_everything(channel: grpc.Channel) -> None:
    wanted = everything()
    wanted.renderings.add(style=rendering_pb2.RENDERING_STYLE_LABEL_MAP)
    [inline] = auto(channel, wanted).pictures
    wanted.delivery = file_pb2.DELIVERY_STORED_FILE
    [stored] = auto(channel, wanted).pictures
    digest = hashlib.sha256(inline.content.data).hexdigest()
    assert stored.content.file.digest == f"sha256:{digest}"


def test_size_of_everything(channel: grpc.Channel) -> None:
    own = auto(channel, everything())
    wanted = everything()
    wanted.inference_size_px = 64
    reduced = auto(channel, wanted)
    assert reduced.info.image.size == own.info.image.size
    assert reduced.masks[0].mask.coco_rle.size == own.masks[0].mask.coco_rle.size
    assert [mask.mask for mask in reduced.masks] != [mask.mask for mask in own.masks]
    assert {(round(mask.grid_point.x), round(mask.grid_point.y)) for mask in reduced.masks} <= {
        (x, y) for x in (27, 80, 133) for y in (20, 60, 100)
    }
