"""Builds durable jobs: their backend and ledger, the service over them, and the workers."""

from __future__ import annotations

import sys
from collections.abc import Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from ..domain.errors import MaskwireError
from ..domain.jobs.backend import JobBackend
from ..domain.jobs.content import JobContentStore
from ..domain.jobs.ledger import JobLedger, JobRules
from ..domain.jobs.service import JobLimits, JobService
from ..domain.jobs.sweeper import JobSweeper
from ..domain.jobs.webhooks import WebhookDeliverer, WebhookRules
from ..domain.queued_calls import SEGMENTATION_QUEUE, CallAdmission
from ..domain.reconstruction.admission import ReconstructionAdmission
from ..domain.reconstruction.inputs import InputLimits, InputReader
from ..jobs.sqlite import SqliteJobBackend
from ..jobs.webhooks import HttpWebhookSender
from ..jobs.worker import JobWorkers, KeepingTimes, WorkerLimits, WorkerSetup
from ..settings import Settings, SettingsError
from ..transport.queued_call_runner import SegmentationServices
from ..transport.services import JobParts
from .quotas import tenant_quotas
from .shared import SharedParts

_log = structlog.get_logger(__name__)

_CHILD_ARGV = (sys.executable, "-m", "maskwire_server.composition.job_child")


@dataclass(frozen=True, slots=True)
class JobKeeping:
    """What keeps jobs, for servers and workers alike."""

    backend: JobBackend
    ledger: JobLedger
    contents: JobContentStore


async def build_jobs(
    settings: Settings,
    segmenting: SegmentationServices,
    shared: SharedParts,
    resources: AsyncExitStack,
) -> JobParts:
    """Build what answers about jobs, and start this process's own workers."""
    queues = _admitted_queues(settings)
    keeping = await open_jobs(settings, shared, resources, queues, must_answer=False)
    start_workers(settings, keeping, shared, resources)
    _start_webhooks(settings, keeping, shared, resources)
    chosen = settings.jobs
    service = JobService(
        keeping.ledger,
        keeping.backend,
        keeping.contents,
        shared.file_executor,
        shared.observer,
        JobLimits(
            max_request_bytes=chosen.max_request_bytes,
            max_watchers=chosen.max_watchers,
            takes_webhooks=settings.webhooks.secret is not None,
            quotas=tenant_quotas(settings),
        ),
        utc_now,
    )
    reconstruction = ReconstructionAdmission(
        input_reader(settings, shared),
        segmenting.segmentation,
        settings.reconstruction.object_models,
        settings.reconstruction.body_models,
    )
    admission = CallAdmission(segmenting.models, shared.images, reconstruction)
    return JobParts(service, admission)


async def open_jobs(
    settings: Settings,
    shared: SharedParts,
    resources: AsyncExitStack,
    queues: Collection[str],
    *,
    must_answer: bool,
) -> JobKeeping:
    """Connect to the backend, and begin to remove jobs that expired.

    Args:
        settings: Say which backend, and the rules.
        shared: What keeps the content of jobs.
        resources: What must be closed goes here.
        queues: What this process puts jobs into, or takes them from.
        must_answer: Whether a backend that does not answer is an error. Without one a server still
            serves all but jobs, and those too once it answers; a worker has nothing to do.

    Raises:
        MaskwireError: `JOBS_UNAVAILABLE`, where it must answer.
    """
    chosen = settings.jobs
    backend = make_job_backend(settings, queues)
    resources.push_async_callback(backend.close)
    try:
        await backend.open()
    except MaskwireError as error:
        if must_answer:
            raise
        _log.warning("jobs are not available yet", backend=chosen.backend, error=error.message)
    rules = JobRules(
        max_attempts=chosen.max_attempts,
        retry_delay=timedelta(seconds=chosen.retry_delay_s),
        retention=timedelta(seconds=chosen.retention_s),
        max_queued=chosen.max_queued,
    )
    contents = shared.stores.job_contents
    sweeper = JobSweeper(backend, contents, timedelta(seconds=chosen.sweep_interval_s), utc_now)
    sweeper.start()
    resources.push_async_callback(sweeper.stop)
    return JobKeeping(backend, JobLedger(backend, rules, utc_now, shared.observer), contents)


