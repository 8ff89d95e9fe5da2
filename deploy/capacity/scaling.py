"""What waits while replicas or workers are missing: sessions for an autoscaler, jobs for workers.

Coarser than `fleet`: a replica is a number of sessions that it takes, a worker takes one job.
"""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass

import numpy as np

from .events import Clock, Process, Station

_RETRY_S = 1.0
"""Sessions that are refused are told to try again after so long (`domain/sessions/service.py`)."""

JOBS = 5_000


@dataclass(frozen=True, slots=True)
class Scaler:
    """An autoscaler on the number of live sessions.

    Attributes:
        per_replica: Sessions that a replica takes (`sessions.max_sessions`).
        target: Part of them that the autoscaler aims at.
        period_s: Between two looks.
        start_s: From the decision to a replica that is ready.
        scale_down_after_s: How long fewer must have been enough before replicas go.
        least: Fewest replicas.
    """

    per_replica: int
    target: float
    period_s: float
    start_s: float
    scale_down_after_s: float
    least: int


@dataclass(frozen=True, slots=True)
class ScalingOutcome:
    """What came of it: sessions, the part that was refused first, their waits, mean replicas."""

    sessions: int
    refused_first: float
    wait_p99_s: float
    mean_replicas: float
    mean_sessions: float


class ScaledFleet:
    """Sessions that come and go, and replicas that follow."""

    def __init__(self, clock: Clock, scaler: Scaler, chance: random.Random) -> None:
        self._clock = clock
        self._scaler = scaler
        self._chance = chance
        self._ready = self._wanted = scaler.least
        self._active = self._waiting = 0
        self._wishes: deque[tuple[float, int]] = deque()
        self.waits_s: list[float] = []
        self.replica_seconds = self.session_seconds = 0.0

    def arrivals(self, per_s: float, surge_from_s: float, surge: float, mean_s: float) -> Process:
        """Let sessions come as a Poisson process, from some time on at a higher rate."""
        while True:
            rate = per_s * (surge if self._clock.now_s >= surge_from_s else 1.0)
            yield None, self._chance.expovariate(rate)
            self._clock.start(self._session(mean_s))

    def _session(self, mean_s: float) -> Process:
        came_s = self._clock.now_s
        self._waiting += 1
        while self._active >= self._ready * self._scaler.per_replica:
            yield None, _RETRY_S
        self._waiting -= 1
        self._active += 1
        self.waits_s.append(self._clock.now_s - came_s)
        yield None, self._chance.expovariate(1 / mean_s)
        self._active -= 1

    def scale(self) -> Process:
        """Look at the sessions for ever; those refused are counted by their retries."""
        scaler = self._scaler
        while True:
            yield None, scaler.period_s
            self.replica_seconds += self._wanted * scaler.period_s
            self.session_seconds += self._active * scaler.period_s
            needed = (self._active + self._waiting) / (scaler.per_replica * scaler.target)
            wish = max(scaler.least, math.ceil(needed))
            self._wishes.append((self._clock.now_s, wish))
            while self._wishes[0][0] < self._clock.now_s - scaler.scale_down_after_s:
                self._wishes.popleft()
            if wish > self._wanted:
                self._clock.start(self._grow(wish - self._wanted))
                self._wanted = wish
            most = max(one for _, one in self._wishes)
            if most < self._wanted and self._ready >= self._wanted:
                self._wanted = self._ready = most  # their sessions go on elsewhere from their seeds

    def _grow(self, replicas: int) -> Process:
        yield None, self._scaler.start_s
        self._ready += replicas


def simulate_scaling(
    scaler: Scaler, *, sessions: float, surge: float, session_s: float, hours: float, seed: int
) -> ScalingOutcome:
    """Let sessions arrive, after a third of the time `surge` times as many.

    Args:
        scaler: The autoscaler.
        sessions: Mean number of live sessions before the surge.
        surge: What it is multiplied by.
        session_s: Mean length of a session.
        hours: How long it all lasts.
        seed: Of chance.
    """
    clock = Clock()
    fleet = ScaledFleet(clock, scaler, random.Random(seed))
    seconds = hours * 3600
    clock.start(fleet.arrivals(sessions / session_s, seconds / 3, surge, session_s))
    clock.start(fleet.scale())
    clock.run(seconds)
    waits = np.array(fleet.waits_s)
    return ScalingOutcome(
        sessions=len(waits),
        refused_first=float((waits > 0).mean()),
        wait_p99_s=float(np.percentile(waits, 99)),
        mean_replicas=fleet.replica_seconds / seconds,
        mean_sessions=fleet.session_seconds / seconds,
    )


def job_waits(
    *, jobs_per_hour: float, job_s: float, spread: float, workers: int, seed: int
) -> tuple[float, float]:
    """Return the workers' utilisation and the 95th percentile of the wait for one."""
    clock, chance = Clock(), random.Random(seed)
    queue, waits = Station(clock, workers), list[float]()

    def job(came_s: float) -> Process:
        work_s = job_s * chance.lognormvariate(-spread * spread / 2, spread)
        yield queue, work_s
        waits.append(clock.now_s - came_s - work_s)

    def arrivals() -> Process:
        for _ in range(JOBS):
            yield None, chance.expovariate(jobs_per_hour / 3600)
            clock.start(job(clock.now_s))

    clock.start(arrivals())
    clock.run(JOBS * 3600 / jobs_per_hour * 2)
    return jobs_per_hour * job_s / 3600 / workers, float(np.percentile(waits, 95))
