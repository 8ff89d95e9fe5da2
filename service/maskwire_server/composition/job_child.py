"""The child process of a job worker: builds what runs queued calls, and serves its worker.

Started by a worker as `python -m maskwire_server.composition.job_child`; the settings come over the
connection, so that secrets appear in no argument and no environment.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

from ..domain.executor import BoundedExecutor
from ..domain.jobs.calls import CallRunner, JobProgress, JobTask
from ..domain.reconstruction.engine import ReconstructionEngine
from ..domain.reconstruction.run import ReconstructionRunner
from ..engines.reconstruction_registry import load_reconstruction_engine
from ..jobs.worker import connection_of, serve_child
from ..observability.logging import configure_logging
from ..observability.metrics import Metrics
from ..settings import Settings
from ..transport.queued_call_runner import QueuedCallRunner, SegmentationServices
from .jobs import input_reader
from .reconstruction import reconstruction_specification
from .services import segmentation_services
from .shared import SharedParts, build_shared
from .tracing import build_observing


class _LoadedEngines:
    """Reconstruction engines by name, each loaded at its first use."""

    def __init__(self, settings: Settings, resources: AsyncExitStack) -> None:
        self._settings = settings
        self._resources = resources
        self._engines: dict[str, ReconstructionEngine] = {}

    def load(self, name: str) -> ReconstructionEngine:
        """Return an engine; blocks while it loads.

        Raises:
            MaskwireError: `MODEL_UNAVAILABLE`.
        """
        if name not in self._engines:
            engine = load_reconstruction_engine(reconstruction_specification(self._settings, name))
            self._resources.callback(engine.close)
            self._engines[name] = engine
        return self._engines[name]


class _LoadedSegmentation:
    """The segmentation services, whose models are loaded with the first call that needs them."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        shared: SharedParts,
        resources: AsyncExitStack,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._shared = shared
        self._resources = resources
        self._services: SegmentationServices | None = None

    async def load(self) -> SegmentationServices:
        """Return the services.

        Raises:
            MaskwireError: `MODEL_UNAVAILABLE`.
        """
        if self._services is None:
            # Brings torch, which reconstruction by inflate does without: 3 s and 400 MB less.
            from .models import load_models

            models = await load_models(self._settings, self._metrics, self._resources)
            self._services = segmentation_services(self._settings, models, self._shared)
        return self._services


class _TracedRunner(CallRunner):
    """Runs calls so that what they report belongs to the attempt, which the worker traces."""

    def __init__(self, runner: CallRunner, metrics: Metrics) -> None:
        self._runner = runner
        self._metrics = metrics

    async def run(self, task: JobTask, progress: JobProgress) -> bytes:
        """Run a call; as the interface says."""
        with self._metrics.work_elsewhere(task.trace_context):
            return await self._runner.run(task, progress)


@asynccontextmanager
async def make_runner(configuration: bytes) -> AsyncIterator[CallRunner]:
    """Build what runs queued calls, from the settings of the worker."""
    settings = Settings.from_json(configuration)
    configure_logging(settings.logging, sys.stderr)
    async with AsyncExitStack() as resources:
        metrics = build_observing(settings, "worker", resources).metrics
        shared = build_shared(settings, metrics, resources)
        # One thread: engines are used one call at a time.
        device = BoundedExecutor("reconstruction", 1, settings.limits.max_device_queue, metrics)
        resources.push_async_callback(asyncio.to_thread, device.close)
        retention = timedelta(seconds=settings.jobs.retention_s)
        reconstruction = ReconstructionRunner(
            input_reader(settings, shared),
            _LoadedEngines(settings, resources).load,
            device,
            shared.stores.files,
            retention,
        )
        runner = QueuedCallRunner(
            _LoadedSegmentation(settings, metrics, shared, resources).load,
            reconstruction,
            shared.stores.files,
            shared.file_executor,
            retention,
        )
        yield _TracedRunner(runner, metrics)


def main() -> None:
    """Serve the worker that started this process."""
    serve_child(connection_of(sys.argv), make_runner)


if __name__ == "__main__":
    main()
