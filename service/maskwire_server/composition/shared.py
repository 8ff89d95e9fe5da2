"""Builds what several services share: threads for pixels, images, the file store."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta

from ..domain.executor import BoundedExecutor
from ..domain.file_decoder import FileDecoders
from ..domain.files.sweeper import FileSweeper
from ..domain.image_access import ImageAccess
from ..domain.observer import Observer
from ..domain.picture_delivery import PictureMaker
from ..domain.remote_sources import RemoteSources
from ..settings import Settings, StorageSettings
from ..storage.objects import StoreLocation
from ..storage.opening import OpenedStores, open_stores
from .decoding import build_decoders
from .limits import file_limits, image_limits, picture_limits, pixel_threads
from .sources import build_sources

# Digests are computed on these: more threads than two outrun no disk and no network.
_FILE_THREADS = 2
_MAX_FILE_QUEUE = 1024


@dataclass(frozen=True, slots=True)
class SharedParts:
    """What services share.

    Attributes:
        pixels: Threads that decode and encode pictures.
        file_executor: Threads that compute digests of files.
        stores: Stored files and uploads.
        sources: Files that are fetched from elsewhere.
        decoders: Decode files.
        images: Images and embeddings.
        pictures: Makes and delivers pictures.
        observer: Hears of everything.
    """

    pixels: BoundedExecutor
    file_executor: BoundedExecutor
    stores: OpenedStores
    sources: RemoteSources
    decoders: FileDecoders
    images: ImageAccess
    pictures: PictureMaker
    observer: Observer


def build_shared(settings: Settings, observer: Observer, resources: AsyncExitStack) -> SharedParts:
    """Build the shared parts; what must be closed goes on `resources`.

    The file store touches nothing before its first file.
    """
    threads = pixel_threads(settings)
    decoders = build_decoders(settings, observer)
    resources.push_async_callback(asyncio.to_thread, decoders.close)  # when no thread decodes
    pixels = BoundedExecutor("pixels", threads, settings.limits.max_pixel_queue, observer)
    resources.push_async_callback(asyncio.to_thread, pixels.close)
    executor = BoundedExecutor("files", _FILE_THREADS, _MAX_FILE_QUEUE, observer)
    resources.push_async_callback(asyncio.to_thread, executor.close)
    stores = open_stores(
        store_location(settings.storage), file_limits(settings), executor, observer
    )
    sources = build_sources(settings, observer, resources)
    images = ImageAccess(
        pixels,
        image_limits(settings),
        observer,
        embedding_budget_bytes=settings.cache.embedding_bytes,
        image_budget_bytes=settings.cache.image_bytes,
        files=stores.files,
        sources=sources,
        decoders=decoders,
    )
    pictures = PictureMaker(pixels, stores.files, picture_limits(settings))
    return SharedParts(pixels, executor, stores, sources, decoders, images, pictures, observer)


def start_file_sweeper(settings: Settings, shared: SharedParts, resources: AsyncExitStack) -> None:
    """Begin to remove files that expired."""
    interval = timedelta(seconds=settings.storage.sweep_interval_s)
    sweeper = FileSweeper(shared.stores.files, interval)
    sweeper.start()
    resources.push_async_callback(sweeper.stop)


def store_location(storage: StorageSettings) -> StoreLocation:
    """Return where objects are kept, as the settings say."""
    secret = storage.secret_access_key
    options = {
        "endpoint": storage.endpoint,
        "region": storage.region,
        "access_key_id": storage.access_key_id,
        "secret_access_key": None if secret is None else secret.get_secret_value(),
    }
    given = {name: value for name, value in options.items() if value is not None}
    return StoreLocation(storage.url, storage.folder, given, allow_http=storage.allow_http)
