"""The composition root: builds everything from the settings; nothing else constructs parts.

`Application` is one running service: executors, models, domain services, the gRPC server and the
metrics endpoint. `run_server` is what `maskwire serve` calls; `local_server` runs the same thing on
a thread, for tools that want a service of their own.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AsyncExitStack, contextmanager
from importlib import metadata
from types import FrameType
from typing import Any

import structlog

from .composition.access import build_access
from .composition.jobs import open_jobs, start_workers
from .composition.limits import device_door
from .composition.models import load_models
from .composition.quotas import build_call_quotas
from .composition.services import build_services
from .composition.shared import build_shared
from .composition.tracing import build_observing
from .observability.logging import configure_logging
from .observability.metrics import Metrics
from .observability.metrics_server import MetricsServer
from .settings import Settings
from .transport.health import HealthServer
from .transport.server import GrpcServer, build_server

_log = structlog.get_logger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_SWITCH_INTERVAL_S = 0.001
"""How long a thread that computes in Python keeps the event loop waiting for its turn.

With 0.5 ms instead of Python's 5 ms most of the slowest hundredths of refusals under load fell, one
from 36 to 16 ms, on a busy machine; 1 ms itself was not measured beside them.
"""

_GIVING_UP_S = 2.0
"""How long a start that was cancelled may take to let go of what it has."""


class Application:
    """One running service.

    Made by `start`, ended by `stop`; both are called on the same event loop.
    """

    def __init__(
        self,
        grpc_server: GrpcServer,
        metrics_server: MetricsServer | None,
        resources: AsyncExitStack,
    ) -> None:
        self._grpc_server = grpc_server
        self._metrics_server = metrics_server
        self._resources = resources

    @property
    def port(self) -> int:
        """Port that the gRPC server listens on."""
        return self._grpc_server.port

    @property
    def metrics_port(self) -> int | None:
        """Port of the metrics endpoint, or None where there is none."""
        return None if self._metrics_server is None else self._metrics_server.port

    @classmethod
    async def start(cls, settings: Settings) -> Application:
        """Load the models, then listen: a server that answers is ready.

        Raises:
            MaskwireError: `MODEL_UNAVAILABLE` where a model cannot be loaded.
            SettingsError: Keys or certificates cannot be read, or nobody or everybody could call.
            OSError: A port is taken.
        """
        # Undone in reverse: the calls in flight first, what they need after them, metrics last.
        async with AsyncExitStack() as resources:
            observing = build_observing(settings, "server", resources)
            metrics = observing.metrics
            metrics.readiness_changed("server", False)
            metrics_server = await _start_metrics(settings, metrics, resources)
            access = await build_access(settings, resources)
            quotas = build_call_quotas(settings, metrics, resources)
            models = await load_models(settings, metrics, resources)
            services = await build_services(settings, models, metrics, resources)
            grpc_server = build_server(
                settings,
                services.domain,
                metrics,
                access,
                quotas=quotas,
                device_door=device_door(settings, models, metrics),
                tracer=observing.tracer,
            )
            resources.push_async_callback(
                grpc_server.drain_and_stop,
                notice_s=settings.grpc.drain_notice_s,
                grace_s=settings.grpc.shutdown_grace_s,
            )
            resources.callback(services.sessions.begin_drain, settings.sessions.drain_grace_s)
            await grpc_server.start()
            metrics.readiness_changed("server", True)
            resources.callback(metrics.readiness_changed, "server", False)
            application = cls(grpc_server, metrics_server, resources.pop_all())
        _log.info(
            "serving",
            address=f"{settings.grpc.host}:{application.port}",
            metrics_port=application.metrics_port,
            models=[model.description.name for model in models.list()],
        )
        return application

    async def stop(self) -> None:
        """Drain: tell callers, let calls in flight finish within the grace, and free everything."""
        await self._resources.aclose()
        _log.info("stopped")


class WorkerApplication:
    """A process that only works on jobs: it serves nothing but its health, and loads no models.

    Made by `start`, ended by `stop`; both are called on the same event loop.
    """

    def __init__(
        self,
        metrics_server: MetricsServer | None,
        health_server: HealthServer | None,
        resources: AsyncExitStack,
    ) -> None:
        self._metrics_server = metrics_server
        self._health_server = health_server
        self._resources = resources

    @property
    def metrics_port(self) -> int | None:
        """Port of the metrics endpoint, or None where there is none."""
        return None if self._metrics_server is None else self._metrics_server.port

    @property
    def health_port(self) -> int | None:
        """Port of the health service, or None where there is none."""
        return None if self._health_server is None else self._health_server.port

    @classmethod
    async def start(cls, settings: Settings) -> WorkerApplication:
        """Connect to the job backend and begin to take jobs.

        Raises:
            MaskwireError: `JOBS_UNAVAILABLE`.
            OSError: The metrics port or the health port is taken.
        """
        async with AsyncExitStack() as resources:
            metrics = build_observing(settings, "worker", resources).metrics
            metrics.readiness_changed("worker", False)
            metrics_server = await _start_metrics(settings, metrics, resources)
            shared = build_shared(settings, metrics, resources)
            keeping = await open_jobs(
                settings, shared, resources, settings.jobs.queues, must_answer=True
            )
            health = await _start_health(settings, resources)
            start_workers(settings, keeping, shared, resources)
            if health is not None:
                resources.push_async_callback(health.begin_drain)
            metrics.readiness_changed("worker", True)
            resources.callback(metrics.readiness_changed, "worker", False)
            application = cls(metrics_server, health, resources.pop_all())
        _log.info(
            "working",
            backend=settings.jobs.backend,
            queues=settings.jobs.queues,
            workers=settings.jobs.workers,
            metrics_port=application.metrics_port,
            health_port=application.health_port,
        )
        return application

    async def stop(self) -> None:
        """Take no new job, let those in hand finish within the grace, and free everything."""
        await self._resources.aclose()
        _log.info("stopped")


def run_server(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends the process at once.

    So does one that comes before the service is ready: there is nothing to drain.
    """
    configure_logging(settings.logging, sys.stderr)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    asyncio.run(_run_until_signal(Application.start(settings)))


