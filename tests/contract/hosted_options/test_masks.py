"""Which masks are returned, how many, in what form, and what is changed in them."""

from __future__ import annotations

import grpc
import numpy as np
import pytest

from maskwire.v1 import (
    mask_pb2,
)
from tests.support.hosted_requests import (
    HEIGHT,
    WIDTH,
    bitmap_of,
    refused,
    request,
    segment,
)


def test_several(channel: grpc.Channel) -> None:
    wanted = request((30, 30), (130, 90))
    one_each = segment(channel, wanted).masks
    assert [mask.object_id for mask in one_each] == [1, 2]
    wanted.mask_options.return_multiple_masks = True
    wanted.mask_options.include_scores = True
    masks = segment(channel, wanted).masks
    assert [(mask.object_id, mask.alternative) for mask in masks] == [
        (object_id, alternative) for object_id in (1, 2) for alternative in (0, 1, 2)
    ]
    for object_id in (1, 2):
        scores = [mask.score for mask in masks if mask.object_id == object_id]
        assert scores == sorted(scores, reverse=True)


def test_max_masks(channel: grpc.Channel) -> None:
    wanted = request()
    wanted.mask_options.return_multiple_masks = True
    for most, expected in ((None, 3), (1, 1), (2, 2), (32, 3)):
        if most is not None:
            wanted.mask_options.max_masks = most
        assert len(segment(channel, wanted).masks) == expected
    wanted.mask_options.max_masks = 0
    assert refused(lambda: segment(channel, wanted)).code() is grpc.StatusCode.INVALID_ARGUMENT


def test_scores(channel: grpc.Channel) -> None:
    wanted = request()
    [without] = segment(channel, wanted).masks
    assert not without.HasField("score")
    assert not without.HasField("stability_score")
    wanted.mask_options.include_scores = True
    [with_scores] = segment(channel, wanted).masks
    assert 0 <= with_scores.score <= 1
    assert with_scores.score_kind == mask_pb2.SCORE_KIND_PREDICTED_IOU


def test_normalized_boxes(channel: grpc.Channel) -> None:
    wanted = request()
    [without] = segment(channel, wanted).masks
    assert without.HasField("box")
    assert not without.HasField("normalized_box")
    wanted.mask_options.include_boxes = True
    [mask] = segment(channel, wanted).masks
    box, normalized = mask.box, mask.normalized_box
    assert normalized.center_x == pytest.approx((box.x_min + box.x_max) / 2 / WIDTH)
    assert normalized.height == pytest.approx((box.y_max - box.y_min) / HEIGHT)


def test_encodings(channel: grpc.Channel) -> None:
    wanted = request()
    names = {}
    for encoding in mask_pb2.MaskEncoding.values():
        wanted.mask_options.encoding = encoding
        [mask] = segment(channel, wanted).masks
        names[mask_pb2.MaskEncoding.Name(encoding)[14:]] = mask.mask.WhichOneof("encoding")
    assert names == {
        "UNSPECIFIED": "coco_rle",
        "COCO_RLE": "coco_rle",
        "COCO_RLE_UNCOMPRESSED": "coco_rle_counts",
        "PNG_1BIT": "png",
        "PNG_8BIT": "png",
        "POLYGONS": "polygons",
        "NONE": None,
    }


def test_size(channel: grpc.Channel) -> None:
    wanted = request()
    [own] = segment(channel, wanted).masks
    wanted.inference_size_px = WIDTH
    [same] = segment(channel, wanted).masks
    assert same.mask == own.mask
    wanted.inference_size_px = 64
    [reduced] = segment(channel, wanted).masks
    assert reduced.mask != own.mask
    assert reduced.mask.coco_rle.size == own.mask.coco_rle.size
    again = segment(channel, wanted)
    assert again.info.embedding_cached
    assert again.masks[0].mask == reduced.mask


def test_iou(channel: grpc.Channel) -> None:
    wanted = request((80, 60), (80, 60), (30, 30))
    wanted.mask_options.include_scores = True
    assert len(segment(channel, wanted).masks) == 3
    wanted.postprocess.max_overlap_iou = 0.9999
    kept = segment(channel, wanted).masks
    assert kept[0].object_id == 1
    assert 2 not in {mask.object_id for mask in kept}
    wanted.postprocess.max_overlap_iou = 1.0
    assert len(segment(channel, wanted).masks) == 3


def test_confidence(channel: grpc.Channel) -> None:
    wanted = request((30, 30), (130, 90))
    wanted.mask_options.include_scores = True
    masks = segment(channel, wanted).masks
    best = max(mask.score for mask in masks)
    wanted.postprocess.min_score = best
    assert [mask.score for mask in segment(channel, wanted).masks] == [best]
    wanted.postprocess.min_score = 1.0
    assert not segment(channel, wanted).masks


def test_retina(channel: grpc.Channel) -> None:
    wanted = request()
    wanted.mask_options.include_logits = True
    [fine] = segment(channel, wanted).masks
    wanted.postprocess.coarse_masks = True
    [coarse] = segment(channel, wanted).masks
    assert coarse.mask != fine.mask
    values = np.frombuffer(coarse.logits.values, dtype="<f4")
    cells = values.reshape(coarse.logits.rows, coarse.logits.columns) > 0
    rows = (np.arange(HEIGHT) + 0.5) / HEIGHT * cells.shape[0]
    columns = (np.arange(WIDTH) + 0.5) / WIDTH * cells.shape[1]
    expected = cells[rows.astype(int)][:, columns.astype(int)]
    np.testing.assert_array_equal(bitmap_of(coarse), expected)


def test_better_quality(channel: grpc.Channel) -> None:
    wanted = request()
    [rough] = segment(channel, wanted).masks
    wanted.postprocess.morphological_cleanup = True
    [clean] = segment(channel, wanted).masks

    def outline(mask: mask_pb2.Mask) -> int:
        bitmap = bitmap_of(mask)
        return int((bitmap[:, 1:] ^ bitmap[:, :-1]).sum())

    assert outline(clean) < outline(rough)
