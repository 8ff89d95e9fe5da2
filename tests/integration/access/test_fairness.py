"""A flood of one tenant, and the calls of another that go through beside it, at a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from maskwire_client import AsyncClient, Point, errors
from tests.support.metrics_page import scraped
from tests.support.server_process import ServerProcess, server_process

from .conftest import Keys

FLOOD = 100
QUEUE = 40
POINTS = [Point(40, 40)]


def _picture(seed: int) -> np.ndarray:
    """A picture that no other call has, so that the device has to look at it."""
    return np.random.default_rng(seed).integers(0, 255, (96, 128, 3), np.uint8)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, Keys]]:
    folder = tmp_path_factory.mktemp("shared")
    keys = Keys(folder / "keys.json")
    keys.create("first")
    settings: dict[str, Any] = {
        "auth": {"keys_file": str(keys.path), "reload_interval_s": 0.05},
        "models": {"cpu_threads": 1},
        "jobs": {"workers": 0},
        "logging": {"level": "debug", "format": "json"},
        "limits": {"max_device_queue": QUEUE, "pixel_threads": 1},
    }
    with server_process(folder, **settings) as process:
        yield process, keys


@asynccontextmanager
async def _clients(
    shared: tuple[ServerProcess, Keys], *tenants: str
) -> AsyncIterator[list[AsyncClient]]:
    process, keys = shared
    made = [keys.create(tenant)[1] for tenant in tenants]
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(
                AsyncClient(
                    process.address,
                    api_key=key,
                    digest_first=False,
                    retry_attempts=1,
                    overload_retries=0,
                )
            )
            for key in made
        ]
        for client in clients:
            await _until_known(client)
        yield clients


async def _until_known(client: AsyncClient) -> None:
    """Call until the server has read the new key."""
    while True:
        try:
            await client.models()
        except errors.Unauthenticated:
            await asyncio.sleep(0.02)
        else:
            return


class _Flood:
    """Many calls at once; counts how they end."""

    def __init__(self, client: AsyncClient, seed: int) -> None:
        self.answered = 0
        self.refused = 0
        self._calls = [asyncio.create_task(self._one(client, seed + i)) for i in range(FLOOD)]

    async def _one(self, client: AsyncClient, seed: int) -> None:
        try:
            await client.segment(_picture(seed), points=POINTS, timeout_s=120)
        except errors.Overloaded:
            self.refused += 1
        else:
            self.answered += 1

    async def end(self) -> None:
        await asyncio.gather(*self._calls)


async def _until_waiting(process: ServerProcess, calls: int) -> None:
    def depth() -> float:
        return scraped(process.metrics_port, "maskwire_queue_depth", "cpu")

    # Each look is a request of its own to the metrics page, so that this does not spin.
    while await asyncio.to_thread(depth) < calls:
        pass


def _answered_meanwhile(log: list[dict[str, Any]], request_id: str, tenant: str) -> int:
    """Return how many calls of a tenant the server answered between a call's beginning and end."""
    (one,) = [line for line in log if line["request_id"] == request_id]
    end = datetime.fromisoformat(one["timestamp"])
    begin = end - timedelta(milliseconds=one["duration_ms"])
    answered = [line for line in log if (line["tenant"], line["code"]) == (tenant, "OK")]
    ends = [datetime.fromisoformat(line["timestamp"]) for line in answered]
    return sum(begin < other < end for other in ends)


async def test_a_flood_is_overtaken_by_single_calls_of_another_tenant(shared) -> None:
    process, _ = shared
    async with _clients(shared, "flooder-a", "light-a") as (flooder, light):
        since = process.lines_read
        flood = _Flood(flooder, 1000)
        await _until_waiting(process, QUEUE // 2)
        light_calls = []
        for seed in range(3):
            light_calls.append(f"light-{seed}")
            await light.segment(
                _picture(seed), points=POINTS, timeout_s=120, request_id=light_calls[-1]
            )
            if flood.answered + flood.refused > FLOOD - QUEUE // 2:
                break
        await flood.end()
        await light.segment(_picture(3), points=POINTS, request_id="the-last")
    # What the clients saw hangs on when they were let look: the server's own account does not.
    await asyncio.to_thread(process.wait_for_line, "the-last", since)
    lines = [json.loads(line) for line in process.log_since(since) if line.startswith("{")]
    log = [line for line in lines if line["event"] == "call" and "SegmentImage" in line["method"]]
    overtaken_by = [_answered_meanwhile(log, call, "flooder-a") for call in light_calls]
    # In a queue without tenants half the queue, at least, would be answered before. A call of two
    # runs, on the threads for pixels and on the device, waits for one call of the flood each.
    assert overtaken_by
    assert max(overtaken_by) < QUEUE // 4, overtaken_by
    assert flood.answered + flood.refused == FLOOD


async def test_a_full_server_refuses_the_flood_and_not_the_other_tenant(shared) -> None:
    async with _clients(shared, "flooder-b", "light-b") as (flooder, light):
        process, _ = shared
        floods = [_Flood(flooder, 2000 + FLOOD * number) for number in range(2)]
        await _until_waiting(process, QUEUE - 2)
        for seed in range(3):
            await light.segment(_picture(100 + seed), points=POINTS, timeout_s=120)
        for flood in floods:
            await flood.end()
    assert sum(flood.refused for flood in floods) > 0
    assert sum(flood.answered for flood in floods) >= QUEUE
