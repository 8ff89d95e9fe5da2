"""What jobs carry, as objects: `{tenant}/jobs/{job}/{key}`, beside the tenant's files.

They count in what a tenant has stored, so that requests of jobs cannot fill a disk that files may
not fill; the sweep of files leaves them alone, since they live as long as their jobs.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

from ..domain.errors import ErrorCode, MaskwireError
from ..domain.executor import BoundedExecutor
from ..domain.jobs.content import JobContentStore
from ..domain.jobs.job import ContentReference, JobKey
from . import layout
from .objects import Objects
from .usage import OBJECT_OVERHEAD_BYTES, TenantUsage

# A request to a remote store must end within half a minute; what is larger goes in several.
_LARGEST_SINGLE_PUT_BYTES = 32 * 2**20
_SLICE_BYTES = 8 * 2**20


class ObjectJobContentStore(JobContentStore):
    """Bytes of jobs as objects of the store that keeps files."""

    def __init__(self, objects: Objects, usage: TenantUsage, executor: BoundedExecutor) -> None:
        """Take the objects, what tenants have stored, and the executor that computes digests."""
        self._objects = objects
        self._usage = usage
        self._executor = executor

    async def put(self, job: JobKey, key: str, data: bytes) -> ContentReference:
        """Write bytes where none are; as the interface says."""
        digest = await self._digest(data)
        reference = ContentReference(key, len(data), digest)
        where = layout.job_content_key(job.tenant, job.job_id, key)
        if await self._exists(job, where):
            return reference
        counted = len(data) + OBJECT_OVERHEAD_BYTES
        await self._usage.require(job.tenant, counted)
        if len(data) <= _LARGEST_SINGLE_PUT_BYTES:
            is_written = await self._objects.put_new(where, data)
        else:
            # Not conditional, but nobody else writes other bytes there: the key of a request names
            # its digest, and that of a result the attempt, which one worker has.
            await self._objects.put_stream(where, _slices(data))
            is_written = True
        if is_written:
            await self._objects.flush(where)
            self._usage.add(job.tenant, counted)
        return reference

    async def get(self, job: JobKey, reference: ContentReference) -> bytes:
        """Return bytes; as the interface says."""
        where = layout.job_content_key(job.tenant, job.job_id, reference.key)
        data = await self._objects.get(where)
        if data is None:
            raise MaskwireError(ErrorCode.DATA_LOSS, f"{reference.key} of {job.name} is gone")
        if len(data) != reference.size_bytes or await self._digest(data) != reference.digest:
            raise MaskwireError(
                ErrorCode.DATA_LOSS, f"{reference.key} of {job.name} is not what was stored"
            )
        return data

    async def delete(self, job: JobKey) -> None:
        """Remove all bytes of a job; as the interface says."""
        found = [one async for one in self._objects.walk(_folder(job))]
        await self._objects.delete([one.key for one in found])
        freed = sum(one.size_bytes + OBJECT_OVERHEAD_BYTES for one in found)
        self._usage.add(job.tenant, -freed)

    async def _exists(self, job: JobKey, where: str) -> bool:
        return any([one.key == where async for one in self._objects.walk(_folder(job))])

    async def _digest(self, data: bytes) -> str:
        hashed = await self._executor.run(lambda: hashlib.sha256(data).hexdigest())
        return f"sha256:{hashed.value}"


def _folder(job: JobKey) -> str:
    return layout.job_folder(job.tenant, job.job_id)


async def _slices(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), _SLICE_BYTES):
        yield data[start : start + _SLICE_BYTES]
