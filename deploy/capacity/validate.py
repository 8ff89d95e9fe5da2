"""The simulation beside a real server under one load: `python -m deploy.capacity.validate`.

Cameras send to a real server, each as a live session that keeps the latest frame only. How much of
the processor its threads got is read from the kernel (time run and time spent ready but waiting),
since other programs run here; the simulated service times are stretched by it. What is compared is
therefore the queueing: waits, percentiles and drops, not the speed of the machine. Writes
`validation.json`. Run it from the root of the repository.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.server_process import ServerProcess, server_process

from . import traffic
from .fleet import Fleet, Load, simulate
from .measure import ONE_THREAD, Scene, make_scene
from .profiles import profile

FILE = Path(__file__).parent / "validation.json"
LOADS = ((1, 0.5), (2, 0.5), (4, 1.0))
"""Cameras and frames per second of each: from a device that has time left to one that drops most
frames, on a machine of which the server gets a tenth."""

SECONDS = 60.0


def _schedule(pid: int) -> dict[int, tuple[float, float]]:
    """Return of each thread how long it ran, and how long it was ready but waited."""
    times = {}
    for folder in Path(f"/proc/{pid}/task").iterdir():
        ran, waited, _ = (folder / "schedstat").read_text().split()
        times[int(folder.name)] = (int(ran) / 1e9, int(waited) / 1e9)
    return times


def _share(before: dict[int, tuple[float, float]], after: dict[int, tuple[float, float]]) -> float:
    """Return which part of the time that threads asked for they got."""
    ran = waited = 0.0
    for thread, (now_ran, now_waited) in after.items():
        earlier = before.get(thread, (0.0, 0.0))
        ran += now_ran - earlier[0]
        waited += now_waited - earlier[1]
    return ran / max(1e-9, ran + waited)


async def _cameras(
    server: ServerProcess, scene: Scene, count: int, frames_per_s: float
) -> tuple[list[traffic.Seen], float, float]:
    pid = server.process.pid
    before = _schedule(pid)
    seen = await asyncio.gather(
        *(
            traffic.camera(
                server.address,
                scene.frames,
                scene.clicks,
                frames_per_s=frames_per_s,
                offset_s=number / count / frames_per_s,
                seconds=SECONDS,
            )
            for number in range(count)
        )
    )
    after = _schedule(pid)
    loop = _share({pid: before.pop(pid)}, {pid: after.pop(pid)})
    return seen, loop, _share(before, after)


def _compare(seen: list[traffic.Seen], loop: float, others: float, load: Load) -> dict[str, Any]:
    told = [timing.total.ToTimedelta().total_seconds() for one in seen for timing in one.timings]
    sent = sum(one.sent for one in seen)
    p50_s, p99_s = np.percentile(told, [50, 99])
    replica = profile("nano-cpu").slowed(loop, others)
    simulated = simulate(load, Fleet(1, replica), seconds=600, warm_up_s=20, seed=1)
    return {
        "cameras": load.cameras,
        "frames_per_s": load.frames_per_s,
        "part_of_the_processor": {"event_loop": loop, "other_threads": others},
        "real": {
            "frames": sent,
            "p50_s": float(p50_s),
            "p99_s": float(p99_s),
            "dropped": sum(one.dropped for one in seen) / sent,
        },
        "simulated": {
            "frames": simulated.frames,
            "p50_s": simulated.p50_s,
            "p99_s": simulated.p99_s,
            "dropped": simulated.dropped,
            "device": simulated.device,
        },
    }


def main() -> None:
    """Compare and write the file."""
    scene, rows = make_scene(), []
    with (
        tempfile.TemporaryDirectory() as folder,
        server_process(Path(folder), **ONE_THREAD) as server,
    ):
        asyncio.run(_cameras(server, scene, 1, 2.0))  # warms the model
        for count, frames_per_s in LOADS:
            result = asyncio.run(_cameras(server, scene, count, frames_per_s))
            rows.append(_compare(*result, Load(count, frames_per_s, 0.0, 1.0, 1.0)))
    content = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "seconds": SECONDS,
        "loads": rows,
    }
    FILE.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
