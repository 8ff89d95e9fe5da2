"""The soak of `tests/robustness/test_soak.py` in small: two servers, no Envoy, seconds.

Clients balance by themselves, and files lie in a folder; the rest is as there.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.soak_checks import check_soak
from tests.support.soak_run import SoakPlan, soak
from tests.support.soak_world import soak_world


# Half a minute of load, and four starts of a server, which a busy machine takes minutes for.
@pytest.mark.timeout(1200)
async def test_a_rolling_restart_under_load_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    plan = SoakPlan(
        length_s=20.0,
        capacity_step_s=0.0,
        first_rate_per_s=1.0,
        side_px=128,
        frames_per_second=1.0,
        job_weight=0.2,
    )
    with soak_world(tmp_path, replicas=2, with_envoy=False, drain_notice_s=1.0) as world:
        seen = await soak(world, plan, tmp_path / "report")
    check_soak(seen)
    # The process before the restart and the one after it.
    assert [server.exit_codes for server in world.replicas] == [[0, 0]] * 2
    for name in ("report.json", "memory.png", "latency-over-time.png"):
        assert (tmp_path / "report" / name).stat().st_size > 0
