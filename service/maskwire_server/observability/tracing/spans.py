"""Makes spans, most of them after the fact: a report says what ended and how long it took.

The span that reports belong to is in a context variable of ours. It goes along with tasks and, by
`BoundedExecutor`, onto threads; it carries a count, so that no call makes spans without bound. What
spans hold are names, numbers and identifiers: never images, texts, URLs or messages of errors.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue
from structlog.contextvars import bound_contextvars

from ...domain.errors import ErrorCode
from ...domain.jobs.job import Job

Attributes = Mapping[str, AttributeValue]

FAULT_STATUSES = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
"""Statuses of gRPC that are the server's fault, as the semantic conventions have it."""

FAULTS = frozenset(
    {
        ErrorCode.DATA_LOSS,
        ErrorCode.DEADLINE_EXCEEDED,
        ErrorCode.INTERNAL,
        ErrorCode.JOBS_UNAVAILABLE,
        ErrorCode.MODEL_UNAVAILABLE,
        ErrorCode.SESSION_OVER,
        ErrorCode.SHUTTING_DOWN,
        ErrorCode.STORAGE_UNAVAILABLE,
        ErrorCode.UNIMPLEMENTED,
        ErrorCode.WORKER_LOST,
    }
)
"""Errors that are the server's fault: those whose status is one of `FAULT_STATUSES`."""

_FAULTY_ENDS = frozenset({"died", "stalled", "lost", "interrupted"})
_PROPAGATOR = TraceContextTextMapPropagator()
_LEFT_OUT = "maskwire.spans_left_out"


class Scope:
    """A span that reports belong to.

    Attributes:
        span: The span; of another process, only its name.
        context: OpenTelemetry's context with it.
    """

    __slots__ = ("_left_out", "_most", "_remaining", "context", "span")

    def __init__(self, span: Span, most: int | None) -> None:
        """Take the span, and how many may be made in it; None is none, without a word."""
        self.span = span
        self.context = set_span_in_context(span, Context())
        self._most = most
        self._remaining = most or 0
        self._left_out = 0

    @property
    def is_sampled(self) -> bool:
        """Whether it is recorded, here or in the process that it is of."""
        return self.span.get_span_context().trace_flags.sampled

    @property
    def traceparent(self) -> str:
        """Its name for other processes; empty where there is none."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, self.context)
        return carrier.get("traceparent", "")

    def has_room(self) -> bool:
        """Whether one more span may be made in it; if not, that is noted."""
        if self._remaining > 0:
            self._remaining -= 1
            return True
        self._left_out += 1
        return False

    def end(self) -> None:
        """End the span, now that nothing more belongs to it."""
        if self._left_out and self._most is not None:
            self.span.set_attribute(_LEFT_OUT, self._left_out)
        self.span.end()


_scope: ContextVar[Scope | None] = ContextVar("scope", default=None)


class CallOutcome:
    """The span of a call, to be told how the call ended."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def ended(self, status: str, number: int, error: str | None) -> None:
        """Record the status; only what is the server's fault is an error of the server's span.

        Args:
            status: Name of gRPC's status.
            number: Its number.
            error: What went wrong in our own words, where it is known.
        """
        self._span.set_attribute("rpc.grpc.status_code", number)
        if number:
            self._span.set_attribute("error.type", error or status)
        if status in FAULT_STATUSES:
            self._span.set_status(Status(StatusCode.ERROR, status))


