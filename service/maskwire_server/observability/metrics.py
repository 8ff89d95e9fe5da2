"""Every metric of the service, and what turns the domain's and transport's reports into them.

Times are in seconds and sizes in bytes, as Prometheus has it. Labels take few values: methods of
the contract, models that are served, executors, caches.
"""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ..domain.errors import ErrorCode
from ..domain.jobs.job import Job
from ..domain.quotas import QuotaLimit
from ..domain.tracing import UNTRACED, TracedWork
from .keeping_metrics import KeepingMetrics
from .process_metrics import ProcessMetrics

# From a cached prompt (a millisecond) to a large model on a CPU (a minute), about 1-2.5-5.
_CALL_BUCKETS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 25.0, 60.0),
)
_STAGE_BUCKETS = (
    *(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0),
)
_QUEUE_BUCKETS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0),
)
_SESSION_BUCKETS = (1, 10, 60, 300, 900, 3600, 4 * 3600)
_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

_METHOD_LABELS = ("grpc_type", "grpc_service", "grpc_method")


class Metrics(KeepingMetrics, ProcessMetrics):
    """All metrics in a registry of their own: an `Observer` and a `CallRecorder`.

    Attributes:
        registry: What the metrics endpoint serves.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._make_call_metrics()
        self._make_work_metrics()
        self._make_session_metrics()
        self._make_keeping_metrics()
        self._make_process_metrics()

    def _make_call_metrics(self) -> None:
        counter = partial(Counter, registry=self.registry)
        self._over_quota = counter(
            "maskwire_quota_refused",
            "Calls that ended because their tenant has reached a limit, by the setting.",
            ("limit",),
        )
        self._quota_store_failures = counter(
            "maskwire_quota_store_failures",
            "Times that the store of a cluster's quotas failed, so that a server counted alone.",
        )
        for limit in QuotaLimit:
            self._over_quota.labels(limit.value)
        self._started = counter("grpc_server_started", "Calls that began.", _METHOD_LABELS)
        self._handled = counter(
            "grpc_server_handled", "Calls that ended, by status.", (*_METHOD_LABELS, "grpc_code")
        )
        self._handling = Histogram(
            "grpc_server_handling_seconds",
            "Time from a call's beginning to its end.",
            _METHOD_LABELS,
            buckets=_CALL_BUCKETS,
            registry=self.registry,
        )
        self._received = counter("grpc_server_msg_received", "Request messages.", _METHOD_LABELS)
        self._sent = counter("grpc_server_msg_sent", "Response messages.", _METHOD_LABELS)
        self._errors = counter(
            "maskwire_errors",
            "Calls that ended with an error of the service, by its code.",
            ("code",),
        )
        # From 0: the increase of a series that begins at 1 goes unseen.
        for code in ErrorCode:
            self._errors.labels(code.name.lower())

    def _make_work_metrics(self) -> None:
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        self._stages = histogram(
            "maskwire_stage_seconds",
            "Time of one stage of the work: decode, encode, prompt, track or postprocess.",
            ("stage", "model"),
            buckets=_STAGE_BUCKETS,
        )
        self._queue_time = histogram(
            "maskwire_queue_seconds",
            "Time that work waited for an executor.",
            ("executor",),
            buckets=_QUEUE_BUCKETS,
        )
        self._busy = counter(
            "maskwire_executor_busy_seconds",
            "Time that an executor (a device, or the threads for pixels) was at work.",
            ("executor",),
        )
        self._queue_depth = gauge(
            "maskwire_queue_depth", "Work that waits for an executor now.", ("executor",)
        )
        self._running = gauge(
            "maskwire_executor_running", "Work that runs on an executor now.", ("executor",)
        )
        self._refused = counter(
            "maskwire_overload_refused", "Work refused because a queue was full.", ("executor",)
        )
        self._lookups = counter(
            "maskwire_cache_lookups", "Look-ups in a cache: hit or miss.", ("cache", "result")
        )
        self._cache_bytes = gauge("maskwire_cache_bytes", "Memory that a cache holds.", ("cache",))
        self._cache_entries = gauge(
            "maskwire_cache_entries", "Entries that a cache holds.", ("cache",)
        )
        self._videos = gauge("maskwire_videos", "Stored videos that are in work now.")
        self._decoder_ends = counter(
            "maskwire_decoder_restarts",
            "Decoding child processes that ended, by reason; the next file starts another.",
            ("reason",),
        )
        for reason in ("crashed", "memory", "time", "nonsense"):
            self._decoder_ends.labels(reason)
        self._batches = histogram(
            "maskwire_decode_batch_objects",
            "Objects that one call of a mask decoder served.",
            ("model",),
            buckets=_BATCH_BUCKETS,
        )

    def _make_session_metrics(self) -> None:
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        self._sessions = gauge("maskwire_sessions_active", "Live sessions now.")
        self._session_limit = gauge(
            "maskwire_sessions_limit", "Most live sessions that the process takes; 0 in a worker."
        )
        self._session_bytes = gauge(
            "maskwire_sessions_bytes",
            "Memory that live sessions hold for their objects and frames.",
        )
        self._session_ends = counter(
            "maskwire_sessions_ended", "Live sessions that ended, by reason.", ("reason",)
        )
        self._session_time = histogram(
            "maskwire_session_seconds",
            "How long live sessions lasted.",
            buckets=_SESSION_BUCKETS,
        )
        self._session_frames = counter(
            "maskwire_session_frames",
            "Frames of live sessions: received, answered, dropped and why.",
            ("outcome",),
        )
        self._frame_time = histogram(
            "maskwire_frame_seconds",
            "Time from a live frame's arrival to its answer.",
            ("model",),
            buckets=_CALL_BUCKETS,
        )

    def call_started(self, kind: str, service: str, method: str) -> None:
        """Count a call that begins."""
        self._started.labels(kind, service, method).inc()

    def call_finished(
        self, kind: str, service: str, method: str, code: str, seconds: float
    ) -> None:
        """Count a call that ends."""
        self._handled.labels(kind, service, method, code).inc()
        self._handling.labels(kind, service, method).observe(seconds, self._exemplar())

    def message_received(self, kind: str, service: str, method: str) -> None:
        """Count a request message."""
        self._received.labels(kind, service, method).inc()

    def message_sent(self, kind: str, service: str, method: str) -> None:
        """Count a response message."""
        self._sent.labels(kind, service, method).inc()

    def error_answered(self, code: str) -> None:
        """Count an error that a call ended with."""
        self._errors.labels(code).inc()

    def quota_refused(self, limit: str) -> None:
        """Count a call over a limit of its tenant."""
        self._over_quota.labels(limit).inc()

    def quota_store_failed(self) -> None:
        """Count a failure of the store of quotas."""
        self._quota_store_failures.inc()

    def stage_finished(
        self, stage: str, model: str, seconds: float, ended_s: float | None = None
    ) -> None:
        """Record how long a stage took."""
        self._stages.labels(stage, model).observe(seconds, self._exemplar())

    def queue_left(self, executor: str, seconds: float) -> None:
        """Record how long work waited."""
        self._queue_time.labels(executor).observe(seconds, self._exemplar())

    def executor_ran(self, executor: str, seconds: float) -> None:
        """Add to the time that an executor was at work."""
        self._busy.labels(executor).inc(seconds)

    def queue_depth_changed(self, executor: str, waiting: int, running: int) -> None:
        """Record what waits and runs now."""
        self._queue_depth.labels(executor).set(waiting)
        self._running.labels(executor).set(running)

    def overload_refused(self, executor: str) -> None:
        """Count a refusal."""
        self._refused.labels(executor).inc()

    def cache_looked_up(self, cache: str, hit: bool) -> None:
        """Count a look-up."""
        self._lookups.labels(cache, "hit" if hit else "miss").inc()

    def cache_size_changed(self, cache: str, size_bytes: int, entries: int) -> None:
        """Record what a cache holds now."""
        self._cache_bytes.labels(cache).set(size_bytes)
        self._cache_entries.labels(cache).set(entries)

    def batch_decoded(self, model: str, objects: int) -> None:
        """Record the size of a decoder's batch."""
        self._batches.labels(model).observe(objects)

    def decoder_ended(self, reason: str) -> None:
        """Count a decoding child that ended."""
        self._decoder_ends.labels(reason).inc()

    def sessions_limited(self, most: int) -> None:
        """Record the most live sessions that are taken."""
        self._session_limit.set(most)

    def sessions_changed(self, active: int, size_bytes: int) -> None:
        """Record the live sessions and their memory."""
        self._sessions.set(active)
        self._session_bytes.set(size_bytes)

    def session_ended(self, reason: str, seconds: float) -> None:
        """Count a session that ended."""
        self._session_ends.labels(reason).inc()
        self._session_time.observe(seconds)

    def session_frame(self, outcome: str) -> None:
        """Count a frame of a session."""
        self._session_frames.labels(outcome).inc()

    def videos_changed(self, active: int) -> None:
        """Record the stored videos in work."""
        self._videos.set(active)

    def frame_answered(self, model: str, seconds: float) -> None:
        """Record how long a frame took."""
        self._frame_time.labels(model).observe(seconds, self._exemplar())

    def trace_context(self) -> str:
        """Return nothing: there are no traces."""
        return ""

    def session_request(self, kind: str, sequence: int, received_s: float) -> TracedWork:
        """Trace nothing."""
        return UNTRACED

    def job_attempt(self, job: Job) -> TracedWork:
        """Trace nothing."""
        return UNTRACED

    def work_elsewhere(self, trace_context: str) -> TracedWork:
        """Trace nothing."""
        return UNTRACED

    def _exemplar(self) -> dict[str, str] | None:
        """Return what names the trace of what is measured."""
        return None
