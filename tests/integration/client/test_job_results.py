"""Queued calls, lists of jobs and results: what `Client` and `AsyncClient` send and read."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from maskwire.v1 import (
    geometry_pb2,
    job_pb2,
    job_service_pb2,
    mask_pb2,
    processing_pb2,
    realtime_pb2,
    reconstruction_pb2,
    segmentation_pb2,
    video_pb2,
)
from maskwire_client import (
    AutoSegmentCall,
    Box,
    JobState,
    Point,
    Reconnect,
    ReconstructObjectsCall,
    SegmentCall,
    TrackVideoCall,
    WebhookState,
    errors,
)
from tests.support.both_clients import connect
from tests.support.scripted_jobs import JOB, Files, Jobs, job, serving_jobs

__all__ = ["connect"]

IMAGE = b"an encoded image"
REQUEST_ID = "6f1c2a52-3b0a-4d07-9f37-0f0b1f5d8a11"
RESULT = reconstruction_pb2.ReconstructObjectsResult(seed=7)
MADE = job_service_pb2.GetJobResultResponse(reconstruct_objects=RESULT)
QUICK = Reconnect(max_attempts=3, initial_backoff_s=0.01, max_backoff_s=0.02)

Submitted = reconstruction_pb2.ReconstructObjectsRequest
Watched = job_service_pb2.WatchJobRequest


async def test_every_call_can_be_queued(connect):
    jobs = Jobs(standing=job("QUEUED", queue_position=2))
    async with serving_jobs(jobs) as address, connect(address) as client:
        queued = await client.submit_job(
            SegmentCall(IMAGE, points=[Point(1, 2)], model="m"),
            webhook_url="https://example.org/hook",
            request_id=REQUEST_ID,
        )
        assert (queued.name, queued.state, queued.queue_position) == (JOB, JobState.QUEUED, 2)
        await client.submit_job(AutoSegmentCall(IMAGE))
        await client.submit_job(TrackVideoCall(b"a video", boxes=[(1, 2, 3, 4)], end_frame=9))
        await client.submit_job(ReconstructObjectsCall(IMAGE, prompts=[Box(1, 2, 3, 4)]))
    first, automatic, video, objects = (request.call for request in jobs.requests)
    assert first.segment_image.image.data == IMAGE
    assert first.segment_image.prompts[0].point.point.y == 2
    assert first.segment_image.model == "m"
    assert jobs.requests[0].webhook.url == "https://example.org/hook"
    assert jobs.requests[0].request_id == REQUEST_ID == jobs.metadata[0]["x-request-id"]
    assert automatic.auto_segment.image.data == IMAGE
    assert (video.track_video.video.data, video.track_video.frame_range.end_frame) == (
        b"a video",
        9,
    )
    assert objects.reconstruct_objects.request_id == jobs.requests[3].request_id
    assert objects.reconstruct_objects.prompts[0].box.box.x_max == 3


async def test_how_a_job_stands(connect):
    standing = job("FAILED", attempt=3, stage="mesh", fraction=0.25, last_event_sequence=8)
    standing.create_time.FromSeconds(1_700_000_000)
    standing.error.code, standing.error.message = 3, "bad mask"
    standing.webhook.state = job_pb2.WEBHOOK_STATE_DELIVERED
    standing.webhook.attempts = 2
    async with serving_jobs(Jobs(standing=standing)) as address, connect(address) as client:
        told = await client.job(JOB)
    assert (told.state, told.attempt, told.stage) == (JobState.FAILED, 3, "mesh")
    assert (told.fraction, told.last_event_sequence) == (0.25, 8)
    assert told.create_time.tzinfo is not None
    assert told.start_time is None
    assert isinstance(told.error, errors.InvalidArgument)
    assert (told.webhook.state, told.webhook.attempts) == (WebhookState.DELIVERED, 2)


async def test_lists_go_on_over_pages(connect):
    first = [job(name=f"jobs/{number}") for number in range(3)]
    second = [job(name=f"jobs/{number}") for number in range(3, 5)]
    pages = {
        "": job_service_pb2.ListJobsResponse(jobs=first, next_page_token="more"),
        "more": job_service_pb2.ListJobsResponse(jobs=second),
    }
    jobs = Jobs(pages=pages)
    async with serving_jobs(jobs) as address, connect(address) as client:
        listed = await client.jobs(states=[JobState.SUCCEEDED, JobState.FAILED], method="a/B")
        assert [one.name for one in listed] == [f"jobs/{number}" for number in range(5)]
        assert len(await client.jobs(limit=3)) == 3
    assert list(jobs.requests[0].states) == [
        job_pb2.JOB_STATE_SUCCEEDED,
        job_pb2.JOB_STATE_FAILED,
    ]
    assert (jobs.requests[0].method, jobs.requests[1].page_size) == ("a/B", 97)
    assert len(jobs.requests) == 3


async def test_results_are_those_of_the_queued_call(connect):
    answer = job_service_pb2.GetJobResultResponse
    mask = mask_pb2.Mask(object_id=5)
    results = [
        answer(segment_image=segmentation_pb2.SegmentImageResponse(masks=[mask])),
        answer(auto_segment=segmentation_pb2.AutoSegmentResponse(masks=[mask, mask])),
        answer(),
    ]
    async with serving_jobs(Jobs(results=results)) as address, connect(address) as client:
        assert (await client.job_result(JOB)).masks[0].object_id == 5
        assert len(await client.job_result(JOB)) == 2
        with pytest.raises(errors.InternalError, match="does not know"):
            await client.job_result(JOB)


def frame_file(count: int) -> bytes:
    """A file of frames with one object, whose mask is sent in the first and unchanged after."""
    size = geometry_pb2.ImageSize(width_px=400, height_px=3)
    # Rows of a chessboard, so that the frame is longer than a chunk of the download.
    counts = mask_pb2.CocoRleCounts(size=size, counts=[1] * 1200)
    data = b""
    for index in range(count):
        mask = realtime_pb2.TrackedMask(
            mask=mask_pb2.Mask(object_id=1), state=realtime_pb2.OBJECT_STATE_TRACKED
        )
        if index == 0:
            mask.mask.mask.coco_rle_counts.CopyFrom(counts)
        else:
            mask.unchanged = True
        frame = video_pb2.VideoFrameResult(frame_index=index, masks=[mask])
        frame.presentation_time.FromTimedelta(timedelta(seconds=index / 10))
        message = frame.SerializeToString()
        data += _varint(len(message)) + message
    return data


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def tracked(files: Files) -> job_service_pb2.GetJobResultResponse:
    result = job_service_pb2.TrackVideoJobResult(frames=files.stored("files/1"))
    result.video.size.width_px, result.video.size.height_px = 400, 3
    result.summary.info.CopyFrom(processing_pb2.ProcessingInfo(request_id="r"))
    return job_service_pb2.GetJobResultResponse(track_video=result)


async def test_the_frames_of_a_queued_video_are_read_while_they_come(connect):
    files = Files({"files/1": frame_file(200)}, breaks=[0, 2000])
    jobs = Jobs(results=[tracked(files)])
    async with serving_jobs(jobs, files) as address, connect(address, retry_attempts=1) as client:
        result = await client.job_result(JOB)
        assert result.video.size.width_px == 400
        assert result.summary.info.request_id == "r"
        frames = [frame async for frame in result.frames()]
    assert [frame.frame_index for frame in frames] == list(range(200))
    assert frames[3].time_s == pytest.approx(0.3)
    assert frames[199].progress.frames_done == 200
    expected = (np.arange(1200) % 2 == 1).reshape(400, 3).T
    for frame in (frames[0], frames[199]):
        np.testing.assert_array_equal(frame.masks[0].bitmap, expected)
    assert files.downloads == [("files/1", 0), ("files/1", 0), ("files/1", 2000)]


@pytest.mark.parametrize("content", [frame_file(3)[:-1], b"\xff" * 40, b"\x02\xff\xff"])
async def test_a_file_that_holds_no_frames_is_data_loss(connect, content):
    files = Files({"files/1": content})
    jobs = Jobs(results=[tracked(files)])
    async with serving_jobs(jobs, files) as address, connect(address) as client:
        result = await client.job_result(JOB)
        with pytest.raises(errors.DataLoss):
            _ = [frame async for frame in result.frames()]


async def test_frames_with_a_wrong_digest_are_data_loss(connect):
    files = Files({"files/1": frame_file(2)}, lies={"files/1"})
    jobs = Jobs(results=[tracked(files)])
    async with serving_jobs(jobs, files) as address, connect(address) as client:
        result = await client.job_result(JOB)
        with pytest.raises(errors.DataLoss):
            _ = [frame async for frame in result.frames()]
