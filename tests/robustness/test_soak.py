"""Mixed load at 70 % of the capacity for ten minutes, with a rolling restart of all servers.

The real thing but for its size: three servers and a worker over NATS and an S3 service, Envoy with
the shipped configuration before them. MASKWIRE_SOAK_SECONDS sets another length, and
MASKWIRE_SOAK_FOLDER where the report, the plots and the latency log are left.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.soak_checks import check_soak
from tests.support.soak_run import SoakPlan, dump, soak
from tests.support.soak_world import soak_world
from tests.support.tools import tool

LENGTH_S = float(os.environ.get("MASKWIRE_SOAK_SECONDS", "600"))
MOST_GROWTH_MIB_PER_MINUTE = 4.0
"""Caches are full and torch has its arenas; what still grows is the allocator's noise."""
MOST_PEAK_TIMES = 1.25
"""What the peak of a server's second process may be, of the first one's of any server."""


@pytest.mark.robustness
@pytest.mark.timeout(2 * LENGTH_S + 1800)
async def test_a_rolling_restart_under_load_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool("envoy", "three servers behind the shipped Envoy configuration, under load")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder = Path(os.environ.get("MASKWIRE_SOAK_FOLDER", tmp_path / "report"))
    # Longer than Envoy's interval of health checks, so that it hears of the draining in time.
    with soak_world(tmp_path, replicas=3, with_envoy=True, drain_notice_s=4.0) as world:
        seen = await soak(world, SoakPlan(length_s=LENGTH_S), folder)
    print(dump(seen.document))
    check_soak(seen)
    # The process before the restart and the one after it.
    assert [server.exit_codes for server in world.replicas] == [[0, 0]] * 3
    first_peak_mib = max(memory["earlier_peak_mib"] for memory in seen.memory.values())
    for memory in seen.memory.values():
        assert memory["peak_mib"] < MOST_PEAK_TIMES * first_peak_mib, seen.memory
        if memory["observed_minutes"] >= 1:
            assert memory["slope_mib_per_minute"] < MOST_GROWTH_MIB_PER_MINUTE, seen.memory
