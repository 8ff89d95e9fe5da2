"""The pipeline around real handlers of all four kinds of RPC, over a real connection."""

# ruff: noqa: N802  # the methods carry the contract's names
# Servicers that lack methods, which then are unimplemented, are what is tested here.
# mypy: disable-error-code="abstract"

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from maskwire.v1 import (
    file_pb2,
    file_pb2_grpc,
    model_pb2_grpc,
    realtime_pb2_grpc,
    video_pb2,
    video_pb2_grpc,
)
from maskwire_server.observability.metrics import Metrics
from maskwire_server.transport.interceptors.admission import AdmissionInterceptor
from maskwire_server.transport.interceptors.error_translation import ErrorInterceptor
from maskwire_server.transport.interceptors.metrics import MetricsInterceptor
from maskwire_server.transport.interceptors.pipeline import Interceptor
from tests.support.four_kinds import (
    KINDS,
    Recorder,
    Services,
    fail,
    finish,
    pairs,
    raw_call,
    start,
)
from tests.support.grpc_serving import reason, serving


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_call_passes_through(kind):
    expected = {"unary": 1, "server_stream": 3, "client_stream": 1, "bidi_stream": 2}
    async with serving([Interceptor()], *pairs(Services())) as channel:
        assert len(await finish(start(channel, kind), kind)) == expected[kind]


@pytest.mark.parametrize("kind", KINDS)
async def test_methods_of_base_servicers_and_unknown_ones_are_unimplemented(kind):
    class Nothing(
        model_pb2_grpc.ModelServiceServicer,
        video_pb2_grpc.VideoServiceServicer,
        file_pb2_grpc.FileServiceServicer,
        realtime_pb2_grpc.RealtimeServiceServicer,
    ):
        pass

    recorder = Recorder()
    interceptors = [MetricsInterceptor(recorder), ErrorInterceptor()]
    async with serving(interceptors, *pairs(Nothing())) as channel:
        error = await fail(start(channel, kind, silent=True), kind)
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "not implemented in this version" in error.details()
        assert reason(error) == "UNIMPLEMENTED"
        for path in ("/maskwire.v1.ModelService/Invented", "/a/b/c", "/x/y"):
            error = await fail(raw_call(channel, path, b""), "unary")
            assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        assert set(await recorder.codes(kind, calls=4)) == {"UNIMPLEMENTED"}
    assert recorder.counts["finished", "unary", "unknown", "unknown", "UNIMPLEMENTED"] == 3
    services = {key[2] for key in recorder.counts}
    assert len(services) == 2


@pytest.mark.parametrize("kind", KINDS)
async def test_a_cancelled_call_ends_its_servicer_and_its_counts(kind):
    begun = asyncio.Event()

    async def hang():
        begun.set()
        await asyncio.Event().wait()

    services, recorder = Services(hang), Recorder()
    admission = AdmissionInterceptor(1, Metrics())
    interceptors = [MetricsInterceptor(recorder), ErrorInterceptor(), admission]
    async with serving(interceptors, *pairs(services)) as channel:
        call = start(channel, kind)
        answer = asyncio.ensure_future(finish(call, kind))
        await begun.wait()
        assert admission.in_flight == 1
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answer
        await services.ended.wait()
        await admission.wait_until_idle()
        assert await recorder.codes(kind) == {"CANCELLED": 1}
        services.act = services._nothing
        await finish(start(channel, kind), kind)


async def test_a_client_that_stops_reading_ends_the_servicer():
    class Endless(video_pb2_grpc.VideoServiceServicer):
        def __init__(self):
            self.ended = asyncio.Event()

        async def TrackVideo(self, request, context):
            try:
                while True:
                    yield video_pb2.TrackVideoResponse()
            finally:
                self.ended.set()

    servicer, recorder = Endless(), Recorder()
    admission = AdmissionInterceptor(1, Metrics())
    interceptors = [MetricsInterceptor(recorder), ErrorInterceptor(), admission]
    pair = (video_pb2_grpc.add_VideoServiceServicer_to_server, servicer)
    async with serving(interceptors, pair) as channel:
        call = start(channel, "server_stream")
        async for _ in call:
            break
        call.cancel()
        await servicer.ended.wait()
        await admission.wait_until_idle()
        assert await recorder.codes("server_stream") == {"CANCELLED": 1}


async def test_a_cancelled_stream_does_not_look_like_a_half_close():
    """gRPC tells of a stream's end, then of its cancellation; a busy machine may stand between."""
    calls, finalised = 20, []

    class Uploads(file_pb2_grpc.FileServiceServicer):
        def __init__(self):
            self.begun, self.ended = asyncio.Event(), asyncio.Event()

        async def UploadFile(self, requests, context):
            try:
                async for _ in requests:
                    self.begun.set()
                finalised.append(True)
            finally:
                self.ended.set()

    async def one_then_silence():
        yield file_pb2.UploadFileRequest()
        await asyncio.Event().wait()

    servicer = Uploads()
    pair = (file_pb2_grpc.add_FileServiceServicer_to_server, servicer)
    async with serving([Interceptor()], pair) as channel:
        for _ in range(calls):
            servicer.begun.clear()
            servicer.ended.clear()
            call = file_pb2_grpc.FileServiceStub(channel).UploadFile(one_then_silence())
            await servicer.begun.wait()
            call.cancel()
            await servicer.ended.wait()
    assert len(finalised) < calls / 2


@pytest.mark.parametrize("kind", KINDS)
async def test_bytes_that_are_no_message_are_the_callers_mistake(kind):
    paths = {
        "unary": "/maskwire.v1.ModelService/GetModel",
        "server_stream": "/maskwire.v1.VideoService/TrackVideo",
        "client_stream": "/maskwire.v1.FileService/UploadFile",
        "bidi_stream": "/maskwire.v1.RealtimeService/RunSession",
    }
    async with serving([ErrorInterceptor()], *pairs(Services())) as channel:
        error = await fail(raw_call(channel, paths[kind], b"\xff\xff\xff"), "unary")
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "protobuf" in error.details()


async def test_a_unary_call_without_a_request_is_the_callers_mistake():
    async with serving([ErrorInterceptor()], *pairs(Services())) as channel:
        call: Any = channel.stream_unary("/maskwire.v1.ModelService/GetModel")(iter(()))
        error = await fail(call, "unary")
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "missing" in error.details()


async def test_interceptors_run_from_the_outermost_to_the_innermost():
    order = []

    class Noting(Interceptor):
        def __init__(self, name):
            self.name = name

        async def intercept(self, call, proceed):
            order.append(f"{self.name} before")
            try:
                return await proceed()
            finally:
                order.append(f"{self.name} after")

    async with serving([Noting("a"), Noting("b")], *pairs(Services())) as channel:
        await finish(start(channel, "server_stream"), "server_stream")
    assert order == ["a before", "b before", "b after", "a after"]


@pytest.mark.parametrize("kind", ["unary", "server_stream"])
async def test_a_request_that_does_not_come_is_not_waited_for(kind):
    method = {"unary": "ModelService/GetModel", "server_stream": "VideoService/TrackVideo"}[kind]
    services = Services()
    async with serving([ErrorInterceptor()], *pairs(services), max_request_s=1.5) as channel:
        # On the wire a call of any kind may begin without its message.
        silent: Any = channel.stream_stream(f"/maskwire.v1.{method}")(timeout=600)
        assert await silent.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "grpc.max_request_s" in await silent.details()
        # And a message in time is taken.
        assert await finish(start(channel, kind, timeout=600), kind)
    assert services.ended.is_set()
