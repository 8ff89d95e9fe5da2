"""Servers that stop one after another, as in a rolling update: no call fails, sessions go on."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from maskwire_client import AsyncClient, AsyncSession, Point, Reconnect
from tests.integration.envoy.conftest import picture, three_servers
from tests.support.envoy_process import Envoy, envoy_process
from tests.support.metrics_page import scraped
from tests.support.server_process import ServerProcess

CLICK = Point(60, 50, object_id=3)
SETTINGS = {
    # Longer than Envoy's interval of asking for health: a server is left before it refuses.
    # Also where the machine stands still between, and the test looks late.
    "grpc": {"drain_notice_s": 10.0, "shutdown_grace_s": 60.0},
    # On a slow machine minutes pass between two frames of the test.
    "sessions": {"drain_grace_s": 60.0, "idle_timeout_s": 600.0},
}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[tuple[Envoy, list[ServerProcess]]]:
    """Servers that the test may end, and Envoy before them."""
    with (
        three_servers(tmp_path, **SETTINGS) as servers,
        envoy_process(tmp_path, [server.address for server in servers]) as envoy,
    ):
        yield envoy, servers


class SteadyCalls:
    """Calls about ever new images, one after another, until told to end.

    Attributes:
        answered: How many were answered.
        failures: What those that were not were told, after the client's own retries.
    """

    def __init__(self, client: AsyncClient) -> None:
        self.answered = 0
        self.failures: list[Exception] = []
        self._client = client
        self._ending = asyncio.Event()

    def end(self) -> None:
        self._ending.set()

    async def run(self) -> None:
        number = 10_000
        while not self._ending.is_set():
            number += 1
            try:
                await self._client.segment(picture(number), points=[(60, 50)])
                self.answered += 1
            except Exception as error:  # whatever it is, it is a failed call
                self.failures.append(error)


async def test_a_rolling_restart(fleet: tuple[Envoy, list[ServerProcess]]) -> None:
    envoy, servers = fleet
    async with (
        AsyncClient(envoy.address) as client,
        asyncio.timeout(280),
        asyncio.TaskGroup() as tasks,
        client.open_session(reconnect=Reconnect()) as session,
    ):
        assert await followed(session, points=[CLICK])
        calls = SteadyCalls(client)
        tasks.create_task(calls.run())
        home = next(one for one in servers if active_sessions(one))
        other, third = (one for one in servers if one is not home)

        # Another server drains: it is left while it still answers, and the session does not notice.
        other.signal(signal.SIGTERM)
        while other.address in envoy.healthy("maskwire-by-image"):
            assert await followed(session)
        assert other.process.poll() is None
        await assert_is_left(other, envoy, client)
        ended = asyncio.create_task(asyncio.to_thread(other.wait))
        while not ended.done():
            assert await followed(session)
        assert ended.result() == 0
        assert not session.resumed_object_ids

        # Its own server drains: it resumes on the last.
        home.signal(signal.SIGTERM)
        while not active_sessions(third):
            assert await followed(session)
        assert await asyncio.to_thread(home.wait) == 0
        assert await followed(session)
        assert session.resumed_object_ids == (3,)

        calls.end()
        summary = await session.end()
    assert summary.reconnects == 1
    assert summary.frames_lost == 0
    assert calls.failures == []
    assert calls.answered > 10
    print(f"\n{calls.answered} calls during two stops, none failed")


async def followed(session: AsyncSession, points: tuple[Point, ...] | list[Point] = ()) -> bool:
    """Send a frame; return whether the object is where it was."""
    result = await session.track(picture(1), points=points)
    (mask,) = result.masks
    return mask.object_id == 3 and bool(np.asarray(mask.bitmap)[50, 60])


async def assert_is_left(server: ServerProcess, envoy: Envoy, client: AsyncClient) -> None:
    """Calls about ever new images all go to other servers.

    But for the first two, perhaps: Envoy's workers hear a moment after its main thread, which says
    that the server is left.
    """
    reached = []
    for number in range(20_000, 20_014):
        await client.segment(picture(number), points=[(60, 50)], request_id=f"later-{number}")
        reached.append(envoy.logged(f"later-{number}")["server"])
    assert server.address not in reached[2:]


def active_sessions(server: ServerProcess) -> float:
    return scraped(server.metrics_port, "maskwire_sessions_active")
