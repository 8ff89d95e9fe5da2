"""A soak: capacity first, then load at a share of it for a while, all servers restarted meanwhile.

`soak` does it and says what it saw; what of that is right, the tests say.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from maskwire_client import AsyncClient, AsyncObjectsResult, Job, JobState
from maskwire_client.cli.bench_output import capacity_to_json, write_files
from maskwire_client.cli.evaluate_curves import plot
from maskwire_client.load import (
    Cameras,
    CapacityGoal,
    JobForm,
    Kind,
    LoadPlan,
    LoadResult,
    LoadRun,
    Mix,
    Outcome,
    find_capacity,
    moving_frames,
    report,
    synthetic_pool,
)
from tests.support.soak_world import Replica, World

LOAD_SHARE = 0.7
_MIB = 2**20
_MEMORY_SCALE = 2**31
_NEAR_MINUTES = 0.5
_MOST_JOBS = 100_000
_MOST_RESTART_S = 600.0
_PICTURES = 16
_CAMERA_FRAMES = 16


@dataclass(frozen=True, kw_only=True)
class SoakPlan:
    """How long and how hard.

    Attributes:
        length_s: Length of the load at a share of the capacity; longer only where the restarts
            have not ended a quarter of it before.
        capacity_step_s: Length of a step of the search for the capacity; 0 leaves it out, and
            `first_rate_per_s` is the load.
        first_rate_per_s: First rate of the search.
        side_px: Side of the pictures and frames.
        cameras: Live sessions, each as long as the whole load.
        frames_per_second: Of each.
        job_weight: Share of jobs among the arrivals.
        goal_p99_s: What the capacity is measured by.
    """

    length_s: float
    capacity_step_s: float = 10.0
    first_rate_per_s: float = 0.5
    side_px: int = 256
    cameras: int = 2
    frames_per_second: float = 1.0
    job_weight: float = 0.1
    goal_p99_s: float = 5.0


@dataclass(frozen=True)
class SoakReport:
    """What was seen.

    Attributes:
        result: The load's figures.
        submitted: Jobs that the generator submitted, in the order of their ends.
        jobs: Jobs that the service lists afterwards.
        fetched: Jobs whose results were fetched, to the number of their files.
        memory: Growth of each server's memory, see `memory_of`.
        document: All of it, as written to report.json.
    """

    result: LoadResult
    submitted: list[str]
    jobs: tuple[Job, ...]
    fetched: dict[str, int]
    memory: dict[str, dict[str, float]]
    document: dict[str, Any]


class _Submitted:
    """The jobs of a run, and how often the service was asked for each."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def call_ended(self, outcome: Outcome) -> None:
        if outcome.kind is Kind.JOB:
            self.names.append(outcome.job_name)


async def soak(world: World, plan: SoakPlan, folder: Path) -> SoakReport:
    """Soak, and leave the report and its plots in the folder."""
    load = LoadPlan(
        target=world.target,
        rate_per_s=plan.first_rate_per_s,
        duration_s=plan.capacity_step_s or plan.length_s,
        warmup_s=0.0,
        deadline_s=120.0,
        job_deadline_s=600.0,
        max_in_flight=500,
        mix=Mix(
            weights={Kind.SEGMENT: 1 - plan.job_weight - 0.02, Kind.AUTO: 0.02}
            | {Kind.JOB: plan.job_weight},
            repeat_share=0.5,
            job=JobForm.RECONSTRUCT,
        ),
        cameras=Cameras(
            count=plan.cameras, frames_per_second=plan.frames_per_second, session_s=86_400.0
        ),
    )
    began = {"loadavg": os.getloadavg(), "cores": os.cpu_count()}
    submitted = _Submitted()
    rate_per_s, capacity = plan.first_rate_per_s, None
    if plan.capacity_step_s:
        goal = CapacityGoal(p99_s=plan.goal_p99_s)
        capacity = await find_capacity(
            load, goal, lambda step: _measure(step, plan, submitted), growth=1.6, refinements=0
        )
        assert capacity.rate_per_s > 0, f"no rate kept the goal: {capacity.steps}"
        rate_per_s = LOAD_SHARE * capacity.rate_per_s
    most_s = plan.length_s + _MOST_RESTART_S
    run = _load_run(
        replace(load, rate_per_s=rate_per_s, duration_s=most_s, seed=1000), plan, submitted
    )
    restarts: dict[str, float] = {}
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(world.watch_memory())
        tasks.create_task(_restart_and_stop(world, run, plan.length_s, restarts))
        result = await run.carry_out()
        watching.cancel()
    length_s = min(result.elapsed_s, most_s)
    result = replace(result, plan=replace(result.plan, duration_s=length_s), is_complete=True)
    jobs, fetched = await _jobs_of(world, folder)
    memory = {server.name: memory_of(server) for server in world.replicas}
    document = {
        "machine": {**began, "loadavg_after": os.getloadavg()},
        "capacity": None if capacity is None else capacity_to_json(capacity, goal),
        "load": report(result),
        "restarts_s": restarts,
        "exit_codes": {server.name: list(server.exit_codes) for server in world.replicas},
        "jobs": {
            "submitted": len(submitted.names),
            "submitted_once": len(set(submitted.names)),
            "listed": len(jobs),
            "states": Counter(job.state.value for job in jobs),
            "attempts": Counter(job.attempt for job in jobs),
            "results_fetched": len(fetched),
            "files_fetched": sum(fetched.values()),
        },
        "memory": memory,
    }
    write_files(result, folder, document)
    _plot_memory(world.replicas, folder / "memory.png")
    return SoakReport(result, submitted.names, jobs, fetched, memory, document)


