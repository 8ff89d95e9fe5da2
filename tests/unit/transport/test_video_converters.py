"""Requests and answers of `VideoService` on the wire."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from maskwire.v1 import file_pb2, mask_pb2, video_pb2
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.files.store import StoredFile
from maskwire_server.domain.geometry import ImageSize, Point
from maskwire_server.domain.masks import MaskEncoding
from maskwire_server.domain.prompts import PointPrompt, Prompt
from maskwire_server.domain.segmentation import MaskOptions, ScoreKind, SegmentedMask, Timings
from maskwire_server.domain.tracked_masks import ObjectState, TrackedMask
from maskwire_server.domain.video.requests import (
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
    VideoUri,
)
from maskwire_server.transport.converters.video import (
    track_event_to_proto,
    track_video_request_from_proto,
)

SIZE = ImageSize(20, 10)


def bare_request() -> video_pb2.TrackVideoRequest:
    message = video_pb2.TrackVideoRequest()
    message.video.data = b"video"
    message.prompts.add().point.point.x = 3.0
    return message


def test_a_bare_request_means_the_defaults():
    assert track_video_request_from_proto(bare_request()) == TrackVideoRequest(
        video=InlineVideo(b"video"),
        prompts=(FramePrompt(Prompt(PointPrompt(Point(3, 0)), None, "prompts[0]"), 0),),
    )


def test_everything_in_a_request_is_read():
    message = bare_request()
    message.video.uri = "files/abc"
    message.prompts[0].frame_index = 5
    message.prompts.add(frame_index=7, object_id=4).point.point.y = 2.0
    message.model = "a-model"
    message.direction = video_pb2.TRACK_DIRECTION_BOTH
    message.frame_range.start_frame = 1
    message.frame_range.end_frame = 9
    message.frame_range.stride = 2
    message.mask_options.encoding = mask_pb2.MASK_ENCODING_PNG_1BIT
    message.postprocess.max_hole_area_px = 12
    message.render_overlay = True
    message.delivery = file_pb2.DELIVERY_STORED_FILE
    request = track_video_request_from_proto(message)
    assert request.video == VideoUri("files/abc")
    assert [one.frame_index for one in request.prompts] == [5, 7]
    assert [one.prompt.object_id for one in request.prompts] == [None, 4]
    assert [one.prompt.field for one in request.prompts] == ["prompts[0]", "prompts[1]"]
    assert request.model == "a-model"
    assert request.direction is TrackDirection.BOTH
    assert request.frames == FrameRange(1, 9, 2)
    assert request.mask_options.encoding is MaskEncoding.PNG_1BIT
    assert request.postprocess.max_hole_area_px == 12
    assert request.render_overlay
    assert request.stores_overlay


@pytest.mark.parametrize("number", video_pb2.TrackDirection.values())
def test_every_direction_is_known(number):
    message = bare_request()
    message.direction = number
    assert track_video_request_from_proto(message).direction in TrackDirection


def test_a_second_pass_is_refused_by_name():
    message = bare_request()
    message.postprocess.refine = True
    with pytest.raises(MaskwireError, match=r"postprocess\.refine") as raised:
        track_video_request_from_proto(message)
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT
    assert "SegmentImage" in raised.value.message


def test_a_request_without_a_source_is_refused():
    message = bare_request()
    message.video.Clear()
    with pytest.raises(MaskwireError, match=r"video\.source"):
        track_video_request_from_proto(message)


def test_what_a_video_is():
    info = VideoInfo(SIZE, None, 12.5, 2.25, "sha256:aa")
    message = track_event_to_proto(TrackEvent(info, TrackProgress(0, None)), "r")
    assert message.WhichOneof("message") == "video"
    assert (message.video.size.width_px, message.video.size.height_px) == (20, 10)
    assert message.video.frame_count == 0
    assert message.video.frames_per_second == 12.5
    assert message.video.duration.ToTimedelta().total_seconds() == 2.25
    assert message.video.digest == "sha256:aa"
    assert message.HasField("progress")
    assert message.progress.frames_total == 0


def test_the_masks_of_a_frame():
    mask = SegmentedMask(
        0, 4, 0, 0.5, ScoreKind.OBJECT_PRESENCE, None, 6, None, encoded=None, logits=None
    )
    tracked = TrackedMask(mask, ObjectState.LOST, unchanged=False, crop=None, is_new=True)
    frame = TrackedFrame(7, 0.28, (tracked,), MaskOptions(include_scores=True), SIZE)
    message = track_event_to_proto(TrackEvent(frame, TrackProgress(3, 9)), "r")
    assert message.frame.frame_index == 7
    assert message.frame.presentation_time.ToMilliseconds() == 280
    assert message.frame.masks[0].mask.object_id == 4
    assert message.frame.masks[0].mask.score == 0.5
    assert (message.progress.frames_done, message.progress.frames_total) == (3, 9)


def summary(**changes: object) -> video_pb2.TrackVideoSummary:
    timings = Timings(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    values = {"overlay_video": None, "decode_error": None, **changes}
    content = TrackSummary(
        model="m",
        checkpoint_digest="sha256:cc",
        timings=timings,
        **values,  # type: ignore[arg-type]
    )
    return track_event_to_proto(TrackEvent(content, TrackProgress(9, 9)), "r").summary


def test_a_summary_says_how_the_result_came_about():
    message = summary()
    assert not message.HasField("overlay_video")
    assert not message.HasField("decode_error")
    assert message.info.models[0].model == "m"
    assert message.info.models[0].checkpoint_digest == "sha256:cc"
    assert message.info.request_id == "r"
    assert message.info.timings.encode.seconds == 3


def test_an_overlay_video_is_inline_or_a_stored_file():
    inline = summary(overlay_video=b"mp4").overlay_video
    assert (inline.data, inline.content_type, inline.file_name) == (
        b"mp4",
        "video/mp4",
        "overlay.mp4",
    )
    now = datetime.now(UTC)
    stored = StoredFile("files/x", "overlay.mp4", "video/mp4", 3, "sha256:dd", now, now)
    content = summary(overlay_video=stored).overlay_video
    assert content.WhichOneof("content") == "file"
    assert content.file.name == "files/x"


def test_a_decode_error_is_the_status_of_the_call():
    error = MaskwireError(ErrorCode.DATA_LOSS, "video.data: frame 3 cannot be decoded")
    status = summary(decode_error=error).decode_error
    assert (status.code, status.message) == (15, "video.data: frame 3 cannot be decoded")
    assert len(status.details) == 2
