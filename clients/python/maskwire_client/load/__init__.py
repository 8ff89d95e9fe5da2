"""An open-loop load generator on the public client: what `maskwire bench load` runs.

    plan = LoadPlan(target="localhost:50051", rate_per_s=20, duration_s=60)
    result = await LoadRun(plan, synthetic_pool(16, 640, 480, plan.seed)).carry_out()
    print(report(result)["kinds"]["segment"]["latency_ms"]["p99"])

Arrivals are a Poisson process drawn from a seed before the run; a latency runs from the instant at
which the call was due, so that a slow server hides nothing. Needs `pip install 'maskwire[load]'`.
"""

from .arrivals import Arrival, Schedule, draw_schedule
from .cameras import SessionCounts
from .capacity import Capacity, CapacityGoal, CapacityStep, find_capacity
from .latencies import LatencyHistogram, check_installed, write_log
from .outcomes import KindFigures, Outcome, Recorder
from .overhead import Overhead
from .pictures import Picture, PicturePool, moving_frames, pool_of_folder, synthetic_pool
from .plan import Cameras, JobForm, Kind, LoadPlan, Mix, PromptForm
from .report import report
from .run import LoadObserver, LoadResult, LoadRun

__all__ = [
    "Arrival",
    "Cameras",
    "Capacity",
    "CapacityGoal",
    "CapacityStep",
    "JobForm",
    "Kind",
    "KindFigures",
    "LatencyHistogram",
    "LoadObserver",
    "LoadPlan",
    "LoadResult",
    "LoadRun",
    "Mix",
    "Outcome",
    "Overhead",
    "Picture",
    "PicturePool",
    "PromptForm",
    "Recorder",
    "Schedule",
    "SessionCounts",
    "check_installed",
    "draw_schedule",
    "find_capacity",
    "moving_frames",
    "pool_of_folder",
    "report",
    "synthetic_pool",
    "write_log",
]
