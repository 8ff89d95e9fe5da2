"""URIs in real requests: pictures, videos and point maps, of two tenants, on a running server."""

from __future__ import annotations

import hashlib
import io
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import obstore
import pytest
from obstore.store import S3Store

from maskwire.v1 import (
    reconstruction_pb2,
    reconstruction_pb2_grpc,
    segmentation_pb2,
    segmentation_pb2_grpc,
    video_pb2,
    video_pb2_grpc,
)
from maskwire_server.app import Application
from maskwire_server.identity.api_keys import ApiKeyRecord
from maskwire_server.identity.key_file import changed_keys
from maskwire_server.settings import Settings
from tests.support.grpc_serving import reason
from tests.support.https_files import FileHost, png, serving_files
from tests.support.job_calls import DEADLINE_S, HEIGHT, WIDTH, disc, objects_request
from tests.support.moto_process import moto_process, moto_program
from tests.support.videos import squares_video

BUCKET = "served-uris"
CREDENTIALS = {"region": "us-east-1", "access_key_id": "id", "secret_access_key": "hidden-key"}
PICTURE = png(64, 48)
VIDEO = squares_video(2)


@dataclass(frozen=True)
class World:
    """A server, a host that it may fetch from, and keys of two tenants."""

    channel: grpc.aio.Channel
    host: FileHost
    keys: dict[str, str]

    def metadata(self, tenant: str) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.keys[tenant]}")]

    async def segment(self, uri: str, tenant: str = "alice") -> Any:
        stub: Any = segmentation_pb2_grpc.SegmentationServiceStub(self.channel)
        request = segmentation_pb2.SegmentImageRequest()
        request.image.uri = uri
        point = request.prompts.add().point.point
        point.x = point.y = 20
        return await stub.SegmentImage(request, timeout=DEADLINE_S, metadata=self.metadata(tenant))

    async def first_of_video(self, uri: str) -> Any:
        stub: Any = video_pb2_grpc.VideoServiceStub(self.channel)
        request = video_pb2.TrackVideoRequest()
        request.video.uri = uri
        request.prompts.add().point.point.x = 1
        call = stub.TrackVideo(request, timeout=DEADLINE_S, metadata=self.metadata("alice"))
        first = await call.read()
        call.cancel()
        return first

    async def job_of_points(self, uri: str) -> str:
        stub: Any = reconstruction_pb2_grpc.ReconstructionServiceStub(self.channel)
        points = reconstruction_pb2.PointMap(uri=uri)
        request = objects_request([disc(48, 32, 20)], point_map=points)
        call = stub.ReconstructObjects(request, timeout=DEADLINE_S, metadata=self.metadata("alice"))
        first = await call.read()
        call.cancel()
        return str(first.job)


async def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code(), reason(raised.value)


@pytest.fixture(scope="module")
def bucket_address() -> Iterator[str]:
    with moto_process(moto_program()) as address:
        made = urllib.request.Request(f"{address}/{BUCKET}", method="PUT")
        urllib.request.urlopen(made).close()
        store: Any = S3Store(
            BUCKET,
            endpoint=address,
            client_options={"allow_http": True},
            region="us-east-1",
            access_key_id="id",
            secret_access_key="hidden-key",
        )
        for tenant in ("alice", "bob"):
            obstore.put(store, f"in/{tenant}/picture.png", PICTURE)
        obstore.put(store, "in/alice/video.mp4", VIDEO)
        obstore.put(store, "in/alice/points.npy", points_file())
        yield address


def points_file() -> bytes:
    """Write a point map for the picture of `job_calls`: a wall one metre away."""
    columns, rows = np.meshgrid(np.linspace(-1, 1, WIDTH), np.linspace(-1, 1, HEIGHT))
    written = io.BytesIO()
    np.save(written, np.dstack([columns, rows, np.ones_like(rows)]).astype(np.float32))
    return written.getvalue()