async def _measure(load: LoadPlan, plan: SoakPlan, submitted: _Submitted) -> LoadResult:
    return await _load_run(load, plan, submitted).carry_out()


def _load_run(load: LoadPlan, plan: SoakPlan, submitted: _Submitted) -> LoadRun:
    pool = synthetic_pool(_PICTURES, plan.side_px, plan.side_px, load.seed)
    frames = moving_frames(_CAMERA_FRAMES, plan.side_px, plan.side_px, load.seed)
    return LoadRun(load, pool, frames, submitted)


async def _restart_and_stop(
    world: World, run: LoadRun, length_s: float, restarts: dict[str, float]
) -> None:
    """Restart all servers in the middle of a run, and stop it at its end."""
    # These pauses wait for nothing: so long is the load before the restarts and after them.
    await asyncio.sleep(0.35 * length_s)
    restarts["began"] = run.elapsed_s
    await world.restart_all()
    restarts["ended"] = run.elapsed_s
    await asyncio.sleep(max(0.25 * length_s, length_s - run.elapsed_s))
    run.stop()


async def _jobs_of(world: World, folder: Path) -> tuple[tuple[Job, ...], dict[str, int]]:
    """Return all jobs, and for each that succeeded how many files its result has."""
    fetched = {}
    async with AsyncClient(world.target, timeout_s=120.0) as client:
        jobs = await client.jobs(limit=_MOST_JOBS)
        for job in jobs:
            if job.state is not JobState.SUCCEEDED:
                continue
            made = await client.job_result(job.name)
            assert isinstance(made, AsyncObjectsResult)
            files = await made.save(folder / "results" / job.name.rpartition("/")[2])
            assert all(file.stat().st_size for file in files)
            fetched[job.name] = len(files)
    return jobs, fetched


def memory_of(replica: Replica) -> dict[str, float]:
    """Return how the memory of a server's last process went, in MiB.

    The slope is the median of those between any two samples of the second half of its life that
    are at most half a minute apart: the steps of 300 MiB that the allocator takes up and down for
    the largest calls are no slope, wherever in the half they fall, and a leak is. Peaks are those
    of the last process and of the one before, with the same load.
    """
    last = replica.samples[-1].process_id
    samples = [one for one in replica.samples if one.process_id == last]
    earlier = [one.resident_bytes for one in replica.samples if one.process_id != last]
    half = samples[len(samples) // 2 :]
    minutes = np.array([one.time_s for one in half]) / 60.0
    mib = np.array([one.resident_bytes for one in half]) / _MIB
    first, second = np.triu_indices(len(half), k=1)
    is_near = minutes[second] - minutes[first] <= _NEAR_MINUTES
    first, second = first[is_near], second[is_near]
    slopes = (mib[second] - mib[first]) / (minutes[second] - minutes[first])
    return {
        "first_mib": round(samples[0].resident_bytes / _MIB, 1),
        "middle_mib": round(float(mib[0]), 1),
        "last_mib": round(float(mib[-1]), 1),
        "slope_mib_per_minute": round(float(np.median(slopes)), 3) if len(slopes) else 0.0,
        "peak_mib": round(max(one.resident_bytes for one in samples) / _MIB, 1),
        "earlier_peak_mib": round(max(earlier, default=0) / _MIB, 1),
        "observed_minutes": round(float(minutes[-1] - minutes[0]), 2),
    }


def _plot_memory(replicas: list[Replica], file: Path) -> None:
    curves = {
        server.name: [one.resident_bytes / _MEMORY_SCALE for one in server.samples]
        for server in replicas
    }
    plot(curves, "resident memory of the servers, of 2 GiB", "samples", target=1.0).save(file)


def dump(document: dict[str, Any]) -> str:
    """Return a report as text, for the log of a test."""
    return json.dumps(document, indent=1, default=str)
