"""Twice and ten times what a server can do: what is answered, what a refusal takes, what it leaves.

The server is set up for callers that would rather be refused than wait: one call at a time and none
behind it. `limits.max_device_queue` decides how long those that are taken wait, and the last test
shows what a place for one more gives, which is at least a call's own time again, and what the
default gives. `make robustness PYTEST_ARGS="-k overload -s"` prints all figures; the generator
shares the machine's processors with the server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest

from tests.support.overload import Caller, percentile_ms, requests
from tests.support.process_memory import resident_mib
from tests.support.server_process import ServerProcess, server_process

UNLOADED_S = 15.0
CAPACITY_S = 8.0
LOAD_S = 20.0
CONNECTIONS = 4
PICTURES = 500

MOST_TIMES_UNLOADED = 2.0
MOST_REFUSAL_MS = 20.0
MOST_GROWTH_MIB = 24.0
"""Of 700, while calls of all sizes come and go; what grows with each refusal would be more."""
MOST_RECOVERY_S = 1.0


@asynccontextmanager
async def _server(folder: Path, queue: int) -> AsyncIterator[tuple[ServerProcess, Caller]]:
    """A server without caches, so that every call needs the device, and what calls it."""
    settings = {
        "limits": {"max_device_queue": queue, "pixel_threads": 1},
        "cache": {"embedding_bytes": 0, "image_bytes": 0},
        "models": {"cpu_threads": 1},
        "jobs": {"workers": 0},
    }
    with server_process(folder, **settings) as server:
        async with AsyncExitStack() as stack:
            channels = [
                await stack.enter_async_context(
                    grpc.aio.insecure_channel(
                        server.address, [("grpc.use_local_subchannel_pool", 1)]
                    )
                )
                for _ in range(CONNECTIONS)
            ]
            caller = Caller(channels, requests(PICTURES))
            await caller.one_by_one(3.0)
            yield server, caller


@pytest.mark.robustness
@pytest.mark.timeout(600)
async def test_overload_is_refused_cheaply_and_leaves_no_trace(tmp_path: Path) -> None:
    async with _server(tmp_path, queue=0) as (server, caller):
        unloaded = await caller.one_by_one(UNLOADED_S)
        print("\n" + unloaded.line("unloaded"))
        full = await caller.together(1, CAPACITY_S)
        per_s = len(full.accepted_s) / CAPACITY_S
        print(full.line(f"capacity {per_s:.1f} a second"))
        most_ms = MOST_TIMES_UNLOADED * percentile_ms(unloaded.accepted_s, 99)
        missed = []
        for times in (2, 10):
            before = resident_mib(server.process.pid)
            load = await caller.at_rate(times * per_s, LOAD_S)
            after = resident_mib(server.process.pid)
            recovered_s = await caller.until_answered_within(most_ms / 1e3) - load.arrived_s
            print(load.line(f"{times} times that"))
            print(f"  memory {before:.0f} to {after:.0f} MiB, recovered in {recovered_s:.2f} s")
            assert not load.other
            assert load.refused_s
            for what, value, most in (
                ("accepted p99, ms", percentile_ms(load.accepted_s, 99), most_ms),
                ("refused p99, ms", percentile_ms(load.refused_s, 99), MOST_REFUSAL_MS),
                ("memory, MiB", after - before, MOST_GROWTH_MIB),
                ("recovery, s", recovered_s, MOST_RECOVERY_S),
            ):
                if value > most:
                    missed.append(f"{times} times: {what} {value:.1f} is more than {most:.1f}")
        assert not missed, missed


@pytest.mark.robustness
@pytest.mark.timeout(600)
@pytest.mark.parametrize("queue", [1, 128])
async def test_a_queue_answers_all_that_it_took(tmp_path: Path, queue: int) -> None:
    """It is for callers that would rather wait: nothing is lost, and the queue says how long."""
    async with _server(tmp_path, queue) as (_, caller):
        unloaded = await caller.one_by_one(UNLOADED_S / 3)
        per_s = 1 / (percentile_ms(unloaded.accepted_s, 50) / 1e3)
        load = await caller.at_rate(2 * per_s, LOAD_S)
        print("\n" + unloaded.line("unloaded"))
        print(load.line(f"twice as much, with a queue of {queue}"))
        assert not load.other
