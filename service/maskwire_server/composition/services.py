"""Builds the domain's services and what they share: threads for pixels, images, the file store."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta

from ..domain.auto_segmentation.service import AutoSegmentationService
from ..domain.executor import BoundedExecutor
from ..domain.files.service import FileService
from ..domain.files.store import FileStore
from ..domain.files.sweeper import FileSweeper
from ..domain.image_access import ImageAccess
from ..domain.models import ModelRegistry
from ..domain.picture_delivery import PictureMaker
from ..domain.segmentation_service import SegmentationService
from ..domain.sessions.service import SessionService
from ..domain.video.service import VideoService
from ..observability.metrics import Metrics
from ..settings import Settings, StorageSettings
from ..storage.objects import StoreLocation
from ..storage.opening import open_stores
from ..transport.services import DomainServices
from .limits import (
    auto_segment_limits,
    file_limits,
    image_limits,
    picture_limits,
    session_limits,
    track_limits,
    video_limits,
)

# Digests are computed on these: more threads than two outrun no disk and no network.
_FILE_THREADS = 2
_MAX_FILE_QUEUE = 1024


@dataclass(frozen=True, slots=True)
class _Files:
    """The file store, for services that keep files, and the service over it."""

    store: FileStore
    service: FileService


@dataclass(frozen=True, slots=True)
class Services:
    """All domain services.

    Attributes:
        domain: What answers calls.
        sessions: The live sessions, which must be told when the server drains.
    """

    domain: DomainServices
    sessions: SessionService


def build_services(
    settings: Settings, models: ModelRegistry, metrics: Metrics, resources: AsyncExitStack
) -> Services:
    """Build everything that answers calls; what must be closed goes on `resources`."""
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
        videos=VideoService(
            models,
            pixels,
            metrics,
            video_limits(settings),
            track_limits(settings),
            max_streams=settings.video.max_streams,
            files=files.store,
        ),
    )
    return Services(domain, sessions)


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
