"""File stores with limits that are small and a clock that tests turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from maskwire_server.domain.executor import BoundedExecutor
from maskwire_server.domain.files.service import FileService
from maskwire_server.domain.files.store import FileLimits, FileStore
from maskwire_server.domain.files.uploads import UploadStore
from maskwire_server.domain.jobs.content import JobContentStore
from maskwire_server.domain.segmentation import Caller
from maskwire_server.observability.metrics import Metrics
from maskwire_server.storage.objects import Objects, StoreLocation
from maskwire_server.storage.opening import open_stores

LIMITS = FileLimits(
    max_file_bytes=40 * 2**20,
    max_tenant_bytes=100 * 2**20,
    time_to_live=timedelta(hours=2),
    upload_time_to_live=timedelta(hours=1),
    max_uploads=2,
)

ALICE = Caller(tenant="alice", request_id="1")
BOB = Caller(tenant="bob", request_id="2")


class Clock:
    """The time, until it is turned forward."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def forward(self, by: timedelta) -> None:
        self._ahead += by


@dataclass(frozen=True)
class Stores:
    """The stores over one place, the place itself, and the service over them."""

    location: StoreLocation
    objects: Objects
    files: FileStore
    uploads: UploadStore
    job_contents: JobContentStore
    executor: BoundedExecutor
    metrics: Metrics
    clock: Clock

    def service(self, **changes: Any) -> FileService:
        idle = changes.pop("upload_idle", timedelta(seconds=30))
        limits = replace(LIMITS, **changes)
        return FileService(self.files, self.uploads, self.executor, limits, upload_idle=idle)


def folder_location(folder: Path) -> StoreLocation:
    """Return the location of a local folder."""
    return StoreLocation(url=None, folder=folder, options={})


@contextmanager
def opened(location: StoreLocation, **changes: Any) -> Iterator[Stores]:
    """Open the stores over a location; `changes` are other limits than `LIMITS`."""
    clock, metrics = Clock(), Metrics()
    executor = BoundedExecutor("files", 2, 64, metrics)
    try:
        stores = open_stores(location, replace(LIMITS, **changes), executor, metrics, now=clock)
        yield Stores(
            location=location,
            objects=stores.files._objects,  # type: ignore[attr-defined]  # a memory store is not shared
            files=stores.files,
            uploads=stores.uploads,
            job_contents=stores.job_contents,
            executor=executor,
            metrics=metrics,
            clock=clock,
        )
    finally:
        executor.close()


async def collect(chunks: Any) -> bytes:
    """Return all chunks in one."""
    return b"".join([chunk async for chunk in chunks])
