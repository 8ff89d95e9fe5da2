"""The figures of `maskwire live`, in bounded memory, and how they are shown."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from ..sessions import DropReason, FrameResult, ObjectState, SessionSummary
from .statistics import Percentiles, Rate

__all__ = ["LiveFigures"]

_PERCENTS = (50, 95, 99)
_STAGES = ("decode", "queue", "encode", "prompt", "postprocess", "total")


class LiveFigures:
    """What became of the frames of a session, and how the objects fare.

    Args:
        model: The model that serves the session.
        session_id: Identifier of the session.
    """

    def __init__(self, model: str, session_id: str) -> None:
        self._model = model
        self._session_id = session_id
        self._start = time.monotonic()
        self._latest_time = self._start
        self._rate = Rate()
        self._latency_ms = Percentiles()
        self._stages_ms = {stage: Percentiles() for stage in _STAGES}
        self._slowest_ms = 0.0
        self._dropped: Counter[DropReason] = Counter()
        self._failed = 0
        self._latest: FrameResult | None = None
        self._states: dict[int, Counter[ObjectState]] = {}
        self._summary: SessionSummary | None = None

    def add(self, result: FrameResult) -> None:
        """Count an answered frame and those that it says were dropped."""
        self._rate.add()
        self._latest_time = time.monotonic()
        latency_ms = result.latency_s * 1e3
        self._latency_ms.add(latency_ms)
        self._slowest_ms = max(self._slowest_ms, latency_ms)
        for stage, figures in self._stages_ms.items():
            duration = getattr(result.info.timings, stage)
            if duration is not None:
                figures.add(duration / timedelta(milliseconds=1))
        self._dropped.update(frame.reason for frame in result.dropped_frames)
        for mask in result.masks:
            self._states.setdefault(mask.object_id, Counter())[mask.state] += 1
        self._latest = result

    def add_failure(self) -> None:
        """Count a frame that was answered with an error."""
        self._failed += 1

    def finish(self, summary: SessionSummary) -> None:
        """Take the session's own final counts, which are exact."""
        self._summary = summary

    def render(self, written: Sequence[Path] = ()) -> RenderableType:
        """Return the figures as of now, or the final ones, as tables."""
        parts: list[RenderableType] = [self._figures_table(written)]
        if self._states:
            parts.append(self._objects_table())
        return Group(*parts)

    def to_json(self, written: Sequence[Path] = ()) -> dict[str, Any]:
        """Return the figures as `--json` prints them; times in milliseconds."""
        seconds = self._latest_time - self._start
        return {
            "model": self._model,
            "session_id": self._session_id,
            "seconds": round(seconds, 3),
            "frames_per_second": round(self._latency_ms.count / seconds, 3) if seconds else 0.0,
            "frames": self._counts(),
            "dropped": {reason.value: count for reason, count in self._dropped.items()},
            "latency_ms": {**_percentiles(self._latency_ms), "max": round(self._slowest_ms, 3)},
            "server_ms": {
                stage: _percentiles(figures)
                for stage, figures in self._stages_ms.items()
                if figures.count
            },
            "objects": [
                {
                    "object_id": object_id,
                    "state": self._state(object_id),
                    "frames": {state.value: count for state, count in states.items()},
                }
                for object_id, states in sorted(self._states.items())
            ],
            "files": [str(path) for path in written],
        }

    def _counts(self) -> dict[str, int]:
        summary = self._summary
        if summary is None:
            dropped = sum(self._dropped.values())
            return {
                "answered": self._latency_ms.count,
                "dropped": dropped,
                "failed": self._failed,
            }
        return {
            "sent": summary.frames_sent,
            "answered": summary.frames_answered,
            "dropped": summary.frames_dropped,
            "failed": summary.frames_failed,
            "lost": summary.frames_lost,
        }

    def _figures_table(self, written: Sequence[Path]) -> Table:
        table = Table.grid(padding=(0, 2))
        seconds = self._latest_time - self._start
        counts = [f"{count:,} {name}" for name, count in self._counts().items()]
        mean = self._latency_ms.count / seconds if seconds else 0.0
        rate = f"{mean:.1f} frames/s over {seconds:.1f} s"
        if self._summary is None:
            rate = f"{self._rate.per_second():.1f} frames/s lately, {rate}"
        table.add_row("model", self._model)
        table.add_row("frames", ", ".join(counts))
        table.add_row("throughput", rate)
        table.add_row("latency ms", _as_text(self._latency_ms, self._slowest_ms))
        stages = [
            f"{stage} {figures.percentile(50):.1f}"
            for stage, figures in self._stages_ms.items()
            if figures.count
        ]
        table.add_row("server ms", f"p50: {', '.join(stages)}" if stages else "")
        for path in written:
            table.add_row("wrote", str(path))
        return table

    def _objects_table(self) -> Table:
        table = Table("object", "state", "score", "area px", "frames seen", "frames lost")
        for column in (table.columns[0], *table.columns[2:]):
            column.justify = "right"
        masks = {mask.object_id: mask for mask in (self._latest or ())}
        for object_id, states in sorted(self._states.items()):
            mask, lost = masks.get(object_id), states[ObjectState.LOST]
            table.add_row(
                str(object_id),
                self._state(object_id).replace("_", " "),
                "" if mask is None or mask.score is None else f"{mask.score:.2f}",
                "" if mask is None else f"{mask.area_px:,}",
                f"{states.total() - lost:,}",
                f"{lost:,}",
            )
        return table

    def _state(self, object_id: int) -> str:
        for mask in self._latest or ():
            if mask.object_id == object_id:
                return mask.state.value
        return "gone"


def _percentiles(figures: Percentiles) -> dict[str, float]:
    values = {f"p{percent}": figures.percentile(percent) for percent in _PERCENTS}
    values["mean"] = figures.mean
    return {name: round(value, 3) for name, value in values.items() if value is not None}


def _as_text(figures: Percentiles, slowest: float) -> str:
    if not figures.count:
        return ""
    values = [f"p{percent} {figures.percentile(percent):.1f}" for percent in _PERCENTS]
    return ", ".join([*values, f"max {slowest:.1f}"])
