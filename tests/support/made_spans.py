"""Spans that are kept in memory, for tests of what makes them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from maskwire_server.observability.tracing import Spans, TracedMetrics


class KeptSpans(InMemorySpanExporter):
    """Keeps spans, and can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Keep some spans."""
        with self._changed:
            result = super().export(spans)
            self._changed.notify_all()
        return result

    def wait_for(self, count: int) -> None:
        """Return when so many have ended."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.get_finished_spans()) >= count, 60)


@dataclass(frozen=True, slots=True)
class MadeSpans:
    """What makes spans, and those that it has made."""

    spans: Spans
    metrics: TracedMetrics
    exporter: KeptSpans

    @property
    def all(self) -> tuple[ReadableSpan, ...]:
        """Every span that has ended, in that order."""
        return self.exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        """Return the spans of a name."""
        return [one for one in self.all if one.name == name]


def made_spans(*, max_spans: int = 100, ratio: float = 1.0) -> MadeSpans:
    """Return what makes spans as a server does, but keeps them."""
    exporter = KeptSpans()
    provider = TracerProvider(ParentBased(TraceIdRatioBased(ratio)), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    spans = Spans(provider.get_tracer("maskwire"), max_spans)
    return MadeSpans(spans, TracedMetrics(spans), exporter)
