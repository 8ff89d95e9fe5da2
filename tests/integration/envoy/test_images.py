"""Calls about an image come to the server that holds its embedding: measured as its caches do."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator
from pathlib import Path

from maskwire_client import AsyncClient
from tests.integration.envoy.conftest import picture
from tests.support.envoy_process import Envoy, envoy_process, shipped
from tests.support.metrics_page import scraped
from tests.support.server_process import ServerProcess

IMAGES = 60
PROMPTS = 3
CALLERS = 4


async def ask_in_any_order(address: str, *, first_image: int) -> None:
    """Ask about all images several times, each time in another order.

    A time begins when the one before has ended: two questions about one image at once would count
    as two misses, wherever they go.
    """
    pictures = [picture(first_image + number) for number in range(IMAGES)]
    shuffler = random.Random(first_image)

    async def call_until_done(client: AsyncClient, left: Iterator[bytes]) -> None:
        for image in left:
            result = await client.segment(image, points=[(60, 50)])
            assert len(result.masks) == 1

    async with _client(address) as client:
        for _ in range(PROMPTS):
            left = iter(shuffler.sample(pictures, IMAGES))
            await asyncio.gather(*(call_until_done(client, left) for _ in range(CALLERS)))


def _client(address: str) -> AsyncClient:
    # One look-up for each call: asking by digest first would have two servers looked at.
    return AsyncClient(address, digest_first=False, timeout_s=250)


async def ask_until_all_have_answered(address: str, servers: list[ServerProcess]) -> None:
    """Ask about new images until each server got one.

    A server whose first check took long joins up to a few seconds after Envoy's start, and takes
    images over from the others then.
    """

    def asked() -> list[float]:
        return [sum(look_ups([server], one) for one in ("hit", "miss")) for server in servers]

    before = asked()
    async with asyncio.timeout(60), _client(address) as client:
        for number in itertools.count(10_000):
            await client.segment(picture(number), points=[(60, 50)])
            if all(now > then for now, then in zip(asked(), before, strict=True)):
                return


def look_ups(servers: list[ServerProcess], result: str) -> float:
    """Return the look-ups in the caches of embeddings that all servers counted."""
    name = "maskwire_cache_lookups_total"
    return sum(scraped(server.metrics_port, name, "embedding", result) for server in servers)


async def hit_rate(envoy: Envoy, servers: list[ServerProcess], *, first_image: int) -> float:
    """Return the share of repeated look-ups that hit."""
    await ask_until_all_have_answered(envoy.address, servers)
    before = [look_ups(servers, result) for result in ("hit", "miss")]
    await ask_in_any_order(envoy.address, first_image=first_image)
    hits, misses = (
        look_ups(servers, result) - earlier
        for result, earlier in zip(("hit", "miss"), before, strict=True)
    )
    assert hits + misses == IMAGES * PROMPTS
    return hits / (hits + misses - IMAGES)


async def test_repeated_calls_find_the_embedding(
    envoy: Envoy, servers: list[ServerProcess], tmp_path: Path
) -> None:
    """The three caches together hold all images: enough where each image has its own server."""
    in_turn = shipped()
    for cluster in in_turn["static_resources"]["clusters"]:
        if cluster["name"] == "maskwire-by-image":
            cluster["lb_policy"] = "ROUND_ROBIN"
            del cluster["common_lb_config"]["consistent_hashing_lb_config"]
    hashed = await hit_rate(envoy, servers, first_image=0)
    addresses = [server.address for server in servers]
    with envoy_process(tmp_path, addresses, in_turn) as other:
        by_turns = await hit_rate(other, servers, first_image=1000)
    print(f"\nrepeated look-ups that hit: {hashed:.1%} by digest, {by_turns:.1%} by round robin")
    assert hashed >= 0.95
    assert by_turns < 0.6


async def test_each_image_has_one_server_and_all_servers_have_images(
    envoy: Envoy, servers: list[ServerProcess]
) -> None:
    name = "grpc_server_started_total"
    images = [picture(number) for number in range(2000, 2024)]

    def calls() -> list[float]:
        return [scraped(server.metrics_port, name, "SegmentImage") for server in servers]

    async with AsyncClient(envoy.address) as client:
        chosen = []
        for image in images:
            before = calls()
            for _ in range(2):
                await client.segment(image, points=[(60, 50)])
            (server,) = [
                number
                for number, (now, then) in enumerate(zip(calls(), before, strict=True))
                if now != then
            ]
            chosen.append(server)
    assert set(chosen) == {0, 1, 2}


async def test_calls_that_name_no_image_are_spread(
    envoy: Envoy, servers: list[ServerProcess]
) -> None:
    name = "grpc_server_started_total"
    before = [scraped(server.metrics_port, name, "ListModels") for server in servers]
    async with AsyncClient(envoy.address) as client:
        for _ in range(60):
            await client.models()
    after = [scraped(server.metrics_port, name, "ListModels") for server in servers]
    spread = [now - then for now, then in zip(after, before, strict=True)]
    assert sum(spread) == 60
    assert min(spread) >= 6
