"""Sessions of both clients against a real gRPC server with scripted answers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import numpy as np
import pytest

from maskwire.v1 import realtime_pb2
from maskwire_client import (
    DroppedFrame,
    DropPolicy,
    DropReason,
    Frame,
    ObjectState,
    Point,
    SessionSeed,
    errors,
)
from tests.support import scripted_sessions as scripted
from tests.support.both_clients import Connect, connect
from tests.support.scripted_sessions import Response, SessionScript, serving_sessions

__all__ = ["connect"]

IMAGE = b"an encoded frame"
CLICK = [Point(1, 2)]
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


async def test_a_frame_goes_there_and_its_masks_come_back(connect: Connect) -> None:
    script = SessionScript()
    async with (
        serving_sessions(script) as address,
        connect(address) as client,
        client.open_session(model="toy", held_frames=3, heartbeat_interval_s=2) as session,
    ):
        first = await session.track(Frame(IMAGE, 7, NOON), points=CLICK)
        second = await session.track(IMAGE)
        assert session.session_id == "session-1"
        assert session.model.model == "toy"
        assert (session.lease_s, session.idle_timeout_s) == (3600, 60)
    assert (first.frame_id, first.capture_time) == (7, NOON)
    assert (second.frame_id, second.capture_time) == (8, None)
    assert second.sequence > first.sequence
    assert [mask.object_id for mask in first] == [1]
    assert first.masks[0].state is ObjectState.TRACKED
    assert np.array_equal(second.mask(1).bitmap, scripted.square_bitmap(8))
    assert first.latency_s > 0
    config = script.streams[0].config
    assert (config.model, config.held_frames, config.heartbeat_interval.seconds) == ("toy", 3, 2)
    sent = script.streams[0].frames()[0].frame
    assert (sent.image.data, sent.prompts[0].point.point.x) == (IMAGE, 1)


async def test_requests_about_objects(connect: Connect) -> None:
    script = SessionScript()
    async with (
        serving_sessions(script) as address,
        connect(address) as client,
        client.open_session() as session,
    ):
        await session.track(IMAGE, points=CLICK)
        prompted = await session.prompt(points=[Point(3, 3, object_id=9)], frame_id=0, replace=True)
        assert [mask.object_id for mask in prompted] == [1, 9]
        assert session.object_ids == {1, 9}
        assert await session.remove([1]) == {9}
        assert session.object_ids == {9}
        assert await session.clear_prompts() == {9}
        await session.pause()
        await session.resume()
        seed = await session.export_seed()
        assert (seed.data, session.latest_seed) == (b"[9]", seed)
        await session.reset()
        assert session.object_ids == frozenset()
    kinds = [
        request.control.WhichOneof("control") or request.WhichOneof("message")
        for request in script.streams[0].requests
    ]
    assert kinds == [
        *("frame", "prompts", "remove_objects", "clear_prompts", "set_paused", "set_paused"),
        *("export_seed", "reset", "end"),
    ]
    prompts = script.streams[0].requests[1].prompts
    assert (prompts.frame_id, prompts.replace) == (0, True)
    sequences = [request.sequence for request in script.streams[0].requests]
    assert sequences == sorted(set(sequences))


async def test_a_stream_gives_all_results_in_order(connect: Connect) -> None:
    script = SessionScript()
    async with (
        serving_sessions(script) as address,
        connect(address) as client,
        client.open_session(window=4) as session,
    ):
        frames = (Frame(IMAGE, number) for number in range(10, 210))
        results = [one async for one in session.stream(frames, points=CLICK)]
        assert [one.frame_id for one in results] == list(range(10, 210))
        summary = await session.end()
    assert len(script.streams[0].frames()[0].frame.prompts) == 1
    assert not any(request.frame.prompts for request in script.streams[0].frames()[1:])
    assert (summary.frames_sent, summary.frames_answered, summary.frames_received) == (200,) * 3


async def test_prompts_from_within_a_stream(connect: Connect) -> None:
    script = SessionScript()
    async with (
        serving_sessions(script) as address,
        connect(address) as client,
        client.open_session() as session,
    ):
        objects = []
        async for result in session.stream(IMAGE for _ in range(60)):
            if result.frame_id == 5:
                await session.prompt(points=CLICK)
            objects.append(len(result))
    assert (objects[0], objects[-1]) == (0, 1)


async def test_sending_and_collecting_apart(connect: Connect) -> None:
    script = SessionScript()
    async with (
        serving_sessions(script) as address,
        connect(address) as client,
        client.open_session() as session,
    ):
        sequences = [await session.send(IMAGE) for _ in range(5)]
        summary = await session.end()
        results = [one async for one in session.results()]
    assert [one.sequence for one in results] == sequences
    assert summary.frames_answered == 5


async def test_a_full_window_stops_the_sender_until_results_are_collected(connect: Connect) -> None:
    script = SessionScript()
    async with (
        serving_sessions(script) as address,
        connect(address) as client,
        client.open_session(window=2) as session,
    ):
        await session.send(IMAGE)
        await session.send(IMAGE)
        with pytest.raises(errors.DeadlineExceeded, match="not collected"):
            await session.send(IMAGE, timeout_s=0.05)
        await session.track(IMAGE)  # what waits uncollected holds up nothing else
        await anext(session.results())
        await session.send(IMAGE)


async def test_an_error_of_one_request_leaves_the_session_alive(connect: Connect) -> None:
    def answers(request, stream):
        if request.frame.frame_id == 2 or request.HasField("prompts"):
            return [scripted.error(request, scripted.INVALID_ARGUMENT, "a bad request")]
        return scripted.answer(request, stream)

    async with (
        serving_sessions(SessionScript(answers)) as address,
        connect(address) as client,
        client.open_session() as session,
    ):
        with pytest.raises(errors.InvalidArgument, match="a bad request") as raised:
            await session.prompt(points=CLICK)
        assert raised.value.sequence > 0
        with pytest.raises(errors.InvalidArgument) as raised:
            await session.track(Frame(IMAGE, 2))
        assert raised.value.frame_id == 2
        results = session.stream(Frame(IMAGE, number) for number in range(5))
        assert [(await anext(results)).frame_id for _ in range(2)] == [0, 1]
        with pytest.raises(errors.InvalidArgument) as raised:
            await anext(results)
        assert raised.value.frame_id == 2
        assert [one.frame_id async for one in results] == [3, 4]
        summary = await session.end()
    assert (summary.frames_sent, summary.frames_answered, summary.frames_failed) == (6, 4, 2)


async def test_dropped_frames_are_accounted_for(connect: Connect) -> None:
    waiting: list[realtime_pb2.DroppedFrame] = []

    def answers(request, stream):
        if request.HasField("frame") and request.frame.frame_id % 5 != 4:
            waiting.append(scripted.dropped(request))
            return []
        if request.HasField("frame"):
            account, waiting[:] = list(waiting), []
            return [scripted.frame_result(request, stream, dropped=account)]
        if request.control.HasField("end"):
            ended = realtime_pb2.SessionEnded(dropped_frames=waiting)
            return [Response(sequence=request.sequence, ended=ended)]
        return scripted.answer(request, stream)

    async with (
        serving_sessions(SessionScript(answers)) as address,
        connect(address) as client,
        client.open_session(drop_policy=DropPolicy.LATEST_ONLY) as session,
    ):
        sequences = [await session.send(IMAGE) for _ in range(12)]
        summary = await session.end()
        results = [one async for one in session.results()]
    assert [one.frame_id for one in results] == [4, 9]
    assert results[0].dropped_frames == tuple(
        DroppedFrame(sequences[number], number, DropReason.STALE) for number in range(4)
    )
    assert [one.frame_id for one in summary.dropped_frames] == [10, 11]
    assert (summary.frames_sent, summary.frames_answered, summary.frames_dropped) == (12, 2, 10)


async def test_who_waits_for_a_dropped_frame_learns_of_it(connect: Connect) -> None:
    held: list[realtime_pb2.RunSessionRequest] = []

    def answers(request, stream):
        if not request.HasField("frame"):
            return scripted.answer(request, stream)
        held.append(request)
        if len(held) == 1:
            return []
        return [scripted.frame_result(request, stream, dropped=[scripted.dropped(held[0])])]

    script = SessionScript(answers)
    async with (
        serving_sessions(script) as address,
        connect(address) as client,
        client.open_session(drop_policy=DropPolicy.LATEST_ONLY) as session,
    ):
        stale = asyncio.create_task(session.track(Frame(IMAGE, 1)))
        await script.wait_for_frames(1)
        assert (await session.track(Frame(IMAGE, 2))).frame_id == 2
        with pytest.raises(errors.FrameDropped, match="stale") as raised:
            await stale
        assert raised.value.frame_id == 1


@pytest.mark.parametrize("window", [1, 8])
async def test_a_sampled_stream_ends_although_its_last_frames_have_no_answer(
    connect: Connect, window: int
) -> None:
    unanswered: list[realtime_pb2.DroppedFrame] = []

    def answers(request, stream):
        if request.HasField("frame") and request.frame.frame_id % 30:
            unanswered.append(scripted.dropped(request, realtime_pb2.DROP_REASON_SAMPLED_OUT))
            return []
        if request.HasField("frame"):
            account, unanswered[:] = list(unanswered), []
            return [scripted.frame_result(request, stream, dropped=account)]
        return scripted.answer(request, stream)

    async with (
        serving_sessions(SessionScript(answers)) as address,
        connect(address) as client,
        client.open_session(every_nth_frame=30, window=window) as session,
    ):
        results = [one async for one in session.stream(IMAGE for _ in range(100))]
        with pytest.raises(ValueError, match="leaves frames out"):
            await session.track(IMAGE)
        assert (await session.track(Frame(IMAGE, 300), points=CLICK)).frame_id == 300
    assert [one.frame_id for one in results] == [0, 30, 60, 90]
    assert [len(one.dropped_frames) for one in results] == [0, 29, 29, 29]
    assert {drop.reason for drop in results[1].dropped_frames} == {DropReason.SAMPLED_OUT}


async def test_what_the_server_says_by_itself(connect: Connect) -> None:
    beat = realtime_pb2.SessionHeartbeat(frames_received=3, frames_answered=2, frames_dropped=1)
    notice = realtime_pb2.DrainNotice(
        reason="going down", seed=realtime_pb2.SessionSeed(seed=b"[4]", last_sequence=2)
    )
    notice.end_time.FromDatetime(NOON)

    def answers(request, stream):
        said = [Response(heartbeat=beat), Response(drain_notice=notice)]
        return [*said, *scripted.answer(request, stream)]

    async with (
        serving_sessions(SessionScript(answers)) as address,
        connect(address) as client,
        client.open_session() as session,
    ):
        assert (session.heartbeat, session.drain_notice) == (None, None)
        await session.track(IMAGE)
        assert session.heartbeat.frames_received == 3
        assert (session.drain_notice.end_time, session.drain_notice.reason) == (NOON, "going down")
        assert session.drain_notice.seed == SessionSeed(b"[4]", 2)
