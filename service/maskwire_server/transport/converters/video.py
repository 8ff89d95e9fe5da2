"""Requests and answers of `VideoService`."""

from __future__ import annotations

from collections.abc import Mapping

from maskwire.v1 import file_pb2, processing_pb2, video_pb2

from ...domain.errors import invalid_field
from ...domain.video.requests import (
    FramePrompt,
    FrameRange,
    InlineVideo,
    TrackDirection,
    TrackedFrame,
    TrackEvent,
    TrackProgress,
    TrackSummary,
    TrackVideoRequest,
    VideoInfo,
    VideoSource,
    VideoUri,
)
from ...domain.video.writer import OVERLAY_VIDEO_NAME, OVERLAY_VIDEO_TYPE
from ..errors import status_from_error
from .files import stored_file_to_proto
from .geometry import image_size_to_proto
from .masks import single_pass_options_from_proto
from .processing import duration_to_proto, timings_to_proto
from .prompts import prompt_from_proto
from .segmentation import mask_options_from_proto
from .tracking import tracked_mask_to_proto

_DIRECTIONS: Mapping[video_pb2.TrackDirection.ValueType, TrackDirection] = {
    video_pb2.TRACK_DIRECTION_UNSPECIFIED: TrackDirection.FORWARD,
    video_pb2.TRACK_DIRECTION_FORWARD: TrackDirection.FORWARD,
    video_pb2.TRACK_DIRECTION_BACKWARD: TrackDirection.BACKWARD,
    video_pb2.TRACK_DIRECTION_BOTH: TrackDirection.BOTH,
}


def track_video_request_from_proto(message: video_pb2.TrackVideoRequest) -> TrackVideoRequest:
    """Read a request to track objects through a video.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` for what is malformed, naming the field.
    """
    return TrackVideoRequest(
        video=video_source_from_proto(message.video, "video"),
        prompts=tuple(
            FramePrompt(prompt_from_proto(prompt, f"prompts[{index}]"), prompt.frame_index)
            for index, prompt in enumerate(message.prompts)
        ),
        model=message.model or None,
        direction=_DIRECTIONS[message.direction],
        frames=frame_range_from_proto(message.frame_range),
        mask_options=mask_options_from_proto(message.mask_options),
        postprocess=single_pass_options_from_proto(
            message.postprocess, "postprocess", "send it single frames"
        ),
        render_overlay=message.render_overlay,
        stores_overlay=message.delivery == file_pb2.DELIVERY_STORED_FILE,
    )


def video_source_from_proto(message: video_pb2.VideoSource, field: str) -> VideoSource:
    """Read where a video comes from.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` where no source is set.
    """
    match message.WhichOneof("source"):
        case "data":
            return InlineVideo(message.data)
        case "uri":
            return VideoUri(message.uri)
        case _:
            raise invalid_field(f"{field}.source", "exactly one source is required")


def frame_range_from_proto(message: video_pb2.FrameRange) -> FrameRange:
    """Read which frames of a video are meant."""
    return FrameRange(
        start=message.start_frame,
        end=message.end_frame if message.HasField("end_frame") else None,
        stride=message.stride if message.HasField("stride") else 1,
    )


def track_event_to_proto(event: TrackEvent, request_id: str) -> video_pb2.TrackVideoResponse:
    """Write one message of the answer."""
    response = video_pb2.TrackVideoResponse(progress=progress_to_proto(event.progress))
    match event.content:
        case VideoInfo():
            response.video.CopyFrom(video_info_to_proto(event.content))
        case TrackedFrame():
            response.frame.CopyFrom(tracked_frame_to_proto(event.content))
        case TrackSummary():
            response.summary.CopyFrom(track_summary_to_proto(event.content, request_id))
    return response


def progress_to_proto(progress: TrackProgress) -> video_pb2.TrackProgress:
    """Write how far the work is; a total that is not known is 0."""
    return video_pb2.TrackProgress(
        frames_done=progress.frames_done, frames_total=progress.frames_total or 0
    )


def video_info_to_proto(info: VideoInfo) -> video_pb2.VideoInfo:
    """Write what a video is; a number of frames that is not known is 0."""
    return video_pb2.VideoInfo(
        size=image_size_to_proto(info.size),
        frame_count=info.frame_count or 0,
        frames_per_second=info.frames_per_second,
        duration=duration_to_proto(info.duration_s),
        digest=info.digest,
    )


def tracked_frame_to_proto(frame: TrackedFrame) -> video_pb2.VideoFrameResult:
    """Write the masks of a frame; of them only what the request's options asked for."""
    return video_pb2.VideoFrameResult(
        frame_index=frame.index,
        presentation_time=duration_to_proto(frame.time_s),
        masks=[tracked_mask_to_proto(mask, frame.mask_options, frame.size) for mask in frame.masks],
    )


def track_summary_to_proto(summary: TrackSummary, request_id: str) -> video_pb2.TrackVideoSummary:
    """Write the end of a tracked video."""
    error = summary.decode_error
    return video_pb2.TrackVideoSummary(
        overlay_video=_overlay_video_to_proto(summary),
        info=processing_pb2.ProcessingInfo(
            models=[
                processing_pb2.ModelReference(
                    model=summary.model, checkpoint_digest=summary.checkpoint_digest
                )
            ],
            timings=timings_to_proto(summary.timings),
            request_id=request_id,
        ),
        decode_error=None if error is None else status_from_error(error, request_id),
    )


def _overlay_video_to_proto(summary: TrackSummary) -> file_pb2.FileContent | None:
    video = summary.overlay_video
    if video is None:
        return None
    content = file_pb2.FileContent(content_type=OVERLAY_VIDEO_TYPE, file_name=OVERLAY_VIDEO_NAME)
    if isinstance(video, bytes):
        content.data = video
    else:
        content.file.CopyFrom(stored_file_to_proto(video))
    return content
