"""Builds tracing, where the settings want it; nothing of OpenTelemetry is imported elsewhere."""

from __future__ import annotations

import asyncio
import importlib.util
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from pydantic import SecretStr

from ..observability.metrics import Metrics
from ..settings import Settings, SettingsError

if TYPE_CHECKING:
    from ..transport.interceptors.tracing import CallTracer

_NEEDED = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.grpc")


@dataclass(frozen=True, slots=True)
class Observing:
    """What hears of the work of a process.

    Attributes:
        metrics: The observer, and what the metrics endpoint serves.
        tracer: Traces calls; None where tracing is off.
    """

    metrics: Metrics
    tracer: CallTracer | None = None


def build_observing(settings: Settings, role: str, resources: AsyncExitStack) -> Observing:
    """Build metrics, and traces where they are wanted; their last spans are sent at the end.

    Args:
        settings: The group `tracing` is used.
        role: `server` or `worker`, the end of the service's name.
        resources: What must be closed goes here.

    Raises:
        SettingsError: OpenTelemetry is not installed, or its headers cannot be read.
    """
    chosen = settings.tracing
    if not chosen.enabled:
        return Observing(Metrics())
    _require_packages()
    from ..observability.tracing import SpanExport, Spans, TraceDestination, TracedMetrics

    destination = TraceDestination(
        chosen.endpoint,
        _headers(chosen.headers),
        chosen.export_timeout_s,
        chosen.max_waiting_spans,
        chosen.sample_ratio,
    )
    name = chosen.service_name or f"maskwire-{role}"
    export = SpanExport(destination, name, metadata.version("maskwire"))
    resources.push_async_callback(asyncio.to_thread, export.stop, chosen.flush_s)
    spans = Spans(export.tracer, chosen.max_spans_per_call)
    return Observing(TracedMetrics(spans), spans)


def _require_packages() -> None:
    try:
        missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    except ModuleNotFoundError as error:  # a parent of one is missing
        missing = [str(error.name)]
    if missing:
        raise SettingsError(
            f"tracing.enabled: {missing[0]} is not installed; install maskwire[tracing]"
        )


def _headers(given: SecretStr | None) -> dict[str, str]:
    """Read `key=value,key=value`; the message of an error tells no value."""
    headers: dict[str, str] = {}
    for part in (given.get_secret_value() if given else "").split(","):
        key, separator, value = part.strip().partition("=")
        if not separator and not key:
            continue
        if not separator or not key.strip():
            raise SettingsError("tracing.headers: they are key=value, separated by commas")
        headers[key.strip().lower()] = value.strip()
    return headers
