"""Requests about one small noisy picture, sent to a running server, and what comes back."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from PIL import Image

from maskwire.v1 import (
    mask_pb2,
    rendering_pb2,
    segmentation_pb2,
    segmentation_pb2_grpc,
)
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.rle import decode_rle

DEADLINE_S = 120.0
WIDTH, HEIGHT = 160, 120
SIZE = ImageSize(width_px=WIDTH, height_px=HEIGHT)


def pixels() -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def picture() -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels()).save(file, "PNG")
    return file.getvalue()


def request(*points: tuple[float, float], **options: Any) -> segmentation_pb2.SegmentImageRequest:
    """A request about objects of their own at points; the middle of the image without any."""
    made = segmentation_pb2.SegmentImageRequest(**options)
    made.image.data = picture()
    for number, (x, y) in enumerate(points or [(80, 60)], start=1):
        prompt = made.prompts.add(object_id=number)
        prompt.point.point.x, prompt.point.point.y = x, y
    return made


def segment(
    channel: grpc.Channel, wanted: segmentation_pb2.SegmentImageRequest
) -> segmentation_pb2.SegmentImageResponse:
    stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
    return stub.SegmentImage(wanted, timeout=DEADLINE_S)


def everything(**options: Any) -> segmentation_pb2.AutoSegmentRequest:
    """A request that keeps nearly all that the grid finds; random masks fill the image."""
    kept = {"pred_iou_thresh": 0, "stability_score_thresh": 0, "box_nms_thresh": 1}
    made = segmentation_pb2.AutoSegmentRequest(
        options=segmentation_pb2.AutoSegmentOptions(**{"points_per_side": 3} | kept | options)
    )
    made.image.data = picture()
    return made


def auto(
    channel: grpc.Channel, wanted: segmentation_pb2.AutoSegmentRequest
) -> segmentation_pb2.AutoSegmentResponse:
    stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
    return stub.AutoSegment(wanted, timeout=DEADLINE_S)


def refused(call: Callable[[], object]) -> Any:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value


def violated_fields(error: Any) -> list[str]:
    broken = error_details_pb2.BadRequest()
    status = rpc_status.from_call(error)
    assert status is not None
    assert any(detail.Unpack(broken) for detail in status.details)
    return [violation.field for violation in broken.field_violations]


def bitmap_of(mask: mask_pb2.Mask) -> np.ndarray:
    return decode_rle(mask.mask.coco_rle.counts, SIZE)


def opened(drawn: rendering_pb2.Picture) -> Image.Image:
    return Image.open(io.BytesIO(drawn.content.data))