class Spans:
    """Makes the spans of a process.

    Args:
        tracer: What makes and sends them.
        max_spans: Most spans within a call, a request of a session or an attempt at a job.
    """

    def __init__(self, tracer: Tracer, max_spans: int) -> None:
        self._tracer = tracer
        self._max_spans = max_spans

    @property
    def current(self) -> Scope | None:
        """What reports belong to now."""
        return _scope.get()

    def finished(
        self, name: str, seconds: float, ended_s: float | None, attributes: Attributes
    ) -> None:
        """Make a span of what has ended, in the current one, as far as there may be more."""
        scope = _scope.get()
        if scope is None or not scope.is_sampled or not scope.has_room():
            return
        end_ns = time.time_ns() if ended_s is None else wall_ns(ended_s)
        start_ns = end_ns - round(seconds * 1e9)
        span = self._tracer.start_span(
            name, scope.context, attributes=attributes, start_time=start_ns
        )
        span.end(end_ns)

    @contextmanager
    def call(
        self, service: str, method: str, request_id: str, *, lasts: bool, headers: Mapping[str, str]
    ) -> Iterator[CallOutcome]:
        """Trace a call, and have reports belong to it.

        Args:
            service: Full name of the service.
            method: Name of the method.
            request_id: Identifier of the call.
            lasts: Whether it is a live session, whose requests are traced on their own.
            headers: What of the call's metadata names the caller's trace.
        """
        span = self._tracer.start_span(
            f"{service}/{method}",
            _PROPAGATOR.extract(headers, Context()),
            SpanKind.SERVER,
            {
                "rpc.system": "grpc",
                "rpc.service": service,
                "rpc.method": method,
                "maskwire.request_id": request_id,
            },
        )
        with self.within(Scope(span, None if lasts else self._max_spans)):
            yield CallOutcome(span)

    @contextmanager
    def within(self, scope: Scope) -> Iterator[Scope]:
        """Have reports and log lines belong to a span; end it at the end."""
        identity = scope.span.get_span_context()
        before = _scope.set(scope)
        names = {"trace_id": trace_id(identity), "span_id": f"{identity.span_id:016x}"}
        names = names if identity.is_valid else {}
        try:
            with bound_contextvars(**names):
                yield scope
        finally:
            _scope.reset(before)
            scope.end()

    def request(self, kind: str, sequence: int, received_s: float) -> Scope:
        """Begin a request of a live session: a trace of its own, with a link to the stream's."""
        stream = _scope.get()
        span = self._tracer.start_span(
            f"session {kind}",
            Context(),
            SpanKind.SERVER,
            {"maskwire.sequence": sequence},
            [] if stream is None else [Link(stream.span.get_span_context())],
            wall_ns(received_s),
        )
        return Scope(span, self._max_spans)

    def attempt(self, job: Job) -> Scope:
        """Begin an attempt at a job, in the trace of the job's submitter."""
        parent = remote(job.trace_context)
        attributes: Attributes = {
            "maskwire.job": job.key.name,
            "maskwire.method": job.method,
            "maskwire.queue": job.queue,
            "maskwire.attempt": job.attempt,
            "maskwire.request_id": job.request_id,
        }
        is_known = get_current_span(parent).get_span_context().is_valid
        if job.attempt == 1 and job.start_time is not None and is_known:
            began = max(job.start_time, job.create_time)  # they may be of two machines
            waiting = self._tracer.start_span(
                "queue",
                parent,
                attributes={"maskwire.queue": job.queue, "maskwire.job": job.key.name},
                start_time=_nanoseconds(job.create_time),
            )
            waiting.end(_nanoseconds(began))
        span = self._tracer.start_span("job attempt", parent, SpanKind.CONSUMER, attributes)
        return Scope(span, self._max_spans)

    def elsewhere(self, trace_context: str) -> Scope:
        """Return the span of another process by its name."""
        return Scope(get_current_span(remote(trace_context)), self._max_spans)

    def stage(self, scope: Scope, name: str) -> Span | None:
        """Begin a stage of an attempt, as far as there may be more."""
        return self._tracer.start_span(name, scope.context) if scope.has_room() else None


def end_of(span: Span, outcome: str, code: ErrorCode | None) -> None:
    """Record how a request of a session or an attempt at a job ended."""
    span.set_attribute("maskwire.outcome", outcome)
    if code is not None:
        span.set_attribute("error.type", code.name)
    if outcome in _FAULTY_ENDS or code in FAULTS:
        span.set_status(Status(StatusCode.ERROR, outcome if code is None else code.name))


def trace_id(identity: SpanContext) -> str:
    """Return the identifier of a trace as 32 hexadecimal digits."""
    return f"{identity.trace_id:032x}"


def remote(trace_context: str) -> Context:
    """Return the context that a `traceparent` names; an empty one where it names none."""
    return _PROPAGATOR.extract({"traceparent": trace_context}, Context())


def wall_ns(monotonic_s: float) -> int:
    """Return a time of `time.perf_counter`'s clock as nanoseconds since 1970."""
    return time.time_ns() - round((time.perf_counter() - monotonic_s) * 1e9)


def _nanoseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1e9)
