"""Runs the whole plan and writes `results.json`: `python -m deploy.capacity.simulate`.

Then `python -m deploy.capacity.report` writes the plot and the tables of deploy/README.md from it.
The same inputs give the same file. `--quick` runs a tenth of the time, to try changes of the plan.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .fleet import Balancing, Fleet, Load, Outcome, Placement, simulate
from .profiles import SCALINGS, Profile, assumptions, measured, profile
from .scaling import Scaler, job_waits, simulate_scaling

FILE = Path(__file__).parent / "results.json"
SEED = 20_260_101
PARTS = ("cameras_per_replica", "scalings", "placement", "balancing", "autoscaling", "jobs")
CAMERAS = (10, 100, 1_000, 10_000)
RATES = (5.0, 10.0, 15.0, 30.0)
_STEPS = (0.85, 1.0, 1.2)
"""Replicas to look at, in parts of those that the capacity of one asks for."""

_CAMERA_SECONDS = 2_000.0
_LEAST_SECONDS, _MOST_SECONDS = 1.0, 60.0
_WARM_UP_S = 0.5
_MOST_CAMERAS = 64


class Plan:
    """The simulations, with how long they run."""

    def __init__(self, share: float = 1.0) -> None:
        """Take which part of the usual time to simulate."""
        self._share = share
        self._fits: dict[tuple[str, str, float], int] = {}
        self._told = assumptions()

    def part(self, name: str) -> Any:
        """Return one part of the results, by its name; that of a replica means its fleets."""
        names = list(self._told["replicas"])
        if name in names:
            return [self.sweep(name, cameras) for cameras in CAMERAS]
        parts: dict[str, Callable[[], Any]] = {
            "cameras_per_replica": lambda: {
                one: {f"{rate:g}": self.capacity(one, rate) for rate in RATES} for one in names
            },
            "scalings": lambda: {
                one: self._scalings(one) for one in names if "model" in self._kind(one)
            },
            "placement": lambda: self._placement("tiny-h200", 1_000),
            "balancing": lambda: self._balancing("tiny-l4"),
            "autoscaling": lambda: self._autoscaling("tiny-h200"),
            "jobs": self._jobs,
        }
        return parts[name]()

    def outcome(
        self,
        load: Load,
        replicas: int,
        of: Profile,
        *,
        balancing: Balancing = "hash",
        placement: Placement = "even",
    ) -> Outcome:
        """Simulate one load on one fleet, for fewer seconds the more cameras there are."""
        seconds = _CAMERA_SECONDS / max(1, load.cameras)
        seconds = self._share * min(max(seconds, _LEAST_SECONDS), _MOST_SECONDS)
        fleet = Fleet(replicas, of, balancing, placement)
        return simulate(load, fleet, seconds=seconds, warm_up_s=_WARM_UP_S, seed=SEED)

    def capacity(self, name: str, frames_per_s: float, scaling: str = "middle") -> int:
        """Return how many cameras one replica serves within the objective; 0 for none."""
        key = (name, scaling, frames_per_s)
        if key not in self._fits:
            self._fits[key] = self._capacity(name, profile(name, scaling), frames_per_s)
        return self._fits[key]

    def _capacity(self, name: str, of: Profile, frames_per_s: float) -> int:
        cameras = 0
        while cameras < _MOST_CAMERAS:
            outcome = self.outcome(self._load(cameras + 1, frames_per_s), 1, of)
            if not self._is_good(name, outcome):
                break
            cameras += 1
        return cameras

    def sweep(self, name: str, cameras: int) -> dict[str, Any]:
        """Return what fleets of several sizes make of so many cameras, and which is enough."""
        of = profile(name)
        rate = self._rate(name)
        fits = max(1, self.capacity(name, rate))
        sizes = sorted({max(1, math.ceil(cameras / fits * step)) for step in _STEPS})
        points = [self._point(name, cameras, size, of) for size in sizes]
        needed = next((point["replicas"] for point in points if point["is_good"]), None)
        return {"cameras": cameras, "frames_per_s": rate, "needed": needed, "points": points}

    def _point(self, name: str, cameras: int, replicas: int, of: Profile) -> dict[str, Any]:
        outcome = self.outcome(self._load(cameras, self._rate(name)), replicas, of)
        return {
            "replicas": replicas,
            "is_good": self._is_good(name, outcome),
            "cost_per_hour": round(replicas * of.price_per_hour, 2),
            **_rounded(outcome),
        }

    def _scalings(self, name: str) -> dict[str, Any]:
        rows = {}
        for scaling in SCALINGS:
            of = profile(name, scaling)
            rows[scaling] = {
                "device_s": round(of.device_s, 5),
                "cameras_per_replica": self.capacity(name, self._rate(name), scaling),
            }
        return rows

    def _placement(self, name: str, cameras: int) -> dict[str, Any]:
        """Return how many replicas sessions need that fall evenly or at random."""
        of = profile(name)
        rows: dict[str, Any] = {}
        fits = max(1, self.capacity(name, self._rate(name)))
        kinds: tuple[Placement, ...] = ("even", "random")
        for kind in kinds:
            size = math.ceil(cameras / fits)
            load = self._load(cameras, self._rate(name))
            while True:
                outcome = self.outcome(load, size, of, placement=kind)
                if self._is_good(name, outcome) or size > 4 * cameras:
                    break
                size = math.ceil(size * 1.15)
            rows[kind] = {"replicas": size, **_rounded(outcome)}
        return {"profile": name, "cameras": cameras, **rows}

    def _balancing(self, name: str) -> dict[str, Any]:
        """Return what hashing on the image's digest does for prompts on still images."""
        of, replicas, rows = profile(name), 10, []
        load = self._told["load"]
        kinds: tuple[Balancing, ...] = ("hash", "round robin")
        for calls_per_s in (60.0, 180.0):
            for kind in kinds:
                outcome = simulate(
                    Load(
                        0,
                        1.0,
                        calls_per_s,
                        load["prompts_per_image"],
                        load["seconds_between_prompts"],
                    ),
                    Fleet(replicas, of, kind),
                    seconds=60 * self._share,
                    warm_up_s=10,
                    seed=SEED,
                )
                rows.append({"balancing": kind, "calls_per_s": calls_per_s, **_rounded(outcome)})
        return {"profile": name, "replicas": replicas, "rows": rows}

    def _autoscaling(self, name: str) -> dict[str, Any]:
        told, rows = self._told["scaling"], []
        fits = max(1, self.capacity(name, self._rate(name)))
        ready_s = told["autoscaler_s"] + told["image_s"] + told["model_s"]
        for start_s in (ready_s, ready_s + told["node_s"]):
            for target in (0.95, 0.8, 0.6):
                scaler = Scaler(
                    per_replica=fits,
                    target=target,
                    period_s=told["polling_s"],
                    start_s=start_s,
                    scale_down_after_s=told["scale_down_after_s"],
                    least=2,
                )
                outcome = simulate_scaling(
                    scaler,
                    sessions=100,
                    surge=2.0,
                    session_s=told["session_minutes"] * 60,
                    hours=max(0.5, 12 * self._share),
                    seed=SEED,
                )
                rows.append({"start_s": start_s, "target": target, **asdict(outcome)})
        return {"profile": name, "per_replica": fits, "rows": rows}

    def _jobs(self) -> list[dict[str, Any]]:
        told, rows = self._told["jobs"], []
        kinds = {
            "inflate": measured()["inflate_job"]["minimum_s"],
            "sam3d-objects": float(told["sam3d_s"]),
        }
        for queue, job_s in kinds.items():
            for per_hour in told["jobs_per_hour"]:
                least = math.floor(per_hour * job_s / 3600) + 1
                for workers in (least, least + 1, math.ceil(least * 1.5) + 1):
                    used, wait_s = job_waits(
                        jobs_per_hour=per_hour,
                        job_s=job_s,
                        spread=self._told["load"]["spread"],
                        workers=workers,
                        seed=SEED,
                    )
                    rows.append(
                        {
                            "queue": queue,
                            "job_s": round(job_s, 2),
                            "jobs_per_hour": per_hour,
                            "workers": workers,
                            "used": round(used, 3),
                            "wait_p95_s": round(wait_s, 1),
                        }
                    )
        return rows

    def _load(self, cameras: int, frames_per_s: float) -> Load:
        load = self._told["load"]
        return Load(
            cameras=cameras,
            frames_per_s=frames_per_s,
            calls_per_s=cameras * load["calls_per_camera_per_s"],
            prompts_per_image=load["prompts_per_image"],
            seconds_between_prompts=load["seconds_between_prompts"],
        )

    def _kind(self, name: str) -> dict[str, Any]:
        kind: dict[str, Any] = self._told["replicas"][name]
        return kind

    def _rate(self, name: str) -> float:
        return float(self._kind(name).get("frames_per_s", self._told["load"]["frames_per_s"]))

    def _is_good(self, name: str, outcome: Outcome) -> bool:
        most = float(self._told["objective"]["dropped"])
        return outcome.p99_s <= self._kind(name)["p99_s"] and outcome.dropped <= most


def _rounded(outcome: Outcome) -> dict[str, Any]:
    return {key: round(value, 5) for key, value in asdict(outcome).items()}


def run(share: float = 1.0) -> dict[str, Any]:
    """Return all results; the parts run in processes of their own."""
    told = assumptions()
    names = list(told["replicas"])
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        work = [pool.submit(_part, name, share) for name in (*names, *PARTS)]
        done = [one.result() for one in work]
    return {
        "seed": SEED,
        "inputs": {"measured_at": measured()["measured_at"], "load": told["load"]},
        "profiles": {name: asdict(profile(name)) for name in names},
        "fleets": dict(zip(names, done, strict=False)),
        **dict(zip(PARTS, done[len(names) :], strict=True)),
    }


def _part(name: str, share: float) -> Any:
    return Plan(share).part(name)


def main(arguments: Sequence[str]) -> None:
    """Simulate and write the file."""
    results = run(0.1 if "--quick" in arguments else 1.0)
    FILE.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
