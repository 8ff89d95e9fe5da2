"""Runs load from the command line: with what it shows meanwhile, until the end or Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Sequence

from rich.live import Live

from ..load import (
    Capacity,
    CapacityGoal,
    LoadPlan,
    LoadResult,
    LoadRun,
    Picture,
    PicturePool,
    find_capacity,
)
from .bench_output import progress_table
from .console import messages

__all__ = ["measure", "search"]

_REFRESH_S = 0.5


async def measure(plan: LoadPlan, pool: PicturePool, frames: Sequence[Picture]) -> LoadResult:
    """Carry out a plan and show its figures meanwhile.

    Ctrl-C stops the arrivals; what is in flight is waited for, unless it is pressed again.
    """
    run = LoadRun(plan, pool, frames)
    with Live("starting", console=messages(), auto_refresh=False, transient=True) as view:
        async with _stopping_on_interrupt(run), _shown(run, plan, view):
            return await run.carry_out()


async def search(
    plan: LoadPlan,
    goal: CapacityGoal,
    growth: float,
    pool: PicturePool,
    frames: Sequence[Picture],
) -> Capacity:
    """Look for the capacity and show each rate that is tried."""
    console = messages()

    async def step(plan: LoadPlan) -> LoadResult:
        console.print(f"trying {plan.rate_per_s:.2f} a second", highlight=False)
        return await measure(plan, pool, frames)

    return await find_capacity(plan, goal, step, growth=growth)


@contextlib.asynccontextmanager
async def _stopping_on_interrupt(run: LoadRun) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()

    def on_interrupt() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        run.stop()

    loop.add_signal_handler(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


@contextlib.asynccontextmanager
async def _shown(run: LoadRun, plan: LoadPlan, view: Live) -> AsyncIterator[None]:
    async def refresh() -> None:
        while True:
            view.update(progress_table(run.recorder, plan, run.elapsed_s), refresh=True)
            await asyncio.sleep(_REFRESH_S)

    task = asyncio.create_task(refresh(), name="maskwire-bench-view")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
