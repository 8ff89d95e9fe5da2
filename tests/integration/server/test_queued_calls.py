"""Calls that run as jobs give what they give directly."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import proto

from maskwire.v1 import (
    file_pb2,
    file_pb2_grpc,
    image_pb2,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    segmentation_pb2,
    segmentation_pb2_grpc,
    video_pb2,
    video_pb2_grpc,
)
from tests.support import videos
from tests.support.footage import Request as TrackRequest
from tests.support.footage import click_square, frames_of, track
from tests.support.grpc_serving import reason
from tests.support.job_calls import DEADLINE_S, check_events, new_request_id, picture
from tests.support.server_process import ServerProcess, server_process

Call = job_service_pb2.QueuedCall


@pytest.fixture(scope="module")
def job_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("queued")
    with server_process(folder, models={"cpu_threads": 1}) as process:
        yield process


@pytest.fixture
def channel(job_server: ServerProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(job_server.address) as connected:
        yield connected


def run(channel: grpc.Channel, call: Call) -> job_service_pb2.GetJobResultResponse:
    """Queue a call, watch it to its end, and return its result."""
    stub = job_service_pb2_grpc.JobServiceStub(channel)
    submitted = stub.SubmitJob(
        job_service_pb2.SubmitJobRequest(request_id=new_request_id(), call=call),
        timeout=DEADLINE_S,
    ).job
    watching = job_service_pb2.WatchJobRequest(name=submitted.name)
    *events, last = stub.WatchJob(watching, timeout=DEADLINE_S)
    check_events([message.event for message in events])
    assert last.job.state == job_pb2.JOB_STATE_SUCCEEDED, last.job.error
    return stub.GetJobResult(job_service_pb2.GetJobResultRequest(name=submitted.name))


def segment_request() -> segmentation_pb2.SegmentImageRequest:
    request = segmentation_pb2.SegmentImageRequest(image=image_pb2.ImageSource(data=picture()))
    request.prompts.add().point.point.x = 40
    request.prompts[0].point.point.y = 30
    return request


def test_a_picture_that_the_server_holds_is_segmented_as_a_job(channel: grpc.Channel) -> None:
    stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
    request = segment_request()
    direct = stub.SegmentImage(request, timeout=DEADLINE_S)
    request.image.digest = direct.info.image.digest
    queued = run(channel, Call(segment_image=request)).segment_image
    assert queued.masks == direct.masks
    assert queued.info.models == direct.info.models


def test_everything_in_a_picture_as_a_job(channel: grpc.Channel) -> None:
    request = segmentation_pb2.AutoSegmentRequest(image=image_pb2.ImageSource(data=picture()))
    request.options.points_per_side = 4
    request.options.pred_iou_thresh = 0
    request.options.stability_score_thresh = 0
    stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
    direct = stub.AutoSegment(request, timeout=DEADLINE_S)
    queued = run(channel, Call(auto_segment=request)).auto_segment
    assert direct.masks
    assert queued.masks == direct.masks


def test_a_tracked_video_as_a_job_stores_its_frames(channel: grpc.Channel) -> None:
    video = video_pb2.VideoSource(data=videos.squares_video(8))
    request = TrackRequest(video=video)
    click_square(request)
    direct = track(video_pb2_grpc.VideoServiceStub(channel), request)
    queued = run(channel, Call(track_video=request)).track_video
    assert queued.video == direct[0].video
    assert queued.summary.info.models == direct[-1].summary.info.models
    files = file_pb2_grpc.FileServiceStub(channel)
    download = file_pb2.DownloadFileRequest(name=queued.frames.name)
    stream = io.BytesIO(b"".join(one.chunk for one in files.DownloadFile(download)))
    frames = []
    while (frame := proto.parse_length_prefixed(video_pb2.VideoFrameResult, stream)) is not None:
        frames.append(frame)
    assert frames == frames_of(direct)
    assert len(frames) == 8


def test_a_call_that_fails_as_a_job_says_why(channel: grpc.Channel) -> None:
    request = segment_request()
    request.prompts[0].point.point.x = 4000
    stub: Any = job_service_pb2_grpc.JobServiceStub(channel)
    submitted = stub.SubmitJob(
        job_service_pb2.SubmitJobRequest(
            request_id=new_request_id(), call=Call(segment_image=request)
        ),
        timeout=DEADLINE_S,
    ).job
    watching = job_service_pb2.WatchJobRequest(name=submitted.name)
    *events, last = stub.WatchJob(watching, timeout=DEADLINE_S)
    check_events([message.event for message in events])
    assert (last.job.state, last.job.attempt) == (job_pb2.JOB_STATE_FAILED, 1)
    assert last.job.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert "prompts[0].point.point" in last.job.error.message
    with pytest.raises(grpc.RpcError) as refused:
        stub.GetJobResult(job_service_pb2.GetJobResultRequest(name=submitted.name))
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason(refused.value) == "JOB_NOT_DONE"


@pytest.mark.parametrize("kind", ["segment_image", "auto_segment", "track_video"])
def test_a_model_that_is_not_served_is_refused_at_once(channel: grpc.Channel, kind: str) -> None:
    call = Call()
    if kind == "track_video":
        call.track_video.video.data = b"x"
        call.track_video.prompts.add().point.point.x = 1
    else:
        getattr(call, kind).image.data = picture()
    getattr(call, kind).model = "nobody"
    if kind == "segment_image":
        call.segment_image.prompts.add().point.point.x = 1
    with pytest.raises(grpc.RpcError) as refused:
        run(channel, call)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
