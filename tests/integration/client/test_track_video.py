"""Tracked videos of both clients against a real gRPC server with scripted answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
import pytest
from google.rpc import code_pb2

from maskwire.v1 import video_pb2, video_pb2_grpc
from maskwire_client import Point, errors
from tests.support import scripted_sessions as scripted
from tests.support.both_clients import Connect, connect
from tests.support.scripted_server import refuse

__all__ = ["connect"]

Response = video_pb2.TrackVideoResponse
VIDEO = b"an encoded video"
CLICK = [Point(1, 2)]
INFO = Response(video=video_pb2.VideoInfo(size=scripted.SIZE, frame_count=3))
SUMMARY = Response(summary=video_pb2.TrackVideoSummary())


def frame(index: int) -> Response:
    result = video_pb2.VideoFrameResult(frame_index=index, masks=[scripted.square(1, index)])
    progress = video_pb2.TrackProgress(frames_done=index + 1, frames_total=3)
    return Response(frame=result, progress=progress)


class Script(video_pb2_grpc.VideoServiceServicer):
    """Says these responses, then ends with a status, or hangs until the call is cancelled."""

    def __init__(
        self, responses: Sequence[Response], code: grpc.StatusCode = grpc.StatusCode.OK
    ) -> None:
        self.responses = responses
        self.code = code
        self.hangs = False
        self.requests: list[video_pb2.TrackVideoRequest] = []
        self.has_ended = asyncio.Event()

    async def TrackVideo(self, request, context):  # noqa: N802 - the contract's name
        self.requests.append(request)
        try:
            for response in self.responses:
                yield response
            if self.hangs:
                await asyncio.Event().wait()
            if self.code is not grpc.StatusCode.OK:
                await refuse(context, self.code, "as the script says")
        finally:
            self.has_ended.set()


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[str]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    video_pb2_grpc.add_VideoServiceServicer_to_server(script, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def test_frames_come_as_they_are_done(connect: Connect) -> None:
    script = Script([INFO, frame(0), frame(1), frame(2), SUMMARY])
    async with serving(script) as address, connect(address) as client:
        async with client.track_video(VIDEO, points=CLICK, request_id="r-1") as track:
            assert track.info.frame_count == 3
            assert track.summary is None
            frames = [one async for one in track]
        assert [one.frame_index for one in frames] == [0, 1, 2]
        assert [one.progress.frames_done for one in frames] == [1, 2, 3]
        assert track.summary is not None
        assert track.request_id == "r-1"
    assert script.requests[0].video.data == VIDEO


async def test_the_description_may_be_asked_for_in_between(connect: Connect) -> None:
    async with serving(Script([INFO, frame(0), SUMMARY])) as address, connect(address) as client:
        track = client.track_video(VIDEO, points=CLICK)
        assert (await anext(track)).frame_index == 0
        assert track.info.frame_count == 3
        assert [one async for one in track] == []


async def test_a_broken_video_gives_what_it_had(connect: Connect) -> None:
    broken = Response(summary=video_pb2.TrackVideoSummary())
    broken.summary.decode_error.code = code_pb2.DATA_LOSS
    script = Script([INFO, frame(0), broken], grpc.StatusCode.DATA_LOSS)
    async with serving(script) as address, connect(address) as client:
        track = client.track_video(VIDEO, points=CLICK)
        assert (await anext(track)).frame_index == 0
        with pytest.raises(errors.DataLoss, match="as the script says") as raised:
            await anext(track)
        assert raised.value.request_id == track.request_id
        assert isinstance(track.summary.decode_error, errors.DataLoss)


async def test_a_refusal_is_raised_where_the_first_answer_is_awaited(connect: Connect) -> None:
    script = Script([], grpc.StatusCode.INVALID_ARGUMENT)
    async with serving(script) as address, connect(address) as client:
        with pytest.raises(errors.InvalidArgument):
            await anext(client.track_video(VIDEO, points=CLICK))


async def test_leaving_early_cancels_the_call(connect: Connect) -> None:
    script = Script([INFO, frame(0)])
    script.hangs = True
    async with serving(script) as address, connect(address) as client:
        async with client.track_video(VIDEO, points=CLICK) as track:
            await anext(track)
        await asyncio.wait_for(script.has_ended.wait(), 60)
        with pytest.raises(errors.Cancelled):
            await anext(track)


async def test_a_time_limit(connect: Connect) -> None:
    script = Script([INFO])
    script.hangs = True
    async with serving(script) as address, connect(address) as client:
        with pytest.raises(errors.DeadlineExceeded):
            await anext(client.track_video(VIDEO, points=CLICK, timeout_s=0.2))
