"""Looks for the highest rate that a service keeps its goal at: in steps, then by halving."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from .plan import ARRIVING, Kind, LoadPlan
from .run import LoadResult

__all__ = ["Capacity", "CapacityGoal", "CapacityStep", "find_capacity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityGoal:
    """What a rate must keep to count as within the capacity.

    Attributes:
        p99_s: Longest 99th percentile of the latency of each kind that arrives; jobs are exempt,
            because they are meant to wait.
        max_failed_share: Largest share of calls that fail or are shed, 0 to 1.
    """

    p99_s: float = 1.0
    max_failed_share: float = 0.0


@dataclass(frozen=True, slots=True)
class CapacityStep:
    """One rate that was tried.

    Attributes:
        rate_per_s: The rate.
        broken: Why it is beyond the capacity; empty where the goal was kept.
        p99_s: The largest 99th percentile of the kinds that count; None where none succeeded.
        achieved_per_s: Calls and jobs that succeeded, by second.
        failed_share: Share of calls that failed or were shed.
        result: All that was seen.
    """

    rate_per_s: float
    broken: str
    p99_s: float | None
    achieved_per_s: float
    failed_share: float
    result: LoadResult = field(repr=False)

    @property
    def is_kept(self) -> bool:
        """Whether the goal was kept."""
        return not self.broken


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a search found.

    Attributes:
        rate_per_s: The highest rate that kept the goal; 0 where none did.
        broken_per_s: The lowest rate that did not; None where all did.
        steps: Every rate that was tried, in order.
    """

    rate_per_s: float
    broken_per_s: float | None
    steps: tuple[CapacityStep, ...]


async def find_capacity(
    plan: LoadPlan,
    goal: CapacityGoal,
    measure: Callable[[LoadPlan], Awaitable[LoadResult]],
    *,
    growth: float = 1.5,
    refinements: int = 2,
    max_rate_per_s: float = 10_000.0,
) -> Capacity:
    """Raise the rate until the goal breaks, then halve the gap a few times.

    Args:
        plan: The first step: its rate is the first one tried.
        goal: What must hold.
        measure: Runs a plan; a run that was stopped ends the search.
        growth: Factor between two steps, greater than 1.
        refinements: How often the gap between the last rate that held and the first that did not
            is halved.
        max_rate_per_s: Where the search gives up.

    Raises:
        ValueError: `growth` is not greater than 1.
    """
    if not growth > 1:
        raise ValueError(f"growth must be greater than 1, not {growth}")
    steps: list[CapacityStep] = []
    kept, broken, rate, halvings = 0.0, None, plan.rate_per_s, 0
    while rate <= max_rate_per_s:
        # Another seed for each step: new pictures and another draw of the arrivals.
        result = await measure(replace(plan, rate_per_s=rate, seed=plan.seed + len(steps)))
        if not result.is_complete:
            break
        steps.append(judge(result, goal))
        if steps[-1].is_kept:
            kept = rate
        else:
            broken = rate
        if broken is None:
            rate = kept * growth
            continue
        if halvings == refinements:
            break
        halvings += 1
        rate = (kept + broken) / 2
    return Capacity(kept, broken, tuple(steps))


def judge(result: LoadResult, goal: CapacityGoal) -> CapacityStep:
    """Say whether a run kept the goal, and if not, why."""
    kinds = result.recorder.kinds
    figures = {kind: kinds[kind] for kind in ARRIVING if kind in kinds}
    offered = sum(one.sent + one.shed for one in figures.values())
    failed_share = 1.0 - sum(one.ok for one in figures.values()) / offered if offered else 0.0
    waited_for = [one for kind, one in figures.items() if kind is not Kind.JOB]
    slowest = [one.latency.percentile_s(99.0) for one in waited_for]
    p99_s = max((value for value in slowest if value is not None), default=None)
    broken = ""
    if failed_share > goal.max_failed_share:
        broken = f"{failed_share:.1%} failed or were shed"
    elif p99_s is not None and p99_s > goal.p99_s:
        broken = f"p99 {p99_s * 1e3:.0f} ms"
    return CapacityStep(
        rate_per_s=result.plan.rate_per_s,
        broken=broken,
        p99_s=p99_s,
        achieved_per_s=sum(result.achieved_per_s(one) for one in figures.values()),
        failed_share=failed_share,
        result=result,
    )
