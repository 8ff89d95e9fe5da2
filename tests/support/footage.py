"""Clips made from photographs in every format, and requests to track what moves in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskwire.v1 import realtime_pb2, video_pb2
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.rle import decode_rle
from tests.support import videos
from tests.support.clips import Clip

DEADLINE_S = 120.0

Request = video_pb2.TrackVideoRequest
Response = video_pb2.TrackVideoResponse


@dataclass(frozen=True)
class Footage:
    """A clip and how it is encoded."""

    clip: Clip
    mp4: bytes
    webm: bytes
    gif: bytes


def enclose(request: Request, clip: Clip, object_id: int, frame: int) -> None:
    """Prompt an object by the box around it."""
    rows, columns = np.nonzero(clip.masks[frame][object_id])
    box = request.prompts.add(object_id=object_id, frame_index=frame).box.box
    box.x_min, box.y_min = columns.min(), rows.min()
    box.x_max, box.y_max = columns.max() + 1, rows.max() + 1


def track_request(footage: Footage, frame: int = 0, **fields: Any) -> Request:
    request = Request(**fields)
    request.video.data = footage.mp4
    enclose(request, footage.clip, 1, frame)
    return request


def click_square(request: Request) -> None:
    """Prompt the square of `tests.support.videos` instead."""
    del request.prompts[:]
    point = request.prompts.add().point.point
    point.x = point.y = videos.SIDE - 2


def track(stub: Any, request: Request) -> list[Response]:
    return list(stub.TrackVideo(request, timeout=DEADLINE_S))


def frames_of(responses: list[Response]) -> list[video_pb2.VideoFrameResult]:
    return [response.frame for response in responses if response.HasField("frame")]


def order_of(responses: list[Response]) -> list[int]:
    return [frame.frame_index for frame in frames_of(responses)]


def iou(tracked: realtime_pb2.TrackedMask, truth: NDArray[np.bool_]) -> float:
    if not tracked.mask.HasField("mask"):
        return float(not truth.any())
    rle = tracked.mask.mask.coco_rle
    bitmap = decode_rle(rle.counts, ImageSize(rle.size.width_px, rle.size.height_px))
    return float((bitmap & truth).sum() / max(1, (bitmap | truth).sum()))
