"""How sessions of both clients begin, fail and end, against a server with scripted answers."""

from __future__ import annotations

import asyncio
import itertools
import threading
from datetime import UTC, datetime

import grpc
import pytest

from maskwire.v1 import mask_pb2, realtime_pb2
from maskwire_client import (
    AsyncClient,
    Frame,
    Point,
    SessionSeed,
    errors,
)
from tests.support import scripted_sessions as scripted
from tests.support.both_clients import Connect, connect
from tests.support.scripted_sessions import SessionScript, serving_sessions

__all__ = ["connect"]

IMAGE = b"an encoded frame"
CLICK = [Point(1, 2)]
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


async def test_resuming_from_a_seed(connect: Connect) -> None:
    script = SessionScript()
    async with serving_sessions(script) as address, connect(address) as client:
        seed = SessionSeed(b"[3, 8]", 17)
        async with client.open_session(resume_from=seed) as session:
            assert session.resumed_object_ids == (3, 8)
            assert session.object_ids == {3, 8}
            assert [mask.object_id for mask in await session.track(IMAGE)] == [3, 8]
    assert script.streams[0].config.resume_seed == b"[3, 8]"


async def test_a_session_that_cannot_be_opened(connect: Connect) -> None:
    refusals = [grpc.StatusCode.RESOURCE_EXHAUSTED]
    async with (
        serving_sessions(SessionScript(refusals=refusals)) as address,
        connect(address) as client,
    ):
        with pytest.raises(errors.ResourceExhausted, match="refused by the script"):
            await client.open_session()
        async with client.open_session() as session:
            await session.track(IMAGE)


async def test_no_server(connect: Connect) -> None:
    async with serving_sessions(SessionScript()) as address:
        pass
    async with connect(address) as client:
        with pytest.raises(errors.Unavailable):
            await client.open_session()


async def test_a_server_that_dies_fails_everything_that_waits(connect: Connect) -> None:
    def answers(request, stream):
        if request.frame.frame_id < 3:
            return scripted.answer(request, stream)
        return [scripted.GO_AWAY] if len(stream.frames()) == 5 else []

    async with (
        serving_sessions(SessionScript(answers)) as address,
        connect(address) as client,
    ):
        session = await client.open_session()
        results = session.stream(itertools.repeat(IMAGE))
        assert [(await anext(results)).frame_id for _ in range(3)] == [0, 1, 2]
        with pytest.raises(errors.Unavailable, match="the server stops"):
            await anext(results)
        for call in (session.track(IMAGE), session.send(IMAGE), session.end(), anext(results)):
            with pytest.raises(errors.Unavailable, match="the server stops"):
                await call
        await session.close()


async def test_a_server_that_pushes_back_stops_only_senders(connect: Connect) -> None:
    script = SessionScript(reads=asyncio.Semaphore(3))
    large = bytes(300_000)
    async with serving_sessions(script) as address, connect(address) as client:
        session = await client.open_session()
        results = session.stream(itertools.repeat(large))
        assert [(await anext(results)).frame_id for _ in range(3)] == [0, 1, 2]
        with pytest.raises(errors.DeadlineExceeded):
            await session.track(large, timeout_s=0.1)
        assert len(script.streams[0].requests) == 3
        script.reads = None
        await session.close()
    assert len(script.streams[0].frames()) < 40


async def test_a_consumer_that_is_slow_gets_everything(connect: Connect) -> None:
    script = SessionScript()
    async with (
        serving_sessions(script) as address,
        connect(address) as client,
        client.open_session(window=3) as session,
    ):
        results = session.stream(IMAGE for _ in range(12))
        await script.wait_for_frames(3)
        for _ in range(1000):  # nothing more comes, however long the consumer takes
            await asyncio.sleep(0)
        assert len(script.streams[0].frames()) == 3
        assert [one.frame_id async for one in results] == list(range(12))


