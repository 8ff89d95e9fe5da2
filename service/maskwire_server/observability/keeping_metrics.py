"""Metrics of what outlives a call: stored files, jobs, their workers, reports of their end."""

from __future__ import annotations

import time
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

# From a small object (a second) to hours of video.
_ATTEMPT_BUCKETS = (
    *(0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
    *(1800.0, 3600.0, 4 * 3600.0),
)
# From a job that is taken at once to one that waited for a night's batch.
_WAIT_BUCKETS = (
    *(0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0),
    *(1800.0, 3600.0, 4 * 3600.0, 12 * 3600.0),
)
# From a picture in the next rack to a video at the other end of the world.
_FETCH_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class KeepingMetrics:
    """The part of `Metrics` about files and jobs.

    Attributes:
        registry: What the metrics endpoint serves.
    """

    registry: CollectorRegistry

    def _make_keeping_metrics(self) -> None:
        self._make_file_metrics()
        self._make_source_metrics()
        self._make_job_metrics()
        self._make_queue_metrics()

    def _make_file_metrics(self) -> None:
        counter = partial(Counter, registry=self.registry)
        self._files = counter(
            "maskwire_files", "Files stored and read: put or get.", ("direction",)
        )
        self._file_bytes = counter(
            "maskwire_file_bytes", "Bytes of files stored and read: put or get.", ("direction",)
        )
        self._swept = counter(
            "maskwire_files_swept",
            "What sweeps removed: files that expired, leftovers of uploads and crashes.",
            ("reason",),
        )
        self._stored_bytes = Gauge(
            "maskwire_stored_bytes",
            "Bytes in the file store at the last sweep, of all tenants.",
            registry=self.registry,
        )
        self._last_sweep = Gauge(
            "maskwire_files_last_sweep_timestamp_seconds",
            "When the file store was last swept to the end; 0 before the first time.",
            registry=self.registry,
        )

    def _make_source_metrics(self) -> None:
        self._fetches = Histogram(
            "maskwire_source_fetch_seconds",
            "How long fetches from places that callers named took, by scheme and how they ended.",
            ("scheme", "outcome"),
            buckets=_FETCH_BUCKETS,
            registry=self.registry,
        )
        self._fetched_bytes = Counter(
            "maskwire_source_bytes",
            "Bytes that were fetched from places that callers named, by scheme.",
            ("scheme",),
            registry=self.registry,
        )

    def _make_job_metrics(self) -> None:
        counter = partial(Counter, registry=self.registry)
        self._job_attempts = counter(
            "maskwire_job_attempts", "Attempts at jobs, by how they ended.", ("method", "outcome")
        )
        self._job_attempt_time = Histogram(
            "maskwire_job_attempt_seconds",
            "How long attempts at jobs took.",
            ("method",),
            buckets=_ATTEMPT_BUCKETS,
            registry=self.registry,
        )
        self._jobs_finished = counter(
            "maskwire_jobs_finished", "Jobs that are done, by state.", ("method", "state")
        )
        self._job_children = counter(
            "maskwire_job_child_restarts",
            "Child processes of workers that ended, by reason; the next job starts another.",
            ("reason",),
        )
        self._webhooks = counter(
            "maskwire_webhooks",
            "Attempts to report a job's end (delivered, refused, unreachable); reports given up.",
            ("outcome",),
        )
        # From 0: the increase of a series that begins at 1 goes unseen.
        for reason in ("died", "stalled"):
            self._job_children.labels(reason)
        for outcome in ("delivered", "refused", "unreachable", "gave_up"):
            self._webhooks.labels(outcome)

    def _make_queue_metrics(self) -> None:
        gauge = partial(Gauge, registry=self.registry)
        self._job_queue_depth = gauge(
            "maskwire_job_queue_depth", "Jobs that wait in a queue, of all servers.", ("queue",)
        )
        self._job_workers = gauge(
            "maskwire_job_workers", "Workers of this process that take a queue's jobs.", ("queue",)
        )
        self._job_wait = Histogram(
            "maskwire_job_wait_seconds",
            "Time from a job's submission to its first attempt.",
            ("queue",),
            buckets=_WAIT_BUCKETS,
            registry=self.registry,
        )

    def file_moved(self, direction: str, size_bytes: int) -> None:
        """Count a file that was stored or read."""
        self._files.labels(direction).inc()
        self._file_bytes.labels(direction).inc(size_bytes)

    def source_fetched(self, scheme: str, outcome: str, seconds: float, size_bytes: int) -> None:
        """Record a fetch that ended."""
        self._fetches.labels(scheme, outcome).observe(seconds)
        self._fetched_bytes.labels(scheme).inc(size_bytes)

    def files_swept(self, expired: int, leftovers: int, stored_bytes: int) -> None:
        """Count what a sweep removed, and record what is left."""
        self._swept.labels("expired").inc(expired)
        self._swept.labels("leftover").inc(leftovers)
        self._stored_bytes.set(stored_bytes)
        self._last_sweep.set(time.time())

    def job_attempt_ended(self, method: str, how: str, seconds: float) -> None:
        """Count an attempt and record how long it took."""
        self._job_attempts.labels(method, how).inc()
        self._job_attempt_time.labels(method).observe(seconds)

    def job_finished(self, method: str, state: str) -> None:
        """Count a job that is done."""
        self._jobs_finished.labels(method, state).inc()

    def job_child_ended(self, reason: str) -> None:
        """Count a child process that ended."""
        self._job_children.labels(reason).inc()

    def job_queue_changed(self, queue: str, waiting: int) -> None:
        """Record how many jobs wait."""
        self._job_queue_depth.labels(queue).set(waiting)

    def job_workers_changed(self, queue: str, workers: int) -> None:
        """Record how many workers of this process take a queue's jobs."""
        self._job_workers.labels(queue).set(workers)

    def job_waited(self, queue: str, seconds: float) -> None:
        """Record how long a job waited."""
        self._job_wait.labels(queue).observe(seconds)

    def webhook_tried(self, outcome: str) -> None:
        """Count an attempt to report a job's end."""
        self._webhooks.labels(outcome).inc()
