"""The figures of a run as plain data, for JSON and tables."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from .cameras import SessionCounts
from .latencies import LatencyHistogram
from .outcomes import KindFigures
from .plan import Kind
from .run import LoadResult

__all__ = ["PERCENTS", "latencies_ms", "report"]

PERCENTS = (50.0, 90.0, 99.0, 99.9)


def report(result: LoadResult) -> dict[str, Any]:
    """Return a run's figures; latencies in milliseconds, of the calls that succeeded."""
    plan, recorder = result.plan, result.recorder
    figures: dict[str, Any] = {
        "target": plan.target,
        "seed": plan.seed,
        "rate_per_s": plan.rate_per_s,
        "duration_s": plan.duration_s,
        "warmup_s": plan.warmup_s,
        "connections": plan.connections,
        "max_in_flight": plan.max_in_flight,
        "retries": plan.retries,
        "is_complete": result.is_complete,
        "elapsed_s": round(result.elapsed_s, 3),
        "kinds": {
            kind.value: _kind(recorder.kinds[kind], result)
            for kind in Kind
            if kind in recorder.kinds
        },
        "failed": recorder.failed,
        "shed": recorder.shed,
        "warmup_failures": recorder.warmup_failures,
        "failures": [
            {
                "kind": outcome.kind.value,
                "due_s": round(outcome.due_s, 3),
                "code": outcome.code,
                "message": outcome.message,
                "request_id": outcome.request_id,
                "job": outcome.job_name,
            }
            for outcome in recorder.kept_failures
        ],
        "generator": {
            "loop_lag_ms": latencies_ms(result.overhead.loop_lag),
            "start_lateness_ms": latencies_ms(result.start_lateness),
            "cpu_share": round(result.overhead.cpu_share, 4),
        },
    }
    if plan.cameras.count:
        figures["sessions"] = _sessions(result.sessions)
    return figures


def latencies_ms(histogram: LatencyHistogram) -> dict[str, float]:
    """Return percentiles, mean and maximum in milliseconds; nothing where there are none."""
    values = {f"p{percent:g}": histogram.percentile_s(percent) for percent in PERCENTS}
    values["mean"] = histogram.mean_s
    values["max"] = histogram.max_s
    return {name: round(value * 1e3, 3) for name, value in values.items() if value is not None}


def _kind(figures: KindFigures, result: LoadResult) -> dict[str, Any]:
    return {
        "sent": figures.sent,
        "ok": figures.ok,
        "codes": dict(sorted(figures.codes.items())),
        "shed": figures.shed,
        "overload_retries": figures.overload_retries,
        "digest_misses": figures.digest_misses,
        "achieved_per_s": round(result.achieved_per_s(figures), 3),
        "latency_ms": latencies_ms(figures.latency),
    }


def _sessions(counts: SessionCounts) -> dict[str, int]:
    values = {one.name: getattr(counts, one.name) for one in fields(SessionCounts)}
    return {**values, "unaccounted": counts.unaccounted}
