"""Both clients against a real gRPC server with scripted jobs: watches that break, ends, results."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import grpc
import pytest

from maskwire.v1 import (
    job_service_pb2,
    reconstruction_pb2,
)
from maskwire_client import (
    AsyncClient,
    JobState,
    Reconnect,
    errors,
)
from tests.support.both_clients import connect
from tests.support.scripted_jobs import JOB, LOST, Fails, Jobs, event, job, serving_jobs

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
