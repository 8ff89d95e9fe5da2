"""A collector of traces: gRPC's own server with OpenTelemetry's TraceService, in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

PATIENCE_S = 90.0


@dataclass(frozen=True, slots=True)
class SeenSpan:
    """A span as it arrived; identifiers are hexadecimal, times in nanoseconds."""

    service: str
    process: int
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    status: str
    attributes: dict[str, Any]
    links: tuple[tuple[str, str], ...]


class TraceCollector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans that arrive, and the metadata that came with them."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.metadata: list[dict[str, Any]] = []
        self._spans: list[SeenSpan] = []
        self._arrived = threading.Condition()

    @property
    def spans(self) -> list[SeenSpan]:
        """The spans so far."""
        with self._arrived:
            return list(self._spans)

    def trace(self, trace_id: str) -> list[SeenSpan]:
        """Return the spans of a trace so far."""
        return [one for one in self.spans if one.trace_id == trace_id]

    def wait_until(self, is_so: Callable[[Sequence[SeenSpan]], Any]) -> list[SeenSpan]:
        """Wait until the spans so far satisfy a condition, and return them."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: is_so(self._spans), PATIENCE_S):
                lines = [f"{one.service} {one.name} {one.attributes}" for one in self._spans]
                raise AssertionError("spans are missing; there are:\n" + "\n".join(lines))
            return list(self._spans)

    def Export(  # noqa: N802  # the contract's name
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        """Take spans."""
        arrived = [
            _seen(span, _plain(group.resource.attributes))
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]
        with self._arrived:
            self.metadata.append(dict(context.invocation_metadata()))
            self._spans += arrived
            self._arrived.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()


@contextmanager
def collecting() -> Iterator[TraceCollector]:
    """Run a collector on a free port."""
    collector = TraceCollector()
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
        port = server.add_insecure_port("127.0.0.1:0")
        collector.endpoint = f"http://127.0.0.1:{port}"
        server.start()
        try:
            yield collector
        finally:
            server.stop(None).wait()


def _seen(span: trace_pb2.Span, resource: dict[str, Any]) -> SeenSpan:
    return SeenSpan(
        service=resource["service.name"],
        process=resource.get("process.pid", 0),
        name=span.name,
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        status=trace_pb2.Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
        attributes=_plain(span.attributes),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
    )


def _plain(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