def run_worker(settings: Settings) -> None:
    """Work on jobs until SIGTERM or SIGINT, then finish; otherwise as `run_server`."""
    configure_logging(settings.logging, sys.stderr)
    asyncio.run(_run_until_signal(WorkerApplication.start(settings)))


@contextmanager
def local_server(settings: Settings) -> Iterator[str]:
    """Run the service on a thread of this process and yield its address, `127.0.0.1:PORT`.

    Raises:
        MaskwireError: As `Application.start`.
    """
    started: Future[tuple[Application, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        try:
            application = await Application.start(settings)
        except BaseException as error:
            started.set_exception(error)
            return
        ending = asyncio.Event()
        started.set_result((application, asyncio.get_running_loop(), ending))
        await ending.wait()
        await application.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="local-server")
    thread.start()
    try:
        application, loop, ending = started.result()
    except BaseException:
        thread.join()
        raise
    try:
        yield f"127.0.0.1:{application.port}"
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join()


async def _run_until_signal(
    starting: Coroutine[None, None, Application | WorkerApplication],
) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        _log.info("draining", signal=number.name)
        for one in _SIGNALS:
            loop.remove_signal_handler(one)
            signal.signal(one, _end_at_once)
        stopping.set()

    # Before the start, which takes minutes where models are large: process 1 of a container has no
    # default way to end at a signal.
    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    start = asyncio.create_task(starting)
    told = asyncio.create_task(stopping.wait())
    await asyncio.wait((start, told), return_when=asyncio.FIRST_COMPLETED)
    if not start.done():
        await _give_up(start)
        if start.cancelled():
            return
    application = start.result()
    # What is loaded by now stays: models that make room for others drop their weights alone.
    # Python's full collections would look through it all again and again and hold up every call
    # meanwhile, 270 to 290 ms under load on two busy cores, which are 7 ms without it.
    gc.collect()
    gc.freeze()
    await told
    await application.stop()


def _end_at_once(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)


async def _give_up(start: asyncio.Task[Any]) -> None:
    """Cancel a start; end the process where that takes long."""
    start.cancel()
    await asyncio.wait((start,), timeout=_GIVING_UP_S)
    if not start.done():
        # A model's load cannot be interrupted, and threads are waited for even at exit. Nobody was
        # served, and what a `kill -9` at this point leaves behind is put right elsewhere.
        _log.info("stopped before it was ready")
        logging.shutdown()
        os._exit(0)


async def _start_metrics(
    settings: Settings, metrics: Metrics, resources: AsyncExitStack
) -> MetricsServer | None:
    metrics.version_known(metadata.version("maskwire"))
    if not settings.metrics.enabled:
        return None
    server = MetricsServer(metrics, settings.metrics.host, settings.metrics.port)
    server.start()
    resources.push_async_callback(asyncio.to_thread, server.stop)
    return server


async def _start_health(settings: Settings, resources: AsyncExitStack) -> HealthServer | None:
    if settings.jobs.health_port is None:
        return None
    server = HealthServer(settings.grpc.host, settings.jobs.health_port)
    await server.start()
    resources.push_async_callback(server.stop)
    return server
