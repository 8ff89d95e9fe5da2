"""One run of load: arrivals on time, a bound on what is in flight, and everything counted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from .._async_client import AsyncClient
from .arrivals import draw_schedule
from .calls import Caller
from .cameras import Camera, SessionCounts
from .connections import open_clients
from .latencies import LatencyHistogram
from .outcomes import KindFigures, Outcome, Recorder
from .overhead import Overhead, overhead_measured
from .pictures import Picture, PicturePool
from .plan import LoadPlan

__all__ = ["LoadObserver", "LoadResult", "LoadRun"]


class LoadObserver(Protocol):
    """Hears of each call and job as it ends; it must return at once."""

    def call_ended(self, outcome: Outcome) -> None:
        """Take in how a call ended, one of the warm-up too."""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What a run showed.

    Attributes:
        plan: What was run.
        recorder: The counts and latencies.
        sessions: What became of the cameras' sessions and frames.
        overhead: What the generator itself cost.
        start_lateness: How much later than due the calls were begun by the generator.
        elapsed_s: How long it took, the wait for the last call included.
        is_complete: Whether it ran to its end, and was not stopped before.
    """

    plan: LoadPlan
    recorder: Recorder
    sessions: SessionCounts
    overhead: Overhead
    start_lateness: LatencyHistogram
    elapsed_s: float
    is_complete: bool

    def achieved_per_s(self, figures: KindFigures) -> float:
        """Return the rate of the calls of a kind that succeeded, until the last of them ended."""
        ended_s = figures.last_end_s
        if self.is_complete:
            ended_s = max(ended_s, self.plan.length_s)
        measured_s = ended_s - self.plan.warmup_s
        return figures.ok / measured_s if measured_s > 0 else 0.0


class LoadRun:
    """Carries out a plan, once.

    Args:
        plan: The plan.
        pictures: What calls are about.
        frames: What cameras show; needed where there are any.
        observer: Hears of each call.

    Attributes:
        recorder: The counts so far; to be looked at meanwhile.
    """

    def __init__(
        self,
        plan: LoadPlan,
        pictures: PicturePool,
        frames: Sequence[Picture] = (),
        observer: LoadObserver | None = None,
    ) -> None:
        if plan.cameras.count and not frames:
            raise ValueError("cameras need frames")
        self.recorder = Recorder(plan)
        self._plan = plan
        self._schedule = draw_schedule(plan)
        self._pictures = pictures
        self._frames = frames
        self._observer = observer
        self._in_flight = 0
        self._lateness = LatencyHistogram()
        self._stopping = asyncio.Event()
        self._start_s: float | None = None

    @property
    def elapsed_s(self) -> float:
        """Seconds since the beginning; 0 before it."""
        if self._start_s is None:
            return 0.0
        return asyncio.get_running_loop().time() - self._start_s

    def stop(self) -> None:
        """Begin no more calls and send no more frames; what is in flight is waited for."""
        self._stopping.set()

    async def carry_out(self) -> LoadResult:
        """Make the calls, wait for the last, and return what was seen.

        A call that fails is counted and raises nothing.
        """
        async with open_clients(self._plan) as clients, overhead_measured() as overhead:
            self._start_s = asyncio.get_running_loop().time()
            cameras = [
                Camera(
                    self._plan,
                    number,
                    self._frames,
                    self.recorder,
                    lambda: self.elapsed_s,
                    self._stopping,
                )
                for number in range(self._plan.cameras.count)
            ]
            async with asyncio.TaskGroup() as tasks:
                for number, camera in enumerate(cameras):
                    tasks.create_task(camera.run(clients[number % len(clients)]))
                tasks.create_task(self._arrive(clients, tasks))
            elapsed_s = self.elapsed_s
        sessions = SessionCounts()
        for camera in cameras:
            sessions.add(camera.counts)
        return LoadResult(
            plan=self._plan,
            recorder=self.recorder,
            sessions=sessions,
            overhead=overhead,
            start_lateness=self._lateness,
            elapsed_s=elapsed_s,
            is_complete=not self._stopping.is_set(),
        )

    async def _arrive(self, clients: Sequence[AsyncClient], tasks: asyncio.TaskGroup) -> None:
        """Begin each call at its time, whether or not those before it have been answered."""
        caller = Caller(self._plan, self._pictures, lambda: self.elapsed_s)
        for arrival in self._schedule:
            early_s = arrival.due_s - self.elapsed_s
            if early_s > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(early_s):
                        await self._stopping.wait()
            if self._stopping.is_set():
                return
            if self._in_flight >= self._plan.max_in_flight:
                self.recorder.shed_one(arrival.kind, arrival.due_s)
                continue
            self._lateness.add(max(0.0, self.elapsed_s - arrival.due_s))
            self._in_flight += 1
            self.recorder.begin(arrival.kind, arrival.due_s)
            call = caller.make(arrival, clients[arrival.number % len(clients)])
            tasks.create_task(call).add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Outcome]) -> None:
        self._in_flight -= 1
        if task.cancelled() or task.exception() is not None:
            return  # the group raises it
        outcome = task.result()
        self.recorder.end(outcome)
        if self._observer is not None:
            self._observer.call_ended(outcome)
