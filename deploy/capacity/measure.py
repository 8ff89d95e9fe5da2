"""Measures what one frame, call and job cost on this machine: `python -m deploy.capacity.measure`.

Starts real servers (maskwire-nano on one thread of the CPU) and writes `measured.json`, which the
simulation reads. The time of each stage is what the service says in its answers; the CPU time is
that of each thread, from the kernel. Both are of repeated rounds, since other programs run here:
wall times are told as quantiles, and the simulation uses those up to the median. Run it from the
root of the repository.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from maskwire.v1 import image_pb2, processing_pb2, prompt_pb2
from maskwire_client import AsyncClient, encode_image
from maskwire_server.domain.geometry import ImageSize
from tests.support.clips import Clip, make_clip
from tests.support.metrics_page import scraped
from tests.support.server_process import ServerProcess, server_process

from . import traffic

FILE = Path(__file__).parent / "measured.json"
FRAME_SIZE = ImageSize(640, 480)
OBJECTS = 2
ROUNDS = 4
FRAMES = 31
CALLS = 21
BARE_CALLS = 300
JOBS = 3
IDLE_S = 4.0

_QUANTILES = tuple(range(0, 101, 5))
_STAGES: Mapping[str, Literal["decode", "encode", "prompt", "postprocess"]] = {
    "decode": "decode",
    "encode": "encode",
    "device": "prompt",
    "postprocess": "postprocess",
}
ONE_THREAD: dict[str, dict[str, Any]] = {
    "models": {"device": "cpu", "cpu_threads": 1},
    "limits": {"pixel_threads": 1},
    "sessions": {"max_sessions_per_tenant": 1000, "max_sessions": 1000},
    # A worker that waits asks for jobs all the time, which would count as the frames' cost.
    "jobs": {"workers": 0},
}
SMALL_CACHE = {"embedding_bytes": 2**22}
"""Less than the images of one round: each is encoded anew in the next."""


@dataclass(frozen=True, slots=True)
class ThreadTimes:
    """CPU seconds of a process: of its event loop, and of its other threads, the busiest first."""

    event_loop_s: float
    others_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Scene:
    """What is sent: frames of one clip, and a click on each object of the first."""

    frames: Sequence[bytes]
    clicks: Sequence[prompt_pb2.Prompt]
    clip: Clip


def make_scene() -> Scene:
    """Return the clip that everything is measured with, the same each time."""
    clip = make_clip(seed=3, frames=FRAMES, size=FRAME_SIZE, objects=OBJECTS)
    points = {object_id: clip.click(object_id) for object_id in clip.object_ids}
    clicks = [traffic.click(point.x, point.y, object_id) for object_id, point in points.items()]
    return Scene([encode_image(frame, "jpeg") for frame in clip.frames], clicks, clip)


def thread_times(pid: int) -> ThreadTimes:
    """Return what the threads of a process have used so far."""
    used = {
        int(folder.name): int((folder / "schedstat").read_text().split()[0]) / 1e9
        for folder in Path(f"/proc/{pid}/task").iterdir()
    }
    event_loop_s = used.pop(pid)
    return ThreadTimes(event_loop_s, tuple(used[thread] for thread in sorted(used)))


async def _costs(
    server: ServerProcess, work: Callable[[], Awaitable[traffic.Seen]]
) -> dict[str, Any]:
    """Run work several times, and return what one unit of it costs."""
    seen: list[traffic.Seen] = []
    loop_s, rest_s = [], []
    await work()  # warms caches, pools and the model
    for _ in range(ROUNDS):
        before = thread_times(server.process.pid)
        seen.append(one := await work())
        after = thread_times(server.process.pid)
        loop_s.append((after.event_loop_s - before.event_loop_s) / one.sent)
        rest_s.append((sum(after.others_s) - sum(before.others_s)) / one.sent)
    timings = [timing for one in seen for timing in one.timings]
    return {
        "units": sum(one.sent for one in seen),
        "request_bytes": round(statistics.median(seen[0].request_bytes)),
        "response_bytes": round(statistics.median(seen[0].response_bytes)),
        "stages": _stages(timings),
        "round_trip": _spread([value for one in seen for value in one.latencies_s]),
        "cpu": {
            "event_loop_s": min(loop_s),
            "other_threads_s": min(rest_s),
            "event_loop_of_each_round_s": loop_s,
            "other_threads_of_each_round_s": rest_s,
        },
    }


def _stages(timings: Sequence[processing_pb2.Timings]) -> dict[str, Any]:
    stages = {}
    for name, told in _STAGES.items():
        values = [
            getattr(one, told).ToTimedelta().total_seconds()
            for one in timings
            if one.HasField(told)
        ]
        if values:
            stages[name] = _spread(values)
    return stages


def _spread(values: Sequence[float]) -> dict[str, Any]:
    quantiles = np.percentile(values, _QUANTILES)
    return {
        "minimum_s": min(values),
        "median_s": statistics.median(values),
        "quantiles_s": [round(float(value), 7) for value in quantiles],
    }


async def _idle(server: ServerProcess) -> dict[str, float]:
    """Return the CPU time that a server takes in a second in which nobody asks it for anything."""
    before = thread_times(server.process.pid)
    await asyncio.sleep(IDLE_S)
    after = thread_times(server.process.pid)
    return {
        "event_loop_s": (after.event_loop_s - before.event_loop_s) / IDLE_S,
        "other_threads_s": (sum(after.others_s) - sum(before.others_s)) / IDLE_S,
    }


async def _bare_calls(server: ServerProcess) -> dict[str, float]:
    """Return what a call costs that does nothing: ListModels."""
    loop_s, rest_s = [], []
    async with AsyncClient(server.address) as client:
        await client.models()
        for _ in range(ROUNDS):
            before = thread_times(server.process.pid)
            for _ in range(BARE_CALLS):
                await client.models()
            after = thread_times(server.process.pid)
            loop_s.append((after.event_loop_s - before.event_loop_s) / BARE_CALLS)
            rest_s.append((sum(after.others_s) - sum(before.others_s)) / BARE_CALLS)
    return {"event_loop_s": min(loop_s), "other_threads_s": min(rest_s)}


async def _jobs(server: ServerProcess, scene: Scene) -> dict[str, float]:
    """Return how long jobs of `inflate` take, among them the first, which starts the child."""
    seconds = []
    async with AsyncClient(server.address) as client:
        for number in range(JOBS):
            before = _attempt_seconds(server)
            job = await client.reconstruct_objects(
                scene.frames[0], masks=[scene.clip.masks[0][1]], seed=number
            )
            await job.result()
            seconds.append(_attempt_seconds(server) - before)
    return {
        "first_s": seconds[0],
        "minimum_s": min(seconds),
        "median_s": statistics.median(seconds),
    }


def _attempt_seconds(server: ServerProcess) -> float:
    return scraped(server.metrics_port, "maskwire_job_attempt_seconds_sum")


async def measure(folder: Path) -> dict[str, Any]:
    """Measure everything with a server of its own."""
    scene = make_scene()
    sources = [image_pb2.ImageSource(data=data) for data in scene.frames[:CALLS]]
    digest = "sha256:" + hashlib.sha256(scene.frames[0]).hexdigest()
    again = [sources[0], *[image_pb2.ImageSource(digest=digest)] * (CALLS - 1)]
    started = time.monotonic()
    with server_process(folder, **ONE_THREAD, cache=SMALL_CACHE) as server:
        serving_s = time.monotonic() - started
        address, one_click = server.address, scene.clicks[:1]
        results: dict[str, Any] = {
            "idle": await _idle(server),
            "live_frame": await _costs(
                server, lambda: traffic.one_by_one(address, scene.frames, scene.clicks)
            ),
            "new_image": await _costs(server, lambda: traffic.segment(address, sources, one_click)),
            "prompt": await _costs(server, lambda: traffic.segment(address, again, one_click)),
            "bare_call": await _bare_calls(server),
            "start": {
                "serving_s": serving_s,
                "model_load_s": scraped(server.metrics_port, "maskwire_model_load_seconds_sum"),
            },
        }
    with server_process(folder) as server:
        results["inflate_job"] = await _jobs(server, scene)
    return {**_circumstances(), **results}


def _circumstances() -> Mapping[str, Any]:
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpu": cpu[0].partition(":")[2].strip() if cpu else platform.processor(),
            "cores": os.cpu_count(),
            "load_average_before_and_after": [round(value, 2) for value in os.getloadavg()],
            "kernel": platform.release(),
            "note": "A shared machine: another program trains a network all the time and others "
            "test beside it, so that wall times above the median say more about them.",
        },
        "versions": {
            name: version(name) for name in ("maskwire", "torch", "grpcio", "numpy", "protobuf")
        },
        "model": "maskwire-nano",
        "settings": ONE_THREAD,
        "frame_size_px": [FRAME_SIZE.width_px, FRAME_SIZE.height_px],
        "objects": OBJECTS,
        "rounds": ROUNDS,
        "quantiles_percent": list(_QUANTILES),
    }


def main() -> None:
    """Measure and write the file."""
    with tempfile.TemporaryDirectory() as folder:
        result = asyncio.run(measure(Path(folder)))
    FILE.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
