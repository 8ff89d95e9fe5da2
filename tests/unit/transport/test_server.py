"""The server's beginning and end, over a domain object of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import Default
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from maskwire.v1 import segmentation_pb2, segmentation_pb2_grpc
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.segmentation import (
    Caller,
    ImageInfo,
    SegmentRequest,
    SegmentResult,
    Timings,
)
from maskwire_server.observability.metrics import Metrics
from maskwire_server.settings import GrpcSettings, LimitSettings, Settings
from maskwire_server.transport.server import GrpcServer, build_server
from maskwire_server.transport.services import DomainServices
from tests.support.grpc_serving import reason

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
GRACE_S = 60.0


class Segmentation:
    """Answers when it is allowed to."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def segment(self, request: SegmentRequest, caller: Caller) -> SegmentResult:
        self.begun.set()
        await self.may_answer.wait()
        return SegmentResult(
            masks=(),
            mask_options=request.mask_options,
            pictures=(),
            image=ImageInfo("sha256:", ImageSize(1, 1), "image/png"),
            model="m",
            checkpoint_digest="",
            embedding_cached=False,
            timings=Timings(None, 0.0, None, 0.0, 0.0, 0.0),
        )


def make_server(segmentation: Any, **grpc_settings: Any) -> GrpcServer:
    settings = Settings(
        grpc=GrpcSettings(port=0).model_copy(update=grpc_settings),
        limits=LimitSettings(),
    )
    models: Any = None
    everything: Any = None
    return build_server(settings, DomainServices(segmentation, models, everything), Metrics())


@asynccontextmanager
async def running(segmentation: Any, **settings: Any) -> AsyncIterator[tuple[Any, Any]]:
    server = make_server(segmentation, **settings)
    port = await server.start()
    assert port == server.port > 0
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield server, channel
    await server.drain_and_stop(notice_s=0, grace_s=0)


def ask(channel: Any) -> Any:
    request = segmentation_pb2.SegmentImageRequest()
    request.image.data = b"image"
    request.prompts.add().point.point.x = 1.0
    return segmentation_pb2_grpc.SegmentationServiceStub(channel).SegmentImage(request)


async def health_of(channel: Any) -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    status: int = (await stub.Check(health_pb2.HealthCheckRequest())).status
    return status


async def test_a_taken_port_is_an_error():
    async with running(Segmentation()) as (first, _):
        with pytest.raises(OSError, match=f"127.0.0.1:{first.port}"):
            await make_server(Segmentation(), port=first.port).start()


async def test_a_drain_tells_first_then_refuses_and_loses_no_call():
    segmentation = Segmentation()
    async with running(segmentation) as (server, channel):
        watch: Any = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]
        assert (await watch.read()).status == SERVING
        taken = asyncio.ensure_future(ask(channel))
        await segmentation.begun.wait()
        segmentation.begun.clear()

        draining = asyncio.ensure_future(server.drain_and_stop(notice_s=2.0, grace_s=GRACE_S))
        assert (await watch.read()).status == NOT_SERVING
        assert await health_of(channel) == NOT_SERVING
        during_notice = asyncio.ensure_future(ask(channel))
        await segmentation.begun.wait()
        assert await watch.read() is grpc.aio.EOF, "watches end with the notice"
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ask(channel)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE

        assert not draining.done()
        segmentation.may_answer.set()
        assert (await taken).info.request_id
        assert (await during_notice).info.request_id
        await draining


async def test_what_outlasts_the_grace_is_cut_off():
    segmentation = Segmentation()
    async with running(segmentation) as (server, channel):
        taken = asyncio.ensure_future(ask(channel))
        await segmentation.begun.wait()
        await server.drain_and_stop(notice_s=0, grace_s=0.1)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await taken
        assert raised.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


async def test_reflection_knows_every_service_or_is_off():
    async with running(Segmentation()) as (server, _):
        services = await asyncio.to_thread(reflected_services, server.port)
        assert {name for name in services if name.startswith("maskwire.v1.")} == {
            service.full_name
            for file in ("segmentation", "model", "file", "job_service", "realtime")
            for service in Default()
            .FindFileByName(f"maskwire/v1/{file}.proto")
            .services_by_name.values()
        } | {"maskwire.v1.ReconstructionService", "maskwire.v1.VideoService"}
    async with running(Segmentation(), enable_reflection=False) as (server, _):
        with pytest.raises(grpc.RpcError) as raised:
            await asyncio.to_thread(reflected_services, server.port)
        error: Any = raised.value
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED


def reflected_services(port: int) -> list[str]:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        return list(ProtoReflectionDescriptorDatabase(channel).get_services())


@pytest.mark.parametrize("enabled", [True, False])
async def test_channelz_is_served_only_where_it_is_enabled(enabled):
    async with running(Segmentation(), enable_channelz=enabled) as (_, channel):
        stub: Any = channelz_pb2_grpc.ChannelzStub(channel)
        if enabled:
            assert len((await stub.GetServers(channelz_pb2.GetServersRequest())).server) >= 1
        else:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await stub.GetServers(channelz_pb2.GetServersRequest())
            assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_health_answers_when_calls_are_refused():
    segmentation = Segmentation()
    settings = Settings(grpc=GrpcSettings(port=0), limits=LimitSettings(max_in_flight_calls=1))
    models: Any = None
    everything: Any = None
    service: Any = segmentation
    server = build_server(settings, DomainServices(service, models, everything), Metrics())
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        taken = asyncio.ensure_future(ask(channel))
        await segmentation.begun.wait()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ask(channel)
        assert reason(raised.value) == "OVERLOADED"
        assert await health_of(channel) == SERVING
        segmentation.may_answer.set()
        await taken
    await server.drain_and_stop(notice_s=0, grace_s=GRACE_S)
