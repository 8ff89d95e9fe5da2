"""Puts the stores of files, of uploads and of what jobs carry together over one place."""

from __future__ import annotations

from dataclasses import dataclass

from ..domain.executor import BoundedExecutor
from ..domain.files.store import FileLimits, FileStore
from ..domain.files.uploads import UploadStore
from ..domain.jobs.content import JobContentStore
from ..domain.observer import Observer
from .file_store import ObjectFileStore
from .job_content import ObjectJobContentStore
from .objects import Objects, StoreLocation
from .shelf import Clock, Shelf, utc_now
from .upload_store import ObjectUploadStore


@dataclass(frozen=True, slots=True)
class OpenedStores:
    """The stores over one place: what is uploaded to one is found in the other."""

    files: FileStore
    uploads: UploadStore
    job_contents: JobContentStore


def open_stores(
    location: StoreLocation,
    limits: FileLimits,
    executor: BoundedExecutor,
    observer: Observer,
    *,
    now: Clock = utc_now,
) -> OpenedStores:
    """Make the stores; nothing is touched or made before the first call.

    Args:
        location: Where objects are kept.
        limits: What may be stored.
        executor: Computes digests.
        observer: Hears of the work.
        now: The clock, in UTC.
    """
    shelf = Shelf(Objects(location), limits, now)
    return OpenedStores(
        files=ObjectFileStore(shelf, executor, observer),
        uploads=ObjectUploadStore(shelf, observer),
        job_contents=ObjectJobContentStore(shelf.objects, shelf.usage, executor),
    )
