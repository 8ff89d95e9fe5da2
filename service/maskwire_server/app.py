"""The composition root: reads the settings and builds everything; nothing else constructs parts.

`Application` is one running service: executors, models, domain services, the gRPC server and the
metrics endpoint. `run_server` is what `maskwire serve` calls; `local_server` runs the same thing on
a thread, for tools that want a service of their own.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from importlib import metadata

import structlog

from .domain.auto_segmentation import AutoSegmentLimits
from .domain.auto_segmentation_service import AutoSegmentationService
from .domain.engine import ModelDescription, ModelSpecification
from .domain.executor import BoundedExecutor
from .domain.file_service import FileService
from .domain.file_sweeper import FileSweeper
from .domain.files import FileLimits, FileStore
from .domain.image_access import ImageAccess
from .domain.images import ImageLimits
from .domain.models import ModelRegistry, ServedModel
from .domain.picture_delivery import PictureLimits, PictureMaker
from .domain.segmentation_service import SegmentationService
from .domain.sessions.service import SessionLimits, SessionService
from .domain.sessions.session import QueueLimits, SessionTimes
from .domain.video_reader import VideoLimits
from .domain.video_run import TrackLimits
from .domain.video_service import VideoService
from .engines import device
from .engines.checkpoints import specify
from .engines.registry import load_engine
from .observability.logging import configure_logging
from .observability.metrics import Metrics
from .observability.metrics_server import MetricsServer
from .settings import ModelSettings, Settings, StorageSettings
from .storage.objects import StoreLocation
from .storage.opening import open_stores
from .transport.server import GrpcServer, build_server
from .transport.services import DomainServices

_log = structlog.get_logger(__name__)


# Digests are computed on these: more threads than two outrun no disk and no network.
_FILE_THREADS = 2
_MAX_FILE_QUEUE = 1024


@dataclass(frozen=True, slots=True)
class _Files:
    """The file store, for services that keep files, and the service over it."""

    store: FileStore
    service: FileService


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
            OSError: A port is taken.
        """
        # Undone in reverse: the calls in flight first, what they need after them, metrics last.
        async with AsyncExitStack() as resources:
            metrics = Metrics()
            metrics_server = await _start_metrics(settings, metrics, resources)
            models = await _load_models(settings, metrics, resources)
            pixels = _pixel_executor(settings, metrics, resources)
            files = _files(settings, metrics, resources)
            images = _image_access(settings, pixels, files.store, metrics)
            pictures = PictureMaker(pixels, files.store, picture_limits(settings))
            sessions = SessionService(models, images, pixels, metrics, session_limits(settings))
            domain = DomainServices(
                segmentation=SegmentationService(
                    models,
                    images,
                    pixels,
                    pictures,
                    metrics,
                    max_prompts=settings.limits.max_prompts,
                    mask_budget_bytes=settings.limits.mask_bytes,
                ),
                models=models,
                auto_segmentation=AutoSegmentationService(
                    models, images, pixels, pictures, metrics, auto_segment_limits(settings)
                ),
                sessions=sessions,
                files=files.service,
                videos=_video_service(settings, models, pixels, metrics, files.store),
            )
            grpc_server = build_server(settings, domain, metrics)
            resources.push_async_callback(
                grpc_server.drain_and_stop,
                notice_s=settings.grpc.drain_notice_s,
                grace_s=settings.grpc.shutdown_grace_s,
            )
            resources.callback(sessions.begin_drain, settings.sessions.drain_grace_s)
            await grpc_server.start()
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


def file_limits(settings: Settings) -> FileLimits:
    """Return the limits on stored files that the settings say."""
    storage = settings.storage
    return FileLimits(
        max_file_bytes=storage.max_file_bytes,
        max_tenant_bytes=storage.max_tenant_bytes,
        time_to_live=timedelta(seconds=storage.time_to_live_s),
        upload_time_to_live=timedelta(seconds=storage.upload_time_to_live_s),
        max_uploads=storage.max_uploads,
    )


def auto_segment_limits(settings: Settings) -> AutoSegmentLimits:
    """Return the limits on automatic segmentation that the settings say."""
    return AutoSegmentLimits(
        max_points=settings.limits.max_grid_points,
        budget_bytes=settings.limits.auto_segment_bytes,
    )


