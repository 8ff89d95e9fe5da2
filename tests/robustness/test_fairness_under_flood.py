"""One tenant floods a server with more than it can do; what another's calls take meanwhile.

A call that runs is not interrupted: so the other tenant waits for one call of the flood, and takes
twice as long where all calls are alike. `make robustness PYTEST_ARGS="-k flood -s"` prints the
figures; the generator of the flood shares the machine's processors with the server.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from maskwire_server.identity.api_keys import ApiKeyRecord
from maskwire_server.identity.key_file import changed_keys
from tests.support.overload import Caller, percentile_ms, requests
from tests.support.server_process import server_process

ALONE_S = 15.0
FLOOD_S = 25.0
MOST_TIMES = 2.0
TOLERANCE = 0.1
"""Calls of the flood are not all exactly as long."""
QUEUE = 16


def _keys(file: Path, *tenants: str) -> list[str]:
    made = []
    with changed_keys(file) as keys:
        for tenant in tenants:
            record, key = ApiKeyRecord.create(name="test", tenant=tenant, now=datetime.now(UTC))
            keys[record.key_id] = record
            made.append(key)
    return made


@pytest.mark.robustness
@pytest.mark.timeout(600)
@pytest.mark.parametrize("times", [2, 10])
async def test_a_flood_leaves_another_tenants_latency_within_twice(
    tmp_path: Path, times: int
) -> None:
    file = tmp_path / "keys.json"
    flooding, light = _keys(file, "flooding", "light")
    settings: dict[str, Any] = {
        "auth": {"keys_file": str(file)},
        "limits": {"max_device_queue": QUEUE, "pixel_threads": 1},
        "cache": {"embedding_bytes": 0, "image_bytes": 0},
        "models": {"cpu_threads": 1},
        "jobs": {"workers": 0},
    }
    made = requests(400)
    with server_process(tmp_path, **settings) as server:
        async with AsyncExitStack() as stack:

            async def caller(key: str) -> Caller:
                channel = await stack.enter_async_context(
                    grpc.aio.insecure_channel(
                        server.address, [("grpc.use_local_subchannel_pool", 1)]
                    )
                )
                return Caller([channel], made, (("x-api-key", key),))

            one, many = await caller(light), await caller(flooding)
            await one.one_by_one(3.0)
            alone = await one.one_by_one(ALONE_S)
            per_s = 1e3 / percentile_ms(alone.accepted_s, 50)
            flood = asyncio.create_task(many.at_rate(times * per_s, FLOOD_S))
            await one.one_by_one(3.0)  # until the queue is full
            beside = await one.one_by_one(FLOOD_S - 5.0)
            flooded = await flood
    print("\n" + alone.line("alone"))
    print(beside.line("beside the flood"))
    print(flooded.line(f"the flood, {times} times the capacity, a queue of {QUEUE}"))
    for percent in (50, 99):
        before, during = (percentile_ms(load.accepted_s, percent) for load in (alone, beside))
        waited = float(np.percentile(beside.waits, percent))
        print(
            f"p{percent}: {during / before:.2f} times as long, waited {waited:.2f} of its own time"
        )
    assert not beside.refused_s
    assert not beside.other
    assert flooded.refused_s
    # In relation to how long the same call was served: beside a flood that takes processors away
    # from a server without a device, that is longer too, and no queue can help it.
    assert float(np.percentile(beside.waits, 50)) <= MOST_TIMES - 1 + TOLERANCE
