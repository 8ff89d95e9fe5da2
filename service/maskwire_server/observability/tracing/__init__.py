"""Traces: spans of calls, their stages, and jobs, sent to an OpenTelemetry collector.

`Spans` makes them, `SpanExport` sends them, `TracedMetrics` is the observer that reports to metrics
and to spans. Nothing of this is imported while tracing is off.
"""

from .export import SpanExport, TraceDestination
from .spans import Spans
from .traced_metrics import TracedMetrics

__all__ = ["SpanExport", "Spans", "TraceDestination", "TracedMetrics"]