@asynccontextmanager
async def made_world(folder: Path, bucket_address: str) -> AsyncIterator[World]:
    keys = {}
    for tenant in ("alice", "bob"):
        record, keys[tenant] = ApiKeyRecord.create(
            name=tenant, tenant=tenant, now=datetime.now(UTC)
        )
        with changed_keys(folder / "keys.json") as held:
            held[record.key_id] = record
    place = {"url": f"s3://{BUCKET}/in/{{tenant}}", "endpoint": bucket_address, "allow_http": True}
    async with serving_files(folder) as host:
        settings = Settings.read(
            grpc={"port": 0, "drain_notice_s": 0.0},
            auth={"keys_file": folder / "keys.json"},
            metrics={"enabled": False},
            models={"cpu_threads": 1},
            storage={"folder": folder / "files"},
            jobs={"database": folder / "jobs.sqlite", "workers": 0},
            sources={
                "https": {
                    "enabled": True,
                    "ca_file": folder / "authority.pem",
                    "allowed_ports": [host.port],
                    "allowed_networks": ["127.0.0.0/8"],
                },
                "buckets": [place | CREDENTIALS],
            },
        )
        application = await Application.start(settings)
        try:
            address = f"127.0.0.1:{application.port}"
            async with grpc.aio.insecure_channel(address) as channel:
                yield World(channel, host, keys)
        finally:
            await application.stop()


async def test_uris_of_all_kinds(tmp_path: Path, bucket_address: str) -> None:
    async with made_world(tmp_path, bucket_address) as world:
        await check_pictures(world)
        await check_videos(world)
        await check_point_maps(world)


async def check_pictures(world: World) -> None:
    world.host.picture = PICTURE
    digest = f"sha256:{hashlib.sha256(PICTURE).hexdigest()}"
    for uri, tenant in (
        (world.host.url("picture?type=image/png"), "alice"),
        (f"s3://{BUCKET}/in/alice/picture.png", "alice"),
        (f"s3://{BUCKET}/in/bob/picture.png", "bob"),
    ):
        answer = await world.segment(uri, tenant)
        assert answer.info.image.digest == digest
        assert answer.masks
    denied = (grpc.StatusCode.PERMISSION_DENIED, "SOURCE_FORBIDDEN")
    for key in ("in/bob/picture.png", "in/nobody/picture.png", "picture.png"):
        assert await refusal(world.segment(f"s3://{BUCKET}/{key}")) == denied
    failed = (grpc.StatusCode.FAILED_PRECONDITION, "SOURCE_UNAVAILABLE")
    assert await refusal(world.segment(world.host.url("status/404"))) == failed
    missing = (grpc.StatusCode.NOT_FOUND, "FILE_NOT_FOUND")
    assert await refusal(world.segment(f"s3://{BUCKET}/in/alice/nothing")) == missing
    invalid = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert await refusal(world.segment(world.host.url("page"))) == invalid
    large = (grpc.StatusCode.INVALID_ARGUMENT, "PAYLOAD_TOO_LARGE")
    assert await refusal(world.segment(world.host.url("large"))) == large


async def check_videos(world: World) -> None:
    world.host.picture = VIDEO
    digest = f"sha256:{hashlib.sha256(VIDEO).hexdigest()}"
    for uri in (
        world.host.url("picture?type=video/mp4"),
        f"s3://{BUCKET}/in/alice/video.mp4",
    ):
        assert (await world.first_of_video(uri)).video.digest == digest
    invalid = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    picture = f"s3://{BUCKET}/in/alice/picture.png"
    assert await refusal(world.first_of_video(picture)) == invalid
    denied = (grpc.StatusCode.PERMISSION_DENIED, "SOURCE_FORBIDDEN")
    assert await refusal(world.first_of_video(f"s3://{BUCKET}/in/bob/video.mp4")) == denied


async def check_point_maps(world: World) -> None:
    assert (await world.job_of_points(f"s3://{BUCKET}/in/alice/points.npy")).startswith("jobs/")
    invalid = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    video = f"s3://{BUCKET}/in/alice/video.mp4"
    assert await refusal(world.job_of_points(video)) == invalid
    # The contract has object stores and uploaded files for these, nothing else.
    disabled = (grpc.StatusCode.FAILED_PRECONDITION, "SOURCE_DISABLED")
    assert await refusal(world.job_of_points(world.host.url("picture"))) == disabled
