"""The request of `TrackVideo` and its responses."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from google.rpc import code_pb2

from maskwire.v1 import video_pb2
from maskwire_client import (
    Delivery,
    ImageReference,
    ImageSize,
    MaskEncoding,
    Point,
    Postprocess,
    TrackDirection,
    TrackProgress,
    VideoInfo,
    errors,
)
from maskwire_client._video_messages import VideoArguments, VideoReader, track_video_request
from tests.support import scripted_sessions as scripted


def arguments(**options) -> VideoArguments:
    defaults = {
        "points": [Point(1, 2, frame_index=4)],
        "boxes": (),
        "masks": (),
        "texts": (),
        "model": "",
        "direction": TrackDirection.FORWARD,
        "start_frame": 0,
        "end_frame": None,
        "stride": None,
        "encoding": MaskEncoding.COCO_RLE,
        "include_scores": True,
        "include_boxes": False,
        "postprocess": None,
        "render_overlay": False,
        "delivery": Delivery.INLINE,
    }
    return VideoArguments(**{**defaults, **options})


def test_every_option_reaches_the_request() -> None:
    request = track_video_request(
        b"video",
        arguments(
            direction=TrackDirection.BOTH,
            start_frame=2,
            end_frame=9,
            stride=3,
            render_overlay=True,
            delivery=Delivery.STORED_FILE,
            postprocess=Postprocess(min_region_area_px=5),
        ),
    )
    assert (request.video.data, request.prompts[0].frame_index) == (b"video", 4)
    assert request.direction == video_pb2.TRACK_DIRECTION_BOTH
    span = request.frame_range
    assert (span.start_frame, span.end_frame, span.stride) == (2, 9, 3)
    assert request.render_overlay
    assert request.postprocess.min_region_area_px == 5
    plain = track_video_request(b"video", arguments())
    assert not plain.frame_range.HasField("end_frame")
    assert not plain.HasField("postprocess")


def test_where_a_video_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "clip.mp4"
    file.write_bytes(b"video")
    for video in (b"video", bytearray(b"video"), file, str(file)):
        assert track_video_request(video, arguments()).video.data == b"video"
    for uri in ("https://host/clip.mp4", "s3://bucket/clip.mp4"):
        assert track_video_request(uri, arguments()).video.uri == uri
    assert track_video_request(ImageReference("files/7"), arguments()).video.uri == "files/7"
    with pytest.raises(ValueError, match="empty"):
        track_video_request(b"", arguments())
    with pytest.raises(TypeError, match="ndarray"):
        track_video_request(np.zeros(3), arguments())  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        track_video_request(tmp_path / "absent.mp4", arguments())


def described() -> VideoReader:
    reader = VideoReader(has_masks=True)
    info = video_pb2.VideoInfo(size=scripted.SIZE, frame_count=3, frames_per_second=10)
    info.duration.FromTimedelta(timedelta(seconds=0.3))
    assert reader.receive(video_pb2.TrackVideoResponse(video=info)) is None
    return reader


def test_frames_carry_their_time_progress_and_masks() -> None:
    reader = described()
    assert reader.info == VideoInfo(ImageSize(8, 6), 3, 10.0, timedelta(seconds=0.3), "")
    result = video_pb2.VideoFrameResult(frame_index=2, masks=[scripted.square(7, 2)])
    result.presentation_time.FromTimedelta(timedelta(seconds=0.2))
    progress = video_pb2.TrackProgress(frames_done=1, frames_total=3)
    frame = reader.receive(video_pb2.TrackVideoResponse(frame=result, progress=progress))
    assert frame is not None
    assert (frame.frame_index, frame.time_s) == (2, 0.2)
    assert frame.progress == reader.progress == TrackProgress(1, 3)
    assert np.array_equal(frame.masks[0].bitmap, scripted.square_bitmap(2))
    short = scripted.square(7, 2)
    short.ClearField("mask")
    short.mask.object_id, short.unchanged = 7, True
    result = video_pb2.VideoFrameResult(frame_index=3, masks=[short])
    again = reader.receive(video_pb2.TrackVideoResponse(frame=result))
    assert again is not None
    assert np.array_equal(again.masks[0].bitmap, scripted.square_bitmap(2))


def test_of_objects_that_are_gone_nothing_is_kept() -> None:
    reader = described()
    for number in range(1, 50):
        found = video_pb2.VideoFrameResult(
            frame_index=number, masks=[scripted.square(number, number)]
        )
        reader.receive(video_pb2.TrackVideoResponse(frame=found))
    assert len(reader._memory._last) == 1


def test_a_frame_before_the_description_is_refused() -> None:
    with pytest.raises(errors.InternalError, match="before it described"):
        VideoReader(has_masks=True).receive(
            video_pb2.TrackVideoResponse(frame=video_pb2.VideoFrameResult())
        )


def test_the_summary(tmp_path: Path) -> None:
    reader = described()
    message = video_pb2.TrackVideoSummary()
    message.overlay_video.data = b"overlay"
    message.overlay_video.content_type = "video/mp4"
    message.decode_error.code = code_pb2.DATA_LOSS
    message.decode_error.message = "broken"
    reader.receive(video_pb2.TrackVideoResponse(summary=message))
    assert reader.summary is not None
    assert isinstance(reader.summary.decode_error, errors.DataLoss)
    assert reader.summary.overlay is not None
    assert reader.summary.overlay.save(tmp_path / "overlay.mp4").read_bytes() == b"overlay"


def test_an_overlay_that_is_stored_is_not_saved_from_here(tmp_path: Path) -> None:
    reader = described()
    message = video_pb2.TrackVideoSummary()
    message.overlay_video.file.name = "files/9"
    reader.receive(video_pb2.TrackVideoResponse(summary=message))
    assert reader.summary is not None
    overlay = reader.summary.overlay
    assert overlay is not None
    assert overlay.file is not None
    assert (overlay.file.name, reader.summary.decode_error) == ("files/9", None)
    with pytest.raises(ValueError, match="stored on the server"):
        overlay.save(tmp_path / "overlay.mp4")
    reader.receive(video_pb2.TrackVideoResponse(summary=video_pb2.TrackVideoSummary()))
    assert reader.summary.overlay is None