def start_workers(
    settings: Settings, keeping: JobKeeping, shared: SharedParts, resources: AsyncExitStack
) -> None:
    """Start the workers of this process, each of which starts its child with its first job."""
    chosen = settings.jobs
    limits = WorkerLimits(
        times=KeepingTimes(
            lease_s=chosen.lease_s,
            stall_timeout_s=chosen.stall_timeout_s,
            cancel_grace_s=chosen.cancel_grace_s,
        ),
        child_idle_s=chosen.child_idle_s,
        child_memory_bytes=chosen.child_memory_bytes,
        event_interval_s=chosen.event_interval_s,
        max_body_bytes=chosen.max_request_bytes,
    )
    setup = WorkerSetup(chosen.workers, chosen.queues, _CHILD_ARGV, limits, settings.to_json())
    workers = JobWorkers(keeping.ledger, keeping.contents, shared.observer, setup)
    workers.start()
    resources.push_async_callback(workers.stop, settings.grpc.shutdown_grace_s)


def input_reader(settings: Settings, shared: SharedParts) -> InputReader:
    """Return what reads requests for reconstruction."""
    limits = InputLimits(
        max_objects=settings.reconstruction.max_objects,
        max_geometry_bytes=settings.reconstruction.max_geometry_bytes,
    )
    return InputReader(
        shared.images,
        shared.stores.files,
        shared.pixels,
        limits,
        shared.sources,
        shared.decoders,
    )


def _start_webhooks(
    settings: Settings, keeping: JobKeeping, shared: SharedParts, resources: AsyncExitStack
) -> None:
    """Begin to report the ends of jobs, where there is a secret to sign the reports with."""
    chosen = settings.webhooks
    if chosen.secret is None:
        return
    try:
        sender = HttpWebhookSender(
            chosen.secret.get_secret_value(),
            timedelta(seconds=chosen.timeout_s),
            utc_now,
            ca_file=chosen.ca_file,
            allow_private_addresses=chosen.allow_private_addresses,
        )
    except ValueError as error:
        raise SettingsError(f"webhooks.secret: {error}") from error
    resources.push_async_callback(sender.close)
    rules = WebhookRules(
        max_attempts=chosen.max_attempts,
        first_delay=timedelta(seconds=chosen.first_delay_s),
        lease=timedelta(seconds=settings.jobs.lease_s),
    )
    reporter = WebhookDeliverer(keeping.backend, sender, rules, shared.observer, utc_now)
    reporter.start()
    resources.push_async_callback(reporter.stop)


def utc_now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def _admitted_queues(settings: Settings) -> Collection[str]:
    """Return where this server puts jobs: engines that reconstruct give their names to queues."""
    chosen = settings.reconstruction
    return {SEGMENTATION_QUEUE, *chosen.object_models, *chosen.body_models}


def make_job_backend(settings: Settings, queues: Collection[str] = ()) -> JobBackend:
    """Make the backend that the settings choose; it connects when it is opened.

    Args:
        settings: Say which.
        queues: Those that a cluster must know before the first job: autoscalers look at them.
    """
    chosen = settings.jobs
    lease = timedelta(seconds=chosen.lease_s)
    if chosen.backend == "sqlite":
        return SqliteJobBackend(chosen.database.expanduser(), lease)
    # An extra of its own: a machine without a cluster needs no NATS client.
    from ..jobs.nats import NatsJobBackend

    return NatsJobBackend(
        chosen.nats_url.split(","),
        lease,
        replicas=chosen.nats_replicas,
        prefix=chosen.nats_prefix,
        credentials=chosen.nats_credentials,
        queues=queues,
    )
