"""Builds the request of `TrackVideo` and reads its responses; pure, no stream."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from maskwire.v1 import file_pb2, mask_pb2, video_pb2

from ._enums import to_wire
from ._errors import error_from_status
from ._mask_memory import MaskMemory
from ._requests import postprocess_message, prompt_messages
from ._responses import processing_info, size_result, stored_file
from .errors import InternalError
from .images import ImageReference
from .options import Delivery, MaskEncoding, Postprocess
from .prompts import BoxLike, MaskPrompt, PointLike, Text
from .videos import (
    OverlayVideo,
    TrackDirection,
    TrackProgress,
    VideoFrame,
    VideoInfo,
    VideoInput,
    VideoSummary,
)

_URI = re.compile(r"(https?|s3|gs|az):", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoArguments:
    """What `track_video` takes besides the video; documented there."""

    points: Sequence[PointLike] = ()
    boxes: Sequence[BoxLike] = ()
    masks: Sequence[MaskPrompt] = ()
    texts: Sequence[Text | str] = ()
    model: str = ""
    direction: TrackDirection = TrackDirection.FORWARD
    start_frame: int = 0
    end_frame: int | None = None
    stride: int | None = None
    encoding: MaskEncoding = MaskEncoding.COCO_RLE
    include_scores: bool = True
    include_boxes: bool = False
    postprocess: Postprocess | None = None
    render_overlay: bool = False
    delivery: Delivery = Delivery.INLINE


def track_video_request(
    video: VideoInput, arguments: VideoArguments
) -> video_pb2.TrackVideoRequest:
    """Return the request; a file is read here.

    Raises:
        OSError: The file cannot be read.
        TypeError: The video or a prompt is of a kind that is not taken.
        ValueError: The video is empty, or a number or an array cannot be sent.
    """
    return video_pb2.TrackVideoRequest(
        video=_source(video),
        prompts=prompt_messages(
            arguments.points, arguments.boxes, arguments.masks, arguments.texts
        ),
        model=arguments.model,
        direction=to_wire(video_pb2.TrackDirection, arguments.direction),
        frame_range=video_pb2.FrameRange(
            start_frame=arguments.start_frame,
            end_frame=arguments.end_frame,
            stride=arguments.stride,
        ),
        mask_options=mask_pb2.MaskOptions(
            encoding=to_wire(mask_pb2.MaskEncoding, arguments.encoding),
            include_scores=arguments.include_scores,
            include_boxes=arguments.include_boxes,
        ),
        postprocess=postprocess_message(arguments.postprocess),
        render_overlay=arguments.render_overlay,
        delivery=to_wire(file_pb2.Delivery, arguments.delivery),
    )


class VideoReader:
    """Reads the responses of one call.

    Attributes:
        info: What the video is; None before the first response.
        progress: How far the work is.
        summary: The end; None before.
    """

    def __init__(self, *, has_masks: bool) -> None:
        self.info: VideoInfo | None = None
        self.progress = TrackProgress(0, 0)
        self.summary: VideoSummary | None = None
        self._memory = MaskMemory(has_masks=has_masks)

    def receive(self, response: video_pb2.TrackVideoResponse) -> VideoFrame | None:
        """Take in a response; return the frame that it carries, if it does.

        Raises:
            InternalError: A frame came before the video was described.
        """
        if response.HasField("progress"):
            progress = response.progress
            self.progress = TrackProgress(progress.frames_done, progress.frames_total)
        match response.WhichOneof("message"):
            case "video":
                self.info = video_info(response.video)
            case "frame":
                return self._frame(response.frame)
            case "summary":
                self.summary = video_summary(response.summary)
        return None

    def _frame(self, frame: video_pb2.VideoFrameResult) -> VideoFrame:
        if self.info is None:
            raise InternalError("the server sent a frame before it described the video")
        return video_frame(frame, self.info, self._memory, self.progress)


def video_frame(
    frame: video_pb2.VideoFrameResult,
    info: VideoInfo,
    memory: MaskMemory,
    progress: TrackProgress,
) -> VideoFrame:
    """Return a frame with its masks at full size; `memory` holds those of the frames before."""
    time_s = frame.presentation_time.ToTimedelta() / timedelta(seconds=1)
    masks = memory.resolve(frame.masks, info.size)
    memory.keep_only([mask.object_id for mask in masks])
    return VideoFrame(frame.frame_index, time_s, masks, progress)


def _source(video: VideoInput) -> video_pb2.VideoSource:
    match video:
        case ImageReference():
            return video_pb2.VideoSource(uri=video.address)
        case str() if _URI.match(video):
            return video_pb2.VideoSource(uri=video)
        case bytes() | bytearray():
            data = bytes(video)
        case str() | os.PathLike():
            data = Path(video).read_bytes()
        case _:
            raise TypeError(
                f"a video is a path, bytes, a URI or an ImageReference, not {type(video).__name__}"
            )
    if not data:
        raise ValueError("the video is empty")
    return video_pb2.VideoSource(data=data)


def video_info(message: video_pb2.VideoInfo) -> VideoInfo:
    """Return what a video is."""
    return VideoInfo(
        size=size_result(message.size),
        frame_count=message.frame_count,
        frames_per_second=message.frames_per_second,
        duration=message.duration.ToTimedelta(),
        digest=message.digest,
    )


def video_summary(message: video_pb2.TrackVideoSummary) -> VideoSummary:
    """Return the end of a tracked video."""
    content = message.overlay_video
    has_data = content.WhichOneof("content") == "data"
    overlay = OverlayVideo(
        content_type=content.content_type,
        file_name=content.file_name,
        data=content.data if has_data else None,
        file=None if has_data else stored_file(content.file),
    )
    has_error = message.HasField("decode_error")
    return VideoSummary(
        info=processing_info(message.info),
        overlay=overlay if message.HasField("overlay_video") else None,
        decode_error=error_from_status(message.decode_error) if has_error else None,
    )
