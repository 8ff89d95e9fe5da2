"""The rate of calls on one server: a token bucket for each tenant, in memory.

Written here because the `limits` library, which counts for a cluster, has windows and no buckets; a
bucket is exact about when the next call may come.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from ..domain.quotas import CallAllowance, CallRate

_MAX_TENANTS = 4096


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_s: float


class TokenBuckets(CallRate):
    """Counts calls of one server; forgets the tenants that have called least recently."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    async def take(self, tenant: str, allowance: CallAllowance) -> timedelta | None:
        """See `CallRate`."""
        now_s, per_s = self._now_s(), allowance.calls_per_minute / 60
        bucket = self._buckets.get(tenant)
        if bucket is None:
            bucket = self._buckets[tenant] = _Bucket(allowance.burst, now_s)
            if len(self._buckets) > _MAX_TENANTS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(tenant)
        filled = bucket.tokens + (now_s - bucket.filled_s) * per_s
        bucket.tokens, bucket.filled_s = min(filled, allowance.burst), now_s
        if bucket.tokens < 1:
            return timedelta(seconds=(1 - bucket.tokens) / per_s)
        bucket.tokens -= 1
        return None
