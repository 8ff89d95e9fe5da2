"""The observer of a process that traces: every report becomes metrics, and some a span too."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Self

from opentelemetry.trace import Span

from ...domain.errors import ErrorCode
from ...domain.jobs.job import Job
from ...domain.tracing import TracedWork
from ..metrics import Metrics
from .spans import Scope, Spans, end_of, trace_id


class TracedMetrics(Metrics):
    """Metrics with exemplars, and the spans of what is reported."""

    def __init__(self, spans: Spans) -> None:
        super().__init__()
        self._spans = spans

    def stage_finished(
        self, stage: str, model: str, seconds: float, ended_s: float | None = None
    ) -> None:
        """Record a stage, and make its span."""
        super().stage_finished(stage, model, seconds, ended_s)
        self._spans.finished(stage, seconds, ended_s, {"maskwire.model": model})

    def queue_left(self, executor: str, seconds: float) -> None:
        """Record a wait, and make its span."""
        super().queue_left(executor, seconds)
        self._spans.finished("queue", seconds, None, {"maskwire.executor": executor})

    def source_fetched(self, scheme: str, outcome: str, seconds: float, size_bytes: int) -> None:
        """Record a fetch, and make its span."""
        super().source_fetched(scheme, outcome, seconds, size_bytes)
        attributes = {"maskwire.scheme": scheme, "maskwire.outcome": outcome}
        self._spans.finished("fetch", seconds, None, attributes)

    def trace_context(self) -> str:
        """Return the name of the current trace."""
        scope = self._spans.current
        return "" if scope is None else scope.traceparent

    def session_request(self, kind: str, sequence: int, received_s: float) -> TracedWork:
        """Return a request of a live session, in a trace of its own."""
        return _Traced(self._spans, self._spans.request(kind, sequence, received_s))

    def job_attempt(self, job: Job) -> TracedWork:
        """Return an attempt at a job, in the trace of its submitter."""
        return _Traced(self._spans, self._spans.attempt(job))

    def work_elsewhere(self, trace_context: str) -> TracedWork:
        """Return this process's part of what another one traces."""
        return _Traced(self._spans, self._spans.elsewhere(trace_context))

    def _exemplar(self) -> dict[str, str] | None:
        scope = self._spans.current
        if scope is None or not scope.is_sampled:
            return None
        return {"trace_id": trace_id(scope.span.get_span_context())}


class _Traced:
    """A piece of work with a span, while it is entered."""

    def __init__(self, spans: Spans, scope: Scope) -> None:
        self._spans = spans
        self._scope = scope
        self._stage: Span | None = None
        self._entered = ExitStack()

    @property
    def context(self) -> str:
        """Name of its span."""
        return self._scope.traceparent

    def stage_begun(self, stage: str) -> None:
        """End the span of the last stage and begin the next."""
        self._end_stage()
        self._stage = self._spans.stage(self._scope, stage)

    def ended(self, outcome: str, code: ErrorCode | None = None) -> None:
        """Record how it ended."""
        self._end_stage()
        end_of(self._scope.span, outcome, code)

    def __enter__(self) -> Self:
        """Have reports belong to it."""
        self._entered.enter_context(self._spans.within(self._scope))
        return self

    def __exit__(self, *exception: object) -> None:
        """End it."""
        self._end_stage()
        self._entered.close()

    def _end_stage(self) -> None:
        stage, self._stage = self._stage, None
        if stage is not None:
            stage.end()