def picture_limits(settings: Settings) -> PictureLimits:
    """Return the limits on the pictures of an answer that the settings say.

    A message must hold the masks too, so that pictures get three quarters of it.
    """
    most = settings.limits.max_picture_bytes
    return PictureLimits(
        inline_bytes=min(most, settings.grpc.max_message_bytes * 3 // 4), stored_bytes=most
    )


def image_limits(settings: Settings) -> ImageLimits:
    """Return the limits on images that the settings say."""
    return ImageLimits(
        max_bytes=settings.limits.max_image_bytes,
        max_pixels=settings.limits.max_image_pixels,
        max_side_px=settings.limits.max_image_side_px,
    )


def session_limits(settings: Settings) -> SessionLimits:
    """Return the limits on live sessions that the settings say."""
    chosen = settings.sessions
    return SessionLimits(
        max_sessions=chosen.max_sessions,
        max_sessions_per_tenant=chosen.max_sessions_per_tenant,
        max_objects=chosen.max_objects,
        max_held_frames=chosen.max_held_frames,
        max_prompts=settings.limits.max_prompts,
        max_seed_bytes=chosen.max_seed_bytes,
        times=SessionTimes(
            idle_timeout_s=chosen.idle_timeout_s,
            lease_s=chosen.lease_s,
            notice_s=chosen.lease_notice_s,
        ),
        queues=QueueLimits(
            max_requests=chosen.max_waiting_requests,
            max_frames=chosen.max_waiting_frames,
            max_responses=chosen.max_waiting_responses,
        ),
    )


def run_server(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends the process at once."""
    configure_logging(settings.logging, sys.stderr)
    asyncio.run(_serve_until_signal(settings))


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


async def _serve_until_signal(settings: Settings) -> None:
    application = await Application.start(settings)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        _log.info("draining", signal=number.name)
        loop.remove_signal_handler(number)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    await stopping.wait()
    await application.stop()


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


async def _load_models(
    settings: Settings, metrics: Metrics, resources: AsyncExitStack
) -> ModelRegistry:
    """Load every model on the executor that owns its device; models of one device share it.

    On a CPU, OpenMP keeps a team of threads for every thread that ever computed, and once the teams
    together outnumber the cores it stops spinning between their steps: loading on another thread
    than the executor's made a 4.5 ms decoder take 9.4 ms here.
    """
    if settings.models.cpu_threads:
        device.set_thread_count(settings.models.cpu_threads)
    executors: dict[str, BoundedExecutor] = {}
    models: list[ServedModel] = []
    try:
        for model in settings.models.serve:
            specification = _specification(model, settings)
            name = str(device.resolve(specification.device, specification.precision).device)
            if name not in executors:
                waiting = settings.limits.max_device_queue
                executors[name] = BoundedExecutor(name, 1, waiting, metrics)
            engine = (await executors[name].run(partial(load_engine, specification))).value
            resources.callback(engine.close)
            models.append(ServedModel(engine, executors[name], is_default=not models))
            _describe(engine.description, metrics)
    finally:  # undone first: no call may run on an engine that is closed
        for executor in executors.values():
            resources.push_async_callback(asyncio.to_thread, executor.close)
    return ModelRegistry(models)


def _pixel_executor(
    settings: Settings, metrics: Metrics, resources: AsyncExitStack
) -> BoundedExecutor:
    threads = settings.limits.pixel_threads or os.cpu_count() or 1
    pixels = BoundedExecutor("pixels", threads, settings.limits.max_pixel_queue, metrics)
    resources.push_async_callback(asyncio.to_thread, pixels.close)
    return pixels


def _files(settings: Settings, metrics: Metrics, resources: AsyncExitStack) -> _Files:
    """Make the file store, which touches nothing before its first file, and sweep it."""
    executor = BoundedExecutor("files", _FILE_THREADS, _MAX_FILE_QUEUE, metrics)
    resources.push_async_callback(asyncio.to_thread, executor.close)
    stores = open_stores(
        _store_location(settings.storage), file_limits(settings), executor, metrics
    )
    sweeper = FileSweeper(stores.files, timedelta(seconds=settings.storage.sweep_interval_s))
    sweeper.start()
    resources.push_async_callback(sweeper.stop)
    service = FileService(
        stores.files,
        stores.uploads,
        executor,
        file_limits(settings),
        upload_idle=timedelta(seconds=settings.storage.upload_idle_s),
    )
    return _Files(stores.files, service)


def _store_location(storage: StorageSettings) -> StoreLocation:
    secret = storage.secret_access_key
    options = {
        "endpoint": storage.endpoint,
        "region": storage.region,
        "access_key_id": storage.access_key_id,
        "secret_access_key": None if secret is None else secret.get_secret_value(),
    }
    given = {name: value for name, value in options.items() if value is not None}
    return StoreLocation(storage.url, storage.folder, given, allow_http=storage.allow_http)


def _image_access(
    settings: Settings, pixels: BoundedExecutor, files: FileStore, metrics: Metrics
) -> ImageAccess:
    return ImageAccess(
        pixels,
        image_limits(settings),
        metrics,
        embedding_budget_bytes=settings.cache.embedding_bytes,
        image_budget_bytes=settings.cache.image_bytes,
        files=files,
    )


def _video_service(
    settings: Settings,
    models: ModelRegistry,
    pixels: BoundedExecutor,
    metrics: Metrics,
    files: FileStore,
) -> VideoService:
    chosen = settings.video
    return VideoService(
        models,
        pixels,
        metrics,
        VideoLimits(
            max_bytes=chosen.max_video_bytes,
            max_pixels=chosen.max_frame_pixels,
            max_side_px=chosen.max_frame_side_px,
            max_frames=chosen.max_frames,
            max_duration_s=chosen.max_duration_s,
            reverse_buffer_bytes=chosen.reverse_buffer_bytes,
        ),
        TrackLimits(
            max_prompts=settings.limits.max_prompts,
            max_objects=chosen.max_objects,
            decode_ahead_frames=chosen.decode_ahead_frames,
            max_overlay_bytes=chosen.max_overlay_bytes,
            max_drawn_bytes=chosen.max_overlay_mask_bytes,
        ),
        max_streams=chosen.max_streams,
        files=files,
    )


def _describe(model: ModelDescription, metrics: Metrics) -> None:
    metrics.model_served(
        model.name, model.engine, model.device, model.precision, model.checkpoint_digest
    )


def _specification(model: ModelSettings, settings: Settings) -> ModelSpecification:
    return specify(
        model.name,
        settings.models.cache_folder.expanduser(),
        engine=model.engine,
        checkpoint=model.checkpoint,
        config=model.config,
        device=model.device or settings.models.device,
        precision=model.precision or settings.models.precision,
        sha256=model.sha256,
    )
