"""Sessions that reconnect, of both clients: what is kept, what is lost, and that it is named."""

from __future__ import annotations

import asyncio
import itertools

import grpc
import pytest

from maskwire.v1 import realtime_pb2
from maskwire_client import LostFrame, Point, Reconnect, errors
from tests.support import scripted_sessions as scripted
from tests.support.both_clients import Connect, connect
from tests.support.scripted_sessions import Response, SessionScript, serving_sessions

__all__ = ["connect"]

IMAGE = b"an encoded frame"
CLICK = [Point(1, 2, object_id=5)]
AT_ONCE = Reconnect(initial_backoff_s=0.001, max_backoff_s=0.01)


class DiesOnce:
    """Answers, until a frame of this number comes: the first stream ends with it."""

    def __init__(self, frame_id: int, silent_from: int | None = None) -> None:
        self._frame_id = frame_id
        self._silent_from = frame_id if silent_from is None else silent_from
        self._has_died = False

    def __call__(self, request, stream):
        if self._has_died or not request.HasField("frame"):
            return scripted.answer(request, stream)
        if request.frame.frame_id >= self._frame_id:
            self._has_died = True
            return [scripted.GO_AWAY]
        return (
            scripted.answer(request, stream) if request.frame.frame_id < self._silent_from else []
        )


async def test_objects_keep_their_ids_and_lost_frames_are_named(connect: Connect) -> None:
    script = SessionScript(DiesOnce(8, silent_from=6))
    async with (
        serving_sessions(script) as address,
        connect(address) as client,
        client.open_session(reconnect=AT_ONCE, window=8) as session,
    ):
        first = await session.track(IMAGE, points=CLICK)
        stream = session.stream(IMAGE for _ in range(40))
        results = [first, *[one async for one in stream]]
        assert session.session_id == "session-2"
        assert session.resumed_object_ids == (5,)
        summary = await session.end()
    assert all([mask.object_id for mask in one] == [5] for one in results)
    lost = [frame for one in results for frame in one.lost_frames]
    assert {6, 7, 8} <= {frame.frame_id for frame in lost}
    answered = [one.frame_id for one in results]
    assert sorted([*answered, *(frame.frame_id for frame in lost)]) == list(range(41))
    assert (summary.frames_sent, summary.frames_lost) == (41, len(lost))
    assert (summary.lost_frames, summary.reconnects) == (tuple(lost), 1)
    sequences = [one.sequence for one in results]
    assert sequences == sorted(set(sequences))
    assert script.streams[1].config.resume_seed == b"[5]"
    received = [request.sequence for request in script.streams[1].requests]
    assert received == sorted(set(received))
    assert script.streams[1].first_sequence < received[0]


async def test_who_waits_is_told_and_the_session_goes_on(connect: Connect) -> None:
    async with (
        serving_sessions(SessionScript(DiesOnce(1))) as address,
        connect(address) as client,
        client.open_session(reconnect=AT_ONCE) as session,
    ):
        await session.track(IMAGE, points=CLICK)
        with pytest.raises(errors.ConnectionLost, match="the server stops") as raised:
            await session.track(IMAGE)
        assert raised.value.frame_id == 1
        result = await session.track(IMAGE)
        assert [mask.object_id for mask in result] == [5]
        assert result.lost_frames == (LostFrame(raised.value.sequence, 1),)
        assert (await session.track(IMAGE)).lost_frames == ()


async def test_with_resend_nothing_is_lost(connect: Connect) -> None:
    script = SessionScript(DiesOnce(8, silent_from=6))
    policy = Reconnect(resend=True, initial_backoff_s=0.001)
    async with (
        serving_sessions(script) as address,
        connect(address) as client,
        client.open_session(reconnect=policy, window=8) as session,
    ):
        stream = session.stream((IMAGE for _ in range(40)), points=CLICK)
        results = [one async for one in stream]
        summary = await session.end()
    assert [one.frame_id for one in results] == list(range(40))
    assert all([mask.object_id for mask in one] == [5] for one in results)
    assert (summary.frames_sent, summary.frames_answered, summary.frames_lost) == (40, 40, 0)
    again = [request.frame.frame_id for request in script.streams[1].frames()]
    assert again[:3] == [6, 7, 8]


async def test_the_next_target_takes_over(connect: Connect) -> None:
    first, second = SessionScript(DiesOnce(3)), SessionScript()
    async with (
        serving_sessions(first) as address,
        serving_sessions(second) as other,
        connect(address) as client,
        client.open_session(reconnect=Reconnect(targets=(other,))) as session,
    ):
        results = [one async for one in session.stream([IMAGE] * 10, points=CLICK)]
        assert {mask.object_id for one in results for mask in one} == {5}
    assert (len(first.streams), len(second.streams)) == (1, 1)


async def test_a_drain_notice_moves_the_session_and_nothing_is_lost(connect: Connect) -> None:
    notice = Response(drain_notice=realtime_pb2.DrainNotice(reason="going down"))
    notice.drain_notice.seed.seed = b"[5]"
    given: list[Response] = []

    def answers(request, stream):
        if request.frame.frame_id == 10 and not given:
            given.append(notice)
            return [notice, *scripted.answer(request, stream)]
        return scripted.answer(request, stream)

    first, second = SessionScript(answers), SessionScript()
    async with (
        serving_sessions(first) as address,
        serving_sessions(second) as other,
        connect(address) as client,
        client.open_session(reconnect=Reconnect(targets=(other,))) as session,
    ):
        results = [one async for one in session.stream([IMAGE] * 60, points=CLICK)]
        summary = await session.end()
    assert [one.frame_id for one in results] == list(range(60))
    assert all([mask.object_id for mask in one] == [5] for one in results)
    assert (summary.frames_lost, summary.reconnects) == (0, 1)
    last = [request.control.WhichOneof("control") for request in first.streams[0].requests][-2:]
    assert last == ["export_seed", "end"]
    received = [request.sequence for request in second.streams[0].requests]
    assert received == sorted(set(received))


