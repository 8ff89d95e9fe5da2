"""Fetching over HTTPS: what the host sees, and what of its answers is taken."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from maskwire_server.composition.sources import build_sources
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.images import identify_format
from maskwire_server.domain.remote_sources import RemoteSources, WantedContent
from maskwire_server.domain.segmentation import Caller
from maskwire_server.observability.metrics import Metrics
from maskwire_server.settings import Settings
from tests.support.https_files import FileHost, serving_files

ALICE, BOB = Caller("alice", "1"), Caller("bob", "2")
LIMIT_BYTES = 2**20
NO_ANSWER = "image.uri: no answer over HTTPS came from a public address of that host"
WANTED = WantedContent(
    "image.uri",
    LIMIT_BYTES,
    frozenset(("image/png", "image/jpeg")),
    partial(identify_format, field="image.uri"),
)


@dataclass
class World:
    """A host and what fetches from it."""

    host: FileHost
    sources: RemoteSources
    metrics: Metrics

    async def fetch(self, path: str, caller: Caller = ALICE, **changes: str) -> bytes:
        return b"".join(await self.sources.fetch(self.host.url(path, **changes), WANTED, caller))

    async def refused(self, path: str, caller: Caller = ALICE, **changes: str) -> MaskwireError:
        with pytest.raises(MaskwireError) as raised:
            await self.fetch(path, caller, **changes)
        return raised.value

    def count(self, outcome: str) -> float:
        labels = {"scheme": "https", "outcome": outcome}
        name = "maskwire_source_fetch_seconds_count"
        return self.metrics.registry.get_sample_value(name, labels) or 0


@asynccontextmanager
async def made_world(folder: Path, *names: str, **changes: Any) -> AsyncIterator[World]:
    async with serving_files(folder, *names) as host, AsyncExitStack() as resources:
        https: dict[str, Any] = {
            "enabled": True,
            "ca_file": folder / "authority.pem",
            "allowed_ports": [host.port],
            "allowed_networks": ["127.0.0.0/8"],
            "connect_timeout_s": 5.0,
        }
        https |= changes.pop("https", {})
        settings = Settings.read(sources={"https": https, "timeout_s": 20.0, **changes})
        metrics = Metrics()
        yield World(host, build_sources(settings, metrics, resources), metrics)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with made_world(tmp_path) as made:
        yield made


async def test_a_picture_is_fetched(world: World) -> None:
    assert await world.fetch("picture?type=image/png") == world.host.picture
    assert world.count("fetched") == 1
    counted = world.metrics.registry.get_sample_value(
        "maskwire_source_bytes_total", {"scheme": "https"}
    )
    assert counted == len(world.host.picture)


async def test_nothing_is_told_to_hosts_and_nothing_is_kept_for_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    for _ in range(2):
        await world.fetch("picture?type=image/png")
    first, second = world.host.requests
    assert first == second
    assert set(first) == {"host", "accept", "accept-encoding", "user-agent", "connection"}
    assert first["host"] == f"127.0.0.1:{world.host.port}"
    assert first["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "media_type",
    ["image/png", "image/jpeg", "IMAGE/PNG; q=1", "application/octet-stream", None],
)
async def test_media_types_that_are_taken(world: World, media_type: str | None) -> None:
    path = "picture" if media_type is None else f"picture?type={media_type.replace(' ', '%20')}"
    assert await world.fetch(path) == world.host.picture


@pytest.mark.parametrize(
    "media_type", ["text/html", "application/json", "image/svg%2bxml", "image/tiff"]
)
async def test_other_media_types_are_refused(world: World, media_type: str) -> None:
    error = await world.refused(f"picture?type={media_type}")
    assert error.code is ErrorCode.INVALID_ARGUMENT
    assert error.message == "image.uri: must be served as one of image/jpeg, image/png"


async def test_what_calls_itself_a_picture_must_begin_like_one(world: World) -> None:
    error = await world.refused("page")
    assert error.code is ErrorCode.INVALID_ARGUMENT
    assert error.message.startswith("image.uri: must be a JPEG")
    await asyncio.wait_for(world.host.ended.wait(), 20)


async def test_a_stated_size_is_refused_before_the_content(world: World) -> None:
    error = await world.refused("large")
    assert error.code is ErrorCode.PAYLOAD_TOO_LARGE
    assert error.violations[0].field == "image.uri"
    await asyncio.wait_for(world.host.ended.wait(), 20)


async def test_a_size_that_is_not_stated_is_counted(world: World) -> None:
    error = await world.refused("endless")
    assert error.code is ErrorCode.PAYLOAD_TOO_LARGE
    await asyncio.wait_for(world.host.ended.wait(), 20)
    # What lies in the buffers of two sockets and of TLS was sent as well.
    assert world.host.sent_bytes < 20 * LIMIT_BYTES
    assert world.count("too_large") == 1


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "identity, gzip"])
async def test_nothing_is_unpacked(world: World, encoding: str) -> None:
    error = await world.refused(f"gzip?as={encoding.replace(' ', '%20')}")
    assert error.code is ErrorCode.INVALID_ARGUMENT
    assert "content encoding" in error.message


@pytest.mark.parametrize("status", [201, 204, 206, 300, 304, 305, 403, 404, 500, 503])
async def test_other_statuses_are_told(world: World, status: int) -> None:
    error = await world.refused(f"status/{status}")
    assert error.code is ErrorCode.SOURCE_UNAVAILABLE
    assert error.message == f"image.uri: the host answered with the status {status}"


async def test_an_answer_that_breaks_off(world: World) -> None:
    error = await world.refused("cut-off")
    assert error.code is ErrorCode.SOURCE_UNAVAILABLE
    assert error.message == "image.uri: the connection broke before everything had come"


async def test_a_head_that_is_too_long(world: World) -> None:
    error = await world.refused("long-header")
    assert error.code is ErrorCode.SOURCE_UNAVAILABLE


@pytest.mark.parametrize("path", ["stalling", "silent"])
async def test_a_host_that_says_nothing_is_left(tmp_path: Path, path: str) -> None:
    # Time enough to connect, on a machine that stands still for a moment.
    async with made_world(tmp_path, timeout_s=3.5) as world:
        error = await world.refused(path)
        assert error.code is ErrorCode.DEADLINE_EXCEEDED
        assert "3.5 s" in error.message
        await asyncio.wait_for(world.host.ended.wait(), 20)
        assert world.count("timed_out") == 1


@pytest.mark.parametrize("path", ["stalling", "silent", "endless"])
async def test_cancelling_ends_the_connection(world: World, path: str) -> None:
    wanted = WantedContent("image.uri", 2**40, WANTED.media_types, WANTED.check_start)

    async def forget(chunk: bytes) -> None:
        pass

    fetch = asyncio.create_task(world.sources.copy(world.host.url(path), wanted, ALICE, forget))
    await asyncio.wait_for(world.host.begun.wait(), 20)
    fetch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetch
    await asyncio.wait_for(world.host.ended.wait(), 20)
    assert world.count("cancelled") == 1


async def test_a_writer_that_fails_ends_the_connection(world: World) -> None:
    async def fail(chunk: bytes) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        await world.sources.copy(world.host.url("endless"), WANTED, ALICE, fail)
    await asyncio.wait_for(world.host.ended.wait(), 20)
    assert world.count("failed") == 1


async def test_certificates_are_checked(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    async with made_world(tmp_path / "a", "elsewhere.test") as world:
        assert (await world.refused("picture")).message == NO_ANSWER
    other = {"ca_file": ssl.get_default_verify_paths().cafile}
    async with made_world(tmp_path / "b", https=other) as world:
        assert (await world.refused("picture")).message == NO_ANSWER
        assert world.host.requests == []


async def test_nobody_there_is_told_like_everything_else(tmp_path: Path) -> None:
    async with made_world(tmp_path) as world:
        pass
    async with AsyncExitStack() as resources:
        settings = Settings.read(
            sources={
                "https": {
                    "enabled": True,
                    "allowed_ports": [world.host.port],
                    "allowed_networks": ["127.0.0.0/8"],
                }
            }
        )
        world.sources = build_sources(settings, world.metrics, resources)
        error = await world.refused("picture")
    assert (error.code, error.message) == (ErrorCode.SOURCE_UNAVAILABLE, NO_ANSWER)


async def test_a_name_is_looked_up(world: World) -> None:
    assert await world.fetch("picture", host="localhost") == world.host.picture


async def test_fetches_are_bounded_for_each_tenant_and_for_all(tmp_path: Path) -> None:
    limits = {"max_fetches": 3, "max_fetches_per_tenant": 2}
    async with made_world(tmp_path, **limits) as world:
        running = [asyncio.create_task(world.fetch("stalling", ALICE)) for _ in range(2)]
        await asyncio.sleep(0)
        error = await world.refused("picture", ALICE)
        assert error.code is ErrorCode.OVERLOADED
        assert error.retry_after is not None
        assert await world.fetch("picture", BOB) == world.host.picture
        running.append(asyncio.create_task(world.fetch("stalling", BOB)))
        await asyncio.sleep(0)
        assert (await world.refused("picture", BOB)).code is ErrorCode.OVERLOADED
        for fetch in running:
            fetch.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for caller in (ALICE, BOB):
            assert await world.fetch("picture", caller) == world.host.picture
        refused = world.metrics.registry.get_sample_value(
            "maskwire_overload_refused_total", {"executor": "sources"}
        )
        assert refused == 2


async def test_without_the_setting_nothing_is_fetched(tmp_path: Path) -> None:
    async with made_world(tmp_path, https={"enabled": False}) as world:
        error = await world.refused("picture")
        assert error.code is ErrorCode.SOURCE_DISABLED
        assert world.host.requests == []
