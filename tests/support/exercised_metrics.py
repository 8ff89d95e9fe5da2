"""A metrics page on which everything that the service can report has been reported."""

from __future__ import annotations

from maskwire_server.domain.errors import ErrorCode
from maskwire_server.domain.remote_sources import SOURCE_OUTCOMES
from maskwire_server.observability.metrics import Metrics

_METHODS = (
    ("unary", "maskwire.v1.SegmentationService", "SegmentImage"),
    ("bidi_stream", "maskwire.v1.RealtimeService", "RunSession"),
)


def exercised_metrics() -> Metrics:
    """Return metrics on which every method was called once or more, with realistic values."""
    metrics = Metrics()
    _calls(metrics)
    _work(metrics)
    _sessions(metrics)
    _jobs(metrics)
    _process(metrics)
    return metrics


def _calls(metrics: Metrics) -> None:
    for method in _METHODS:
        metrics.call_started(*method)
        metrics.message_received(*method)
        metrics.message_sent(*method)
        metrics.call_finished(*method, "OK", 0.012)
    for code in ErrorCode:
        metrics.error_answered(code.name.lower())


def _work(metrics: Metrics) -> None:
    for stage in ("decode", "encode", "prompt", "track", "postprocess"):
        metrics.stage_finished(stage, "maskwire-nano", 0.02)
    for executor in ("cuda:0", "pixels", "files"):
        metrics.queue_left(executor, 0.001)
        metrics.executor_ran(executor, 0.25)
        metrics.queue_depth_changed(executor, 3, 1)
        metrics.overload_refused(executor)
    metrics.quota_refused("quotas.calls_per_minute")
    metrics.quota_store_failed()
    for cache in ("embedding", "image"):
        metrics.cache_looked_up(cache, True)
        metrics.cache_looked_up(cache, False)
        metrics.cache_size_changed(cache, 1024, 2)
    metrics.batch_decoded("maskwire-nano", 5)
    metrics.videos_changed(1)
    metrics.file_moved("put", 1024)
    metrics.file_moved("get", 1024)
    metrics.files_swept(1, 2, 4096)
    for scheme in ("https", "s3"):
        for outcome in SOURCE_OUTCOMES:
            metrics.source_fetched(scheme, outcome, 0.2, 1024)


def _sessions(metrics: Metrics) -> None:
    metrics.sessions_limited(64)
    metrics.sessions_changed(3, 4096)
    metrics.session_ended("idle", 12.0)
    for outcome in ("received", "answered", "dropped_stale", "dropped_sampled_out"):
        metrics.session_frame(outcome)
    metrics.frame_answered("maskwire-nano", 0.03)


def _jobs(metrics: Metrics) -> None:
    method = "maskwire.v1.VideoService/TrackVideo"
    for how in ("succeeded", "failed", "died", "stalled", "cancelled", "lost", "handed_back"):
        metrics.job_attempt_ended(method, how, 12.0)
    for state in ("succeeded", "failed", "cancelled"):
        metrics.job_finished(method, state)
    for reason in ("died", "stalled", "failed", "idle", "stopped"):
        metrics.job_child_ended(reason)
    for reason in ("recycled", "tenant", "crashed", "memory", "time", "nonsense"):
        metrics.decoder_ended(reason)
    metrics.job_queue_changed("segmentation", 2)
    metrics.job_workers_changed("segmentation", 1)
    metrics.job_waited("segmentation", 0.4)
    for outcome in ("delivered", "refused", "unreachable", "gave_up"):
        metrics.webhook_tried(outcome)


def _process(metrics: Metrics) -> None:
    metrics.version_known("1.2.3")
    metrics.model_served("maskwire-nano", "nano", "cuda:0", "bf16", "sha256:00")
    metrics.model_loading("maskwire-nano", is_loading=True)
    metrics.model_loaded("maskwire-nano", 0.5)
    metrics.weights_changed("maskwire-nano", 4 * 2**20)
    metrics.device_found("cuda:0", lambda: (60 * 2**30, 80 * 2**30))
    metrics.readiness_changed("server", True)
    metrics.readiness_changed("worker", True)