async def test_a_session_that_was_idle_too_long_goes_on_when_it_is_needed(
    connect: Connect,
) -> None:
    def answers(request, stream):
        answered = scripted.answer(request, stream)
        is_last = request.control.HasField("export_seed") and len(script.streams) == 1
        return [*answered, scripted.IDLE] if is_last else answered

    script = SessionScript(answers)
    # A request that crosses the news of the end is sent again, or else it would be lost.
    policy = Reconnect(resend=True, initial_backoff_s=0.001)
    async with (
        serving_sessions(script) as address,
        connect(address) as client,
        client.open_session(reconnect=policy) as session,
    ):
        await session.track(IMAGE, points=CLICK)
        await script.streams[0].has_ended.wait()
        assert [mask.object_id for mask in await session.track(IMAGE)] == [5]
        summary = await session.end()
    assert len(script.streams) == 2
    assert (summary.frames_lost, summary.reconnects) == (0, 1)


async def test_attempts_are_bounded(connect: Connect) -> None:
    unavailable = itertools.repeat(grpc.StatusCode.UNAVAILABLE)
    script = SessionScript(DiesOnce(1))
    policy = Reconnect(max_attempts=3, initial_backoff_s=0.001, max_backoff_s=0.002)
    async with serving_sessions(script) as address, connect(address) as client:
        session = await client.open_session(reconnect=policy)
        await session.track(IMAGE)
        script.refusals.extend(itertools.islice(unavailable, 10))
        with pytest.raises(errors.ConnectionLost):
            await session.track(IMAGE)
        with pytest.raises(errors.Unavailable, match="refused by the script"):
            await session.track(IMAGE)
        assert len(script.refusals) == 10 - 3
        await session.close()


async def test_what_no_attempt_can_mend_fails_at_once(connect: Connect) -> None:
    script = SessionScript(DiesOnce(1))
    async with serving_sessions(script) as address, connect(address) as client:
        session = await client.open_session(reconnect=AT_ONCE)
        await session.track(IMAGE)
        script.refusals.extend([grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.OK])
        with pytest.raises(errors.ConnectionLost):
            await session.track(IMAGE)
        with pytest.raises(errors.Unauthenticated):
            await session.track(IMAGE)
        assert len(script.refusals) == 1
        await session.close()


async def test_closing_ends_a_session_that_is_between_two_attempts(connect: Connect) -> None:
    script = SessionScript(DiesOnce(1))
    patient = Reconnect(initial_backoff_s=3600, max_backoff_s=3600)
    async with serving_sessions(script) as address, connect(address) as client:
        session = await client.open_session(reconnect=patient)
        await session.track(IMAGE)
        script.refusals.extend([grpc.StatusCode.UNAVAILABLE] * 2)
        with pytest.raises(errors.ConnectionLost):
            await session.track(IMAGE)
        waiting = asyncio.create_task(session.track(IMAGE))
        await session.close()
        with pytest.raises(errors.Cancelled):
            await waiting


async def test_a_pause_and_a_reset_outlive_the_connection(connect: Connect) -> None:
    script = SessionScript(DiesOnce(3))
    async with (
        serving_sessions(script) as address,
        connect(address) as client,
        client.open_session(reconnect=AT_ONCE) as session,
    ):
        await session.track(IMAGE, points=CLICK)
        await session.reset()
        await session.pause()
        await session.track(IMAGE)
        await session.track(IMAGE)
        with pytest.raises(errors.ConnectionLost):
            await session.track(IMAGE)
        assert (await session.track(IMAGE)).masks == ()
    again = script.streams[1]
    assert again.config.resume_seed in (b"", b"[]")
    assert any(request.control.set_paused.paused for request in again.requests)


async def test_the_connection_lost_while_ending(connect: Connect) -> None:
    def answers(request, stream):
        if request.control.HasField("end"):
            return [scripted.GO_AWAY]
        return [] if request.HasField("frame") else scripted.answer(request, stream)

    script = SessionScript(answers)
    async with serving_sessions(script) as address, connect(address) as client:
        session = await client.open_session(reconnect=AT_ONCE)
        await session.send(IMAGE)
        summary = await session.end()
        assert [frame.frame_id for frame in summary.lost_frames] == [0]
        assert (summary.frames_sent, summary.frames_lost) == (1, 1)
    assert len(script.streams) == 1


async def test_without_reconnecting_the_newest_seed_outlives_the_session(connect: Connect) -> None:
    script = SessionScript(DiesOnce(1))
    async with serving_sessions(script) as address, connect(address) as client:
        session = await client.open_session()
        await session.track(IMAGE, points=CLICK)
        await session.export_seed()
        with pytest.raises(errors.Unavailable):
            await session.track(IMAGE)
        await session.close()
        async with client.open_session(resume_from=session.latest_seed) as resumed:
            assert resumed.object_ids == {5}