async def test_what_the_source_raises_is_raised_after_the_results(connect: Connect) -> None:
    def frames():
        yield IMAGE
        yield IMAGE
        raise OSError("the camera is gone")

    async with (
        serving_sessions(SessionScript()) as address,
        connect(address) as client,
        client.open_session() as session,
    ):
        results = session.stream(frames())
        assert [(await anext(results)).frame_id for _ in range(2)] == [0, 1]
        with pytest.raises(OSError, match="the camera is gone"):
            await anext(results)
        assert (await session.track(IMAGE)).frame_id == 2


async def test_closing_a_stream_stops_the_sending_but_not_the_session(connect: Connect) -> None:
    script = SessionScript()
    async with (
        serving_sessions(script) as address,
        connect(address) as client,
        client.open_session(window=2) as session,
    ):
        async with session.stream(itertools.repeat(IMAGE)) as results:
            await anext(results)
        await session.track(Frame(IMAGE, 1_000_000))
        summary = await session.end()
    assert summary.frames_sent == summary.frames_answered < 20


async def test_leaving_by_an_exception_breaks_off(connect: Connect) -> None:
    script = SessionScript()
    async with serving_sessions(script) as address, connect(address) as client:
        session = await client.open_session()
        await session.send(IMAGE)
        await session.__aexit__(KeyError, KeyError(), None)
        await asyncio.wait_for(script.streams[0].has_ended.wait(), 30)
        assert not any(one.control.HasField("end") for one in script.streams[0].requests)
        with pytest.raises(errors.Cancelled):
            await session.track(IMAGE)


async def test_an_answer_that_cannot_be_read_fails_the_session(connect: Connect) -> None:
    def answers(request, stream):
        broken = realtime_pb2.TrackedMask()
        broken.mask.logits.CopyFrom(mask_pb2.MaskLogits(rows=5, columns=2, values=bytes(4)))
        return [scripted.frame_result(request, stream, masks=[broken])]

    async with serving_sessions(SessionScript(answers)) as address, connect(address) as client:
        session = await client.open_session()
        with pytest.raises(errors.InternalError, match="cannot be read"):
            await session.track(IMAGE)
        await session.close()


async def test_ended_sessions_take_nothing_more(connect: Connect) -> None:
    async with serving_sessions(SessionScript()) as address, connect(address) as client:
        session = await client.open_session()
        summary = await session.end()
        assert await session.end() == summary == session.summary
        with pytest.raises(RuntimeError, match="ended"):
            await session.track(IMAGE)
        await session.close()


async def test_many_callers_share_one_session(connect: Connect) -> None:
    async with (
        serving_sessions(SessionScript()) as address,
        connect(address) as client,
        client.open_session() as session,
    ):
        await session.track(IMAGE, points=CLICK)
        calls = [session.track(Frame(IMAGE, number)) for number in range(1, 41)]
        calls += [session.prompt(points=[Point(1, 1, object_id=one)]) for one in range(2, 12)]
        results = await asyncio.gather(*calls)
        assert [one.frame_id for one in results[:40]] == list(range(1, 41))
        assert session.object_ids == set(range(1, 12))


async def test_a_cancelled_task_leaves_the_session_alive() -> None:
    reads = asyncio.Semaphore(0)
    script = SessionScript(reads=reads)
    async with (
        serving_sessions(script) as address,
        AsyncClient(address) as client,
        client.open_session() as session,
    ):
        waiting = asyncio.create_task(session.track(IMAGE))
        collecting = asyncio.create_task(anext(session.results()))
        await asyncio.sleep(0)
        for task in (waiting, collecting):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        script.reads = None
        reads.release()
        assert (await session.track(Frame(IMAGE, 9))).frame_id == 9


async def test_no_thread_is_left(connect: Connect) -> None:
    before = set(threading.enumerate())
    async with serving_sessions(SessionScript()) as address, connect(address) as client:
        async with client.open_session() as session:
            assert len([one async for one in session.stream([IMAGE] * 3)]) == 3
        names = {thread.name for thread in set(threading.enumerate()) - before}
    assert not {name for name in names if name.startswith("maskwire")}
