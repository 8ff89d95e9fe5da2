"""Automatic segmentation of both clients, against a server whose answers are written down here."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from maskwire.v1 import mask_pb2, processing_pb2, segmentation_pb2, segmentation_pb2_grpc
from maskwire_client import (
    AsyncClient,
    AutoSegmentOptions,
    AutoSegmentUpdate,
    Client,
    MaskEncoding,
    Postprocess,
    Rendering,
    RenderingStyle,
    errors,
)
from tests.support.scripted_server import refuse

IMAGE = b"an encoded image"
INFO = processing_pb2.ProcessingInfo(request_id="r")
Reply = segmentation_pb2.StreamAutoSegmentResponse


def mask(index: int, score: float) -> mask_pb2.Mask:
    return mask_pb2.Mask(index=index, object_id=index + 1, score=score, area_px=5)


def progress(done: int) -> Reply:
    return Reply(progress=segmentation_pb2.AutoSegmentProgress(points_done=done, points_total=9))


STREAM = [
    progress(4),
    Reply(accepted=segmentation_pb2.AcceptedMasks(masks=[mask(0, 0.9), mask(1, 0.8)])),
    progress(9),
    Reply(withdrawn=segmentation_pb2.WithdrawnMasks(indices=[0, 77])),
    Reply(accepted=segmentation_pb2.AcceptedMasks(masks=[mask(2, 0.95)])),
    Reply(result=segmentation_pb2.AutoSegmentResponse(info=INFO)),
]


class Service(segmentation_pb2_grpc.SegmentationServiceServicer):
    """Answers with two masks, or with the stream, which breaks where it is told to."""

    def __init__(self, breaks_after: int | None = None) -> None:
        self.requests: list[Any] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.was_cancelled = asyncio.Event()
        self._breaks_after = breaks_after

    async def AutoSegment(self, request, context):  # noqa: N802
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        masks = [mask(0, 0.9), mask(1, 0.8)]
        return segmentation_pb2.AutoSegmentResponse(masks=masks, info=INFO)

    async def StreamAutoSegment(self, request, context):  # noqa: N802
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        for number, reply in enumerate(STREAM):
            if number == self._breaks_after:
                await refuse(context, grpc.StatusCode.UNAVAILABLE, "draining")
            yield reply
            if self._breaks_after == -1:
                try:
                    await asyncio.Event().wait()
                finally:
                    self.was_cancelled.set()

    async def SegmentImage(self, request, context):  # noqa: N802
        raise AssertionError("not called by these tests")


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[str]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    segmentation_pb2_grpc.add_SegmentationServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def follow(kind: type, address: str, most: int | None = None, **arguments: Any):
    """Return the updates of one client's stream, at most so many, and its result."""
    if kind is Client:
        return await asyncio.to_thread(follow_blocking, address, most, arguments)
    updates: list[AutoSegmentUpdate] = []
    async with (
        AsyncClient(address) as client,
        client.stream_auto_segment(IMAGE, **arguments) as stream,
    ):
        async for update in stream:
            updates.append(update)
            if len(updates) == most:
                break
        return updates, stream.result


def follow_blocking(address: str, most: int | None, arguments: dict[str, Any]):
    updates: list[AutoSegmentUpdate] = []
    with Client(address) as client, client.stream_auto_segment(IMAGE, **arguments) as stream:
        for update in stream:
            updates.append(update)
            if len(updates) == most:
                break
        return updates, stream.result


async def auto_segment(kind: type, address: str, **arguments: Any):
    if kind is AsyncClient:
        async with AsyncClient(address) as client:
            return await client.auto_segment(IMAGE, **arguments)

    def call():
        with Client(address) as client:
            return client.auto_segment(IMAGE, **arguments)

    return await asyncio.to_thread(call)


both = pytest.mark.parametrize("kind", [Client, AsyncClient])


@both
async def test_everything_at_once(kind: type) -> None:
    service = Service()
    async with serving(service) as address:
        result = await auto_segment(
            kind,
            address,
            options=AutoSegmentOptions(points_per_side=8, pred_iou_thresh=0.5, crop_n_layers=1),
            model="nano",
            encoding=MaskEncoding.POLYGONS,
            postprocess=Postprocess(max_hole_area_px=7),
            renderings=[Rendering(RenderingStyle.LABEL_MAP)],
        )
    assert [one.object_id for one in result] == [1, 2]
    assert result.info.request_id == "r"
    (request,) = service.requests
    assert request.image.data == IMAGE
    assert request.options.points_per_side == 8
    assert request.options.pred_iou_thresh == 0.5
    assert request.options.crop_n_layers == 1
    assert not request.options.HasField("stability_score_thresh")
    assert request.mask_options.encoding == mask_pb2.MASK_ENCODING_POLYGONS
    assert request.postprocess.max_hole_area_px == 7
    assert len(request.renderings) == 1


@both
async def test_masks_come_and_go_and_the_rest_is_the_result(kind: type) -> None:
    service = Service()
    async with serving(service) as address:
        updates, result = await follow(kind, address, options=AutoSegmentOptions(points_per_side=3))
    assert [(one.points_done, one.points_total) for one in updates] == [
        (4, 9),
        (4, 9),
        (9, 9),
        (9, 9),
        (9, 9),
    ]
    assert [[one.index for one in update.accepted] for update in updates] == [
        [],
        [0, 1],
        [],
        [],
        [2],
    ]
    assert [[one.index for one in update.withdrawn] for update in updates] == [[], [], [], [0], []]
    assert [one.index for one in result] == [2, 1]
    assert service.requests[0].request.options.points_per_side == 3


@both
async def test_a_stream_that_breaks_raises(kind: type) -> None:
    async with serving(Service(breaks_after=2)) as address:
        with pytest.raises(errors.Unavailable, match="draining"):
            await follow(kind, address)


@both
async def test_leaving_the_block_cancels_the_rest(kind: type) -> None:
    service = Service(breaks_after=-1)
    async with serving(service) as address:
        updates, result = await follow(kind, address, most=1)
        await service.was_cancelled.wait()
    assert len(updates) == 1
    assert result is None


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_both_methods_name_the_image_to_balancers(kind: type) -> None:
    digest = "sha256:" + hashlib.sha256(IMAGE).hexdigest()
    service = Service()
    async with serving(service) as address:
        await auto_segment(kind, address)
        await follow(kind, address)
    assert [sent.get("maskwire-image-digest") for sent in service.metadata] == [digest] * 2
