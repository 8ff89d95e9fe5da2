"""Both clients against a real gRPC server with scripted jobs: watches that break, ends, results."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import grpc
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
    AsyncClient,
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
from tests.support.scripted_jobs import JOB, LOST, Fails, Files, Jobs, event, job, serving_jobs

__all__ = ["connect"]

IMAGE = b"an encoded image"
REQUEST_ID = "6f1c2a52-3b0a-4d07-9f37-0f0b1f5d8a11"
RESULT = reconstruction_pb2.ReconstructObjectsResult(seed=7)
MADE = job_service_pb2.GetJobResultResponse(reconstruct_objects=RESULT)
QUICK = Reconnect(max_attempts=3, initial_backoff_s=0.01, max_backoff_s=0.02)

Submitted = reconstruction_pb2.ReconstructObjectsRequest
Watched = job_service_pb2.WatchJobRequest


async def sequences(watch) -> list[int]:
    return [one.sequence async for one in watch]


async def test_events_come_one_by_one_and_then_the_result(connect):
    queued = event(1, "QUEUED", "", queue_position=4)
    running = event(2, fraction=0.5, log_line="hello")
    running.time.FromSeconds(1_700_000_000)
    running.elapsed.FromTimedelta(timedelta(seconds=2))
    jobs = Jobs(submissions=[[JOB, queued, running, event(3, "SUCCEEDED"), RESULT]])
    async with serving_jobs(jobs) as address, connect(address) as client:
        reconstruction = await client.reconstruct_objects(IMAGE, request_id=REQUEST_ID)
        assert reconstruction.job_name == JOB
        assert reconstruction.state is JobState.UNSPECIFIED
        events = [one async for one in reconstruction]
        assert [one.state for one in events] == [
            JobState.QUEUED,
            JobState.RUNNING,
            JobState.SUCCEEDED,
        ]
        assert events[0].queue_position == 4
        assert (events[1].stage, events[1].fraction, events[1].log_line) == ("mesh", 0.5, "hello")
        assert (events[1].time.year, events[1].elapsed) == (2023, timedelta(seconds=2))
        assert reconstruction.last_sequence == 3
        assert (await reconstruction.result()).seed == 7
        assert (await reconstruction.result()).seed == 7
    assert [type(request) for request in jobs.requests] == [Submitted]
    assert jobs.requests[0].request_id == REQUEST_ID
    assert jobs.metadata[0]["x-request-id"] == REQUEST_ID


async def test_a_stream_lost_before_the_name_came_is_asked_for_again(connect):
    jobs = Jobs(submissions=[[LOST], [LOST], [JOB, event(1, "SUCCEEDED"), RESULT]])
    async with serving_jobs(jobs) as address, connect(address) as client:
        reconstruction = await client.reconstruct_objects(IMAGE, reconnect=QUICK)
        assert await sequences(reconstruction) == [1]
    first, *others = (request.SerializeToString() for request in jobs.of(Submitted))
    assert others == [first, first]


async def test_a_stream_lost_later_goes_on_after_the_last_event(connect):
    jobs = Jobs(
        submissions=[[JOB, event(1), event(2), LOST]],
        watches=[
            [LOST],
            [event(3), LOST],
            # A proxy that cuts what it does not know looks like this.
            [event(4), Fails(grpc.StatusCode.INTERNAL, "RST_STREAM")],
            [event(5)],
            [event(6, "SUCCEEDED"), job()],
        ],
        results=[LOST, MADE],
    )
    async with (
        serving_jobs(jobs) as address,
        connect(address, retry_attempts=1) as client,
        await client.reconstruct_objects(IMAGE, reconnect=QUICK) as reconstruction,
    ):
        assert await sequences(reconstruction) == [1, 2, 3, 4, 5, 6]
        assert (await reconstruction.result()).seed == 7
    assert [request.after_sequence for request in jobs.of(Watched)] == [2, 2, 3, 4, 5]
    assert len(jobs.of(Submitted)) == 1


async def test_a_stream_lost_between_the_last_event_and_the_result(connect):
    jobs = Jobs(submissions=[[JOB, event(1, "SUCCEEDED"), LOST]], results=[MADE])
    async with serving_jobs(jobs) as address, connect(address) as client:
        reconstruction = await client.reconstruct_objects(IMAGE, reconnect=QUICK)
        assert (await reconstruction.result()).seed == 7
    assert jobs.of(Watched) == []


async def test_other_targets_are_tried_in_turn(connect):
    gone = Jobs(submissions=[[JOB, event(1), LOST]], watches=[[LOST]])
    there = Jobs(watches=[[event(2), event(3, "SUCCEEDED"), job()]], results=[MADE])
    async with serving_jobs(gone) as first, serving_jobs(there) as second, connect(first) as client:
        reconnect = Reconnect(targets=(second,), initial_backoff_s=0.01)
        reconstruction = await client.reconstruct_objects(IMAGE, reconnect=reconnect)
        assert await sequences(reconstruction) == [1, 2, 3]
        assert (await reconstruction.result()).seed == 7
        await reconstruction.close()
    assert [request.after_sequence for request in there.of(Watched)] == [1]


async def test_a_server_that_stays_away_ends_the_watch_but_not_the_job(connect):
    jobs = Jobs(submissions=[[JOB, event(1), LOST]], watches=[[LOST]])
    async with serving_jobs(jobs) as address, connect(address) as client:
        reconstruction = await client.reconstruct_objects(IMAGE, reconnect=QUICK)
        with pytest.raises(errors.Unavailable, match="connection lost"):
            await sequences(reconstruction)
        with pytest.raises(errors.Unavailable, match="connection lost"):
            await reconstruction.result()
    assert len(jobs.of(Watched)) == QUICK.max_attempts
    assert len(jobs.of(job_service_pb2.CancelJobRequest)) == 0


async def test_the_pauses_between_attempts_grow(connect):
    growing = Reconnect(max_attempts=4, initial_backoff_s=0.1, max_backoff_s=0.3)
    async with serving_jobs(Jobs(watches=[[LOST]])) as address, connect(address) as client:
        start = time.monotonic()
        with pytest.raises(errors.Unavailable):
            await sequences(client.watch_job(JOB, reconnect=growing))
        # None before the first attempt, then 0.1, 0.2 and 0.3 s.
        assert time.monotonic() - start >= 0.6


async def test_without_reconnect_nothing_is_tried_again(connect):
    jobs = Jobs(submissions=[[LOST]], watches=[[event(1), LOST]])
    async with serving_jobs(jobs) as address, connect(address) as client:
        with pytest.raises(errors.Unavailable):
            await client.reconstruct_objects(IMAGE, reconnect=None)
        with pytest.raises(errors.Unavailable):
            await sequences(client.watch_job(JOB, reconnect=None))
    assert len(jobs.requests) == 2


@pytest.mark.parametrize("wrong", [3, 1], ids=["gap", "again"])
async def test_events_left_out_or_sent_again_are_an_error(connect, wrong):
    jobs = Jobs(submissions=[[JOB, event(1), LOST]], watches=[[event(wrong)]])
    async with serving_jobs(jobs) as address, connect(address) as client:
        reconstruction = await client.reconstruct_objects(IMAGE, reconnect=QUICK)
        with pytest.raises(errors.InternalError, match=f"event {wrong} of {JOB}"):
            await sequences(reconstruction)
        assert reconstruction.last_sequence == 1


async def test_a_refused_request_is_not_sent_again(connect):
    refusal = Fails(grpc.StatusCode.ALREADY_EXISTS, "another request", "REQUEST_ID_REUSED")
    jobs = Jobs(submissions=[[refusal]])
    async with serving_jobs(jobs) as address, connect(address) as client:
        with pytest.raises(errors.AlreadyExists, match="another request"):
            await client.reconstruct_objects(IMAGE)
    assert len(jobs.requests) == 1


# The server ends the stream of a failed job with the failure, which may look like a lost one.
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.Unavailable),
        (grpc.StatusCode.INVALID_ARGUMENT, errors.InvalidArgument),
    ],
)
async def test_a_failed_job_raises_what_the_call_would_have_raised(connect, code, kind):
    failure = Fails(code, "no such checkpoint", "MODEL_UNAVAILABLE")
    standing = job("FAILED")
    standing.error.code = code.value[0]
    standing.error.message = "no such checkpoint"
    jobs = Jobs(submissions=[[JOB, event(1), event(2, "FAILED"), failure]], standing=standing)
    async with serving_jobs(jobs) as address, connect(address) as client:
        reconstruction = await client.reconstruct_objects(IMAGE)
        with pytest.raises(errors.JobFailed, match="no such checkpoint") as raised:
            await reconstruction.result()
        assert (raised.value.job_name, raised.value.status) == (JOB, code.name)
        assert isinstance(raised.value.cause, kind)
        assert reconstruction.state is JobState.FAILED
    assert jobs.of(Watched) == []


async def test_a_cancelled_job_has_no_result(connect):
    jobs = Jobs(
        submissions=[[JOB, event(1), LOST]],
        watches=[[event(2, "CANCELLED"), job("CANCELLED")]],
        standing=job("RUNNING"),
    )
    async with serving_jobs(jobs) as address, connect(address) as client:
        reconstruction = await client.reconstruct_objects(IMAGE)
        assert (await reconstruction.cancel()).state is JobState.RUNNING
        with pytest.raises(errors.JobCancelled) as raised:
            await reconstruction.result()
        assert raised.value.job_name == JOB
    assert jobs.of(job_service_pb2.CancelJobRequest)[0].name == JOB


async def test_a_watch_that_is_closed_says_so_and_leaves_the_job_alone(connect):
    jobs = Jobs(watches=[[event(1), event(2)]])
    async with serving_jobs(jobs) as address, connect(address) as client:
        async with client.watch_job(JOB, after_sequence=0) as watch:
            assert (await anext(watch)).sequence == 1
        with pytest.raises(errors.Cancelled, match="closed"):
            await anext(watch)
        assert watch.last_sequence == 1
    assert jobs.of(job_service_pb2.CancelJobRequest) == []


class Telling:
    """A stream that tells when somebody waits for its next message."""

    def __init__(self, stream, tell) -> None:
        self._stream = stream
        self._tell = tell

    def __next__(self):
        self._tell()
        return next(self._stream)

    async def __anext__(self):
        self._tell()
        return await anext(self._stream)

    def cancel(self) -> None:
        self._stream.cancel()


def telling(watch, tell) -> None:
    """Let the stream of a watch, of either kind, tell when somebody waits for it."""
    runner = getattr(watch, "_blocking", watch)._runner
    name = "_messages" if hasattr(runner, "_messages") else "_stream"
    setattr(runner, name, Telling(getattr(runner, name), tell))


async def test_a_watch_that_waits_for_an_event_is_closed_from_elsewhere(connect):
    class Hanging(Jobs):
        async def WatchJob(self, request, context):  # noqa: N802
            yield job_service_pb2.WatchJobResponse(event=event(1))
            await asyncio.Event().wait()

    waiting, loop = asyncio.Event(), asyncio.get_running_loop()
    async with serving_jobs(Hanging()) as address, connect(address) as client:
        watch = client.watch_job(JOB)
        assert (await anext(watch)).sequence == 1
        telling(watch, lambda: loop.call_soon_threadsafe(waiting.set))
        more = asyncio.create_task(anext_of(watch))
        await waiting.wait()
        await watch.close()
        with pytest.raises(errors.Cancelled, match="closed"):
            await more


async def test_a_watch_that_waits_for_a_server_is_closed_from_elsewhere(connect):
    asked = asyncio.Event()

    class Losing(Jobs):
        async def WatchJob(self, request, context):  # noqa: N802
            self.requests.append(request)
            if len(self.requests) == 2:
                asked.set()
            await context.abort(grpc.StatusCode.UNAVAILABLE, "lost")
            yield

    patient = Reconnect(initial_backoff_s=60, max_backoff_s=60)
    async with serving_jobs(jobs := Losing()) as address, connect(address) as client:
        watch = client.watch_job(JOB, reconnect=patient)
        more = asyncio.create_task(anext_of(watch))
        await asked.wait()
        await watch.close()
        with pytest.raises(errors.Cancelled, match="closed"):
            await more
    assert len(jobs.requests) == 2


async def anext_of(watch):
    return await anext(watch)


async def test_a_task_that_is_cancelled_is_not_told_that_its_watch_was_closed():
    class Hanging(Jobs):
        async def WatchJob(self, request, context):  # noqa: N802
            yield job_service_pb2.WatchJobResponse(event=event(1))
            await asyncio.Event().wait()

    waiting = asyncio.Event()
    async with serving_jobs(Hanging()) as address, AsyncClient(address) as client:
        watch = client.watch_job(JOB)
        await anext(watch)
        telling(watch, waiting.set)
        more = asyncio.create_task(anext_of(watch))
        await waiting.wait()
        more.cancel()
        with pytest.raises(asyncio.CancelledError):
            await more
        await watch.close()


async def test_the_time_allowed_ends_the_watch(connect):
    jobs = Jobs(watches=[[LOST]])
    patient = Reconnect(initial_backoff_s=60, max_backoff_s=60)
    async with serving_jobs(jobs) as address, connect(address) as client:
        with pytest.raises(errors.DeadlineExceeded):
            await sequences(client.watch_job(JOB, reconnect=patient, timeout_s=5))


async def test_a_watch_from_a_sequence_of_a_job_that_is_done(connect):
    jobs = Jobs(watches=[[job("SUCCEEDED")]], results=[MADE])
    async with serving_jobs(jobs) as address, connect(address) as client:
        watch = client.watch_job(JOB, after_sequence=9)
        assert await sequences(watch) == []
        assert watch.state is JobState.SUCCEEDED
        assert (await watch.result()).seed == 7
    assert jobs.of(Watched)[0].after_sequence == 9


async def test_an_unknown_job_is_not_found(connect):
    missing = Fails(grpc.StatusCode.NOT_FOUND, "no such job", "JOB_NOT_FOUND")
    jobs = Jobs(watches=[[missing]], results=[missing])
    async with serving_jobs(jobs) as address, connect(address) as client:
        with pytest.raises(errors.JobNotFound):
            await sequences(client.watch_job(JOB))
        with pytest.raises(errors.JobNotFound):
            await client.job_result(JOB)


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
