"""The interface of the store for what jobs carry: requests and results, beside the records.

Records stay small; what may be megabytes lies here, below the job's own prefix, until the job is
deleted. Files for the caller (meshes, pictures) are stored files of the caller's tenant instead.
"""

from __future__ import annotations

import abc
import hashlib

from .job import ContentReference, JobKey


def payload_key(payload: bytes) -> str:
    """Return where a job's request lies: two different payloads never share a place."""
    return f"request-{hashlib.sha256(payload).hexdigest()[:32]}"


def result_key(attempt: int) -> str:
    """Return where the result of an attempt lies: no attempt overwrites another's."""
    return f"attempt-{attempt}/result"


class JobContentStore(abc.ABC):
    """Keeps bytes of jobs by job and key.

    Every method may raise `MaskwireError` with `STORAGE_UNAVAILABLE` when the store itself fails.
    """

    @abc.abstractmethod
    async def put(self, job: JobKey, key: str, data: bytes) -> ContentReference:
        """Write bytes where none are, durably; what is there already stays as it is.

        Returns:
            The reference of `data`, whose size and digest `get` checks.

        Raises:
            MaskwireError: `QUOTA_EXCEEDED` where the tenant has stored what it may.
        """

    @abc.abstractmethod
    async def get(self, job: JobKey, reference: ContentReference) -> bytes:
        """Return bytes.

        Raises:
            MaskwireError: `DATA_LOSS` where they are gone or are not those of the reference.
        """

    @abc.abstractmethod
    async def delete(self, job: JobKey) -> None:
        """Remove all bytes of a job."""
