"""How many unfinished jobs each tenant has, and the refusal of one too many."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from ..quotas import QuotaLimit, TenantQuotas, quota_exceeded
from .backend import JobBackend

_RETRY_AFTER = timedelta(seconds=5)


class UnfinishedJobs:
    """Has the backend count them, so that the limit is the cluster's and outlives servers.

    Where a tenant has a limit, its submissions to one server follow each other: so the count is
    exact there. Servers that take its last jobs at the same time may each take one.
    """

    def __init__(self, backend: JobBackend, quotas: TenantQuotas) -> None:
        self._backend = backend
        self._quotas = quotas
        self._submitting: weakref.WeakValueDictionary[str, asyncio.Lock] = (
            weakref.WeakValueDictionary()
        )

    @asynccontextmanager
    async def one_more(self, tenant: str) -> AsyncIterator[None]:
        """Enter to submit a job of a tenant.

        Raises:
            MaskwireError: `QUOTA_EXCEEDED` with `retry_after`; `JOBS_UNAVAILABLE`.
        """
        most = self._quotas.of(tenant).unfinished_jobs
        if most is None:
            yield
            return
        lock = self._submitting.get(tenant)
        if lock is None:
            lock = self._submitting[tenant] = asyncio.Lock()
        async with lock:
            if await self._backend.has_unfinished(tenant, most):
                raise quota_exceeded(
                    QuotaLimit.UNFINISHED_JOBS,
                    tenant,
                    most,
                    f"the tenant has its limit of {most} jobs that wait or run "
                    f"({QuotaLimit.UNFINISHED_JOBS})",
                    retry_after=_RETRY_AFTER,
                )
            yield
