"""How many bytes each tenant has stored, and the refusal beyond what it may have."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass

from ..domain.errors import MaskwireError
from ..domain.quotas import QuotaLimit, quota_exceeded
from .layout import tenant_folder
from .objects import Objects

OBJECT_OVERHEAD_BYTES = 2048
"""What every object counts beside its size, so that empty files are not free."""

FILE_OVERHEAD_BYTES = 3 * OBJECT_OVERHEAD_BYTES
"""What a file in one part counts beside its size."""

_FRESH_S = 60.0
_MAX_TENANTS = 4096


@dataclass(slots=True)
class _Count:
    size_bytes: int
    counted_s: float


class TenantUsage:
    """Counts what tenants have stored: by listing, and in between by what this process adds.

    Several servers on one store each see what the others stored within a minute.
    """

    def __init__(self, objects: Objects, max_tenant_bytes: int) -> None:
        self._objects = objects
        self._max_tenant_bytes = max_tenant_bytes
        self._counts: OrderedDict[str, _Count] = OrderedDict()

    async def available(self, tenant: str) -> int:
        """Return how many bytes more a tenant may store; negative where it has too many."""
        count = self._counts.get(tenant)
        if count is None or time.monotonic() - count.counted_s > _FRESH_S:
            count = _Count(0, time.monotonic())
            async for one in self._objects.walk(tenant_folder(tenant)):
                count.size_bytes += one.size_bytes + OBJECT_OVERHEAD_BYTES
            self._counts[tenant] = count
            while len(self._counts) > _MAX_TENANTS:
                self._counts.popitem(last=False)
        return self._max_tenant_bytes - count.size_bytes

    async def require(self, tenant: str, size_bytes: int) -> None:
        """Refuse what a tenant may not store any more.

        Raises:
            MaskwireError: `QUOTA_EXCEEDED`.
        """
        if size_bytes > await self.available(tenant):
            raise self.exceeded(tenant)

    def add(self, tenant: str, size_bytes: int) -> None:
        """Count what was stored, or what was removed where it is negative."""
        count = self._counts.get(tenant)
        if count is not None:
            count.size_bytes += size_bytes

    def exceeded(self, tenant: str) -> MaskwireError:
        """Make the error of a tenant that has stored what it may."""
        return quota_exceeded(
            QuotaLimit.STORED_BYTES,
            tenant,
            self._max_tenant_bytes,
            f"the tenant's stored files would be more than {QuotaLimit.STORED_BYTES} "
            f"({self._max_tenant_bytes}); delete some or wait until they expire",
        )
