"""Sends spans to a collector, from a thread of its own and a bounded queue.

A collector that does not answer costs the spans, never a call: work only appends to the queue.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Tracer

_log = structlog.get_logger(__name__)

_INTERVAL_MS = 1000.0
_BATCH_SPANS = 512
# They say something for each failed attempt; `_Told` says it once.
_TALKATIVE = (
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.sdk._shared_internal",
)


@dataclass(frozen=True, slots=True)
class TraceDestination:
    """Where spans go, and how much of that there may be.

    Attributes:
        endpoint: URL of the collector, `http://host:port` or `https://host:port`.
        headers: Metadata for it.
        timeout_s: Longest time that sending some spans may take.
        max_waiting_spans: Spans that wait to be sent; of more, the oldest are dropped.
        sample_ratio: Share of the traces that begin here which are recorded.
    """

    endpoint: str
    headers: dict[str, str] = field(repr=False)
    timeout_s: float
    max_waiting_spans: int
    sample_ratio: float


class SpanExport:
    """Sends spans between its making and `stop`."""

    def __init__(self, destination: TraceDestination, service_name: str, version: str) -> None:
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        sending = OTLPSpanExporter(
            destination.endpoint,
            insecure=destination.endpoint.startswith("http://"),
            headers=destination.headers,
            timeout=destination.timeout_s,
        )
        self._exporter = _Told(sending, destination.endpoint)
        # Made of these alone: `Resource.create` would read the environment.
        resource = Resource(
            {
                "service.name": service_name,
                "service.version": version,
                "service.instance.id": str(uuid.uuid4()),
                "process.pid": os.getpid(),
            }
        )
        sampler = ParentBased(TraceIdRatioBased(destination.sample_ratio))
        self._provider = TracerProvider(sampler, resource, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                self._exporter,
                max_queue_size=destination.max_waiting_spans,
                schedule_delay_millis=_INTERVAL_MS,
                max_export_batch_size=min(_BATCH_SPANS, destination.max_waiting_spans),
                export_timeout_millis=destination.timeout_s * 1e3,
            )
        )

    @property
    def tracer(self) -> Tracer:
        """What makes spans that are sent."""
        return self._provider.get_tracer("maskwire")

    def stop(self, flush_s: float) -> None:
        """Send what waits, for at most `flush_s`, and give up the rest; blocks until then."""
        # On a daemon thread: OpenTelemetry's own waits for half a minute, whatever one says.
        stopping = threading.Thread(target=self._provider.shutdown, name="spans-end", daemon=True)
        stopping.start()
        stopping.join(flush_s)
        if stopping.is_alive():
            self._exporter.shutdown()
            _log.warning("the last spans could not be sent in time", flush_s=flush_s)


class _Told(SpanExporter):
    """An exporter that says once when it fails, and once when it is well again."""

    def __init__(self, exporter: OTLPSpanExporter, endpoint: str) -> None:
        self._exporter = exporter
        self._endpoint = endpoint
        self._is_failing = False
        self._shutdown = threading.Lock()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send some spans; blocks."""
        result = self._exporter.export(spans)
        is_failing = result is not SpanExportResult.SUCCESS
        if is_failing != self._is_failing:
            self._is_failing = is_failing
            if is_failing:
                _log.warning("spans cannot be sent and are dropped", endpoint=self._endpoint)
            else:
                _log.info("spans are sent again", endpoint=self._endpoint)
        return result

    def shutdown(self) -> None:
        """Close the connection, which ends what is being sent; once."""
        if self._shutdown.acquire(blocking=False):
            self._exporter.shutdown()
