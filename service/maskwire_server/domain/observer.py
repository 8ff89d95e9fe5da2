"""What the domain reports about its work; `observability/` turns it into metrics and traces."""

from __future__ import annotations

from typing import Protocol

from .jobs.job import Job
from .tracing import TracedWork


class Observer(Protocol):
    """Receives measurements; every method is cheap, thread-safe and never raises."""

    def stage_finished(
        self, stage: str, model: str, seconds: float, ended_s: float | None = None
    ) -> None:
        """Report that `decode`, `encode`, `prompt`, `track` or `postprocess` took `seconds`.

        It ended at `ended_s` on `time.perf_counter`'s clock; None is about now.
        """

    def model_loading(self, model: str, *, is_loading: bool) -> None:
        """Report that loading a model's weights began or ended, well or not."""

    def model_loaded(self, model: str, seconds: float) -> None:
        """Report that a model's weights were loaded in `seconds`, at the start or again."""

    def weights_changed(self, model: str, size_bytes: int) -> None:
        """Report the bytes of a model's weights that are loaded now; 0 where they were dropped."""

    def queue_left(self, executor: str, seconds: float) -> None:
        """Report that work waited `seconds` for an executor, e.g. `cuda:0` or `pixels`."""

    def executor_ran(self, executor: str, seconds: float) -> None:
        """Report that an executor was busy for `seconds`, whether the work succeeded or not."""

    def queue_depth_changed(self, executor: str, waiting: int, running: int) -> None:
        """Report how much work waits for an executor and runs on it now."""

    def overload_refused(self, executor: str) -> None:
        """Report that an executor's full queue refused work."""

    def quota_store_failed(self) -> None:
        """Report that the store of a cluster's quotas failed, so that this server counts alone."""

    def cache_looked_up(self, cache: str, hit: bool) -> None:
        """Report a look-up in the `embedding` or `image` cache."""

    def cache_size_changed(self, cache: str, size_bytes: int, entries: int) -> None:
        """Report what a cache holds now."""

    def file_moved(self, direction: str, size_bytes: int) -> None:
        """Report that a file was stored (`put`) or that so much of one was asked for (`get`)."""

    def source_fetched(self, scheme: str, outcome: str, seconds: float, size_bytes: int) -> None:
        """Report that a fetch from a place that a caller named ended: `fetched`, or why not.

        `scheme` is one that is fetched (`https`, `s3`), `outcome` among
        `remote_sources.SOURCE_OUTCOMES`, `size_bytes` what came until then.
        """

    def files_swept(self, expired: int, leftovers: int, stored_bytes: int) -> None:
        """Report what a sweep of the file store removed, and the bytes that are stored now."""

    def job_attempt_ended(self, method: str, how: str, seconds: float) -> None:
        """Report that an attempt at a job ended after `seconds`: `succeeded`, `failed`, `died`,
        `stalled`, `cancelled`, `lost`, `handed_back` or `interrupted`.
        """

    def job_finished(self, method: str, state: str) -> None:
        """Report that a job is done: `succeeded`, `failed` or `cancelled`."""

    def job_child_ended(self, reason: str) -> None:
        """Report that a worker's child ended: an attempt's end that took it along, or `idle`."""

    def job_queue_changed(self, queue: str, waiting: int) -> None:
        """Report how many jobs wait in a queue now."""

    def job_workers_changed(self, queue: str, workers: int) -> None:
        """Report how many workers of this process take a queue's jobs now."""

    def job_waited(self, queue: str, seconds: float) -> None:
        """Report that a job waited `seconds` from its submission to its first attempt."""

    def webhook_tried(self, outcome: str) -> None:
        """Report an attempt to report a job's end: `delivered`, `refused` or `unreachable`; and
        `gave_up` beside it when it was the last.
        """

    def decoder_ended(self, reason: str) -> None:
        """Report that a decoding child ended: `recycled`, `tenant` (it made room for another
        tenant's), `crashed`, `memory`, `time` (too much) or `nonsense`, for an answer that makes no
        sense.
        """

    def batch_decoded(self, model: str, objects: int) -> None:
        """Report how many objects one decoder call served."""

    def sessions_limited(self, most: int) -> None:
        """Report the most live sessions that are taken at a time."""

    def sessions_changed(self, active: int, size_bytes: int) -> None:
        """Report how many live sessions there are now, and the memory that they hold together."""

    def session_ended(self, reason: str, seconds: float) -> None:
        """Report that a live session ended after `seconds`; few reasons, e.g. `ended`, `idle`."""

    def session_frame(self, outcome: str) -> None:
        """Report a frame of a live session: `received`, `answered`, or `dropped_` and why."""

    def videos_changed(self, active: int) -> None:
        """Report how many stored videos are in work now."""

    def frame_answered(self, model: str, seconds: float) -> None:
        """Report that a frame was answered `seconds` after it was received."""

    def trace_context(self) -> str:
        """Return what other processes call the trace of what runs now; empty where there is none.

        It is W3C's `traceparent`, kept with work that is done elsewhere.
        """

    def session_request(self, kind: str, sequence: int, received_s: float) -> TracedWork:
        """Return one request of a live session, received on `time.perf_counter`'s clock.

        While it is entered, reports belong to it and not to the stream, which may last for hours.
        """

    def job_attempt(self, job: Job) -> TracedWork:
        """Return an attempt at a job, which belongs to the trace of the job's submitter."""

    def work_elsewhere(self, trace_context: str) -> TracedWork:
        """Return this process's part of work that another one traces: reports belong to that."""
