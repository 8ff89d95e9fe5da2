"""The settings of tracing."""

from __future__ import annotations

from pydantic import Field, SecretStr

from .group import Address, SettingGroup


class TracingSettings(SettingGroup):
    """Traces by OpenTelemetry, which the extra `tracing` brings."""

    enabled: bool = False
    """Make traces of calls and jobs and send them to `endpoint`."""
    endpoint: Address = Field(default="http://127.0.0.1:4317", pattern=r"^https?://[^/\s]+/?$")
    """Where an OTLP collector listens for gRPC, `http://` (in plain text) or `https://`."""
    headers: SecretStr | None = None
    """Metadata for the collector, `key=value` separated by commas."""
    sample_ratio: float = Field(default=1.0, ge=0, le=1)
    """Share of traces that are recorded; callers that bring a trace have decided for it."""
    service_name: str = ""
    """Name of the service in traces; empty is maskwire-server or maskwire-worker."""
    max_spans_per_call: int = Field(default=128, ge=0)
    """Most spans of stages and queues within one call, request of a session or attempt at a job;
    its own span says how many more there were."""
    max_waiting_spans: int = Field(default=4096, ge=512)
    """Spans that wait to be sent; while there are more, the oldest are dropped."""
    export_timeout_s: float = Field(default=10.0, gt=0)
    """Longest time that sending some spans may take, attempts after the first included."""
    flush_s: float = Field(default=3.0, ge=0)
    """Longest time that sending what is left may take when the process ends."""
