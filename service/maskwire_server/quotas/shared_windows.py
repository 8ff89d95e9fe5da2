"""The rate of calls on all servers of a cluster, counted in a Redis or Valkey by `limits`.

`limits` has windows and no token buckets. The nearest to a bucket of B tokens that fills at R a
minute is a sliding window that admits B calls in the time that B tokens take: no more than R a
minute on the whole, no more than B at once. One round trip counts a call. The library's sliding
counter takes the calls of the window before as spread evenly over it, which is its one inexactness.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from datetime import timedelta

import structlog
from limits import RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from ..domain.observer import Observer
from ..domain.quotas import CallAllowance, CallRate

_log = structlog.get_logger(__name__)

_PREFIX = "maskwire"
_PAUSE_S = 1.0
"""How long the store is left alone after it failed."""
_LEAST_RETRY_S = 0.05
_MAX_REFUSALS = 4096
_MAX_CONNECTIONS = 32


class SharedWindows(CallRate):
    """Counts calls of a cluster; counts on its own while the store cannot be reached.

    A call never waits longer for the store than the timeout, and after a failure the store is left
    alone for a second. A tenant that was refused is refused without the store until it may call.
    """

    def __init__(self, url: str, timeout: timedelta, alone: CallRate, observer: Observer) -> None:
        """Take the store's address; nothing connects before the first call.

        Args:
            url: `redis://` or `rediss://`, with credentials where the store asks for some.
            timeout: Longest wait for the store.
            alone: Counts while the store cannot be reached.
            observer: Hears of failures.
        """
        self._timeout_s = timeout.total_seconds()
        self._alone = alone
        self._observer = observer
        self._storage = RedisStorage(
            f"async+{url}",
            implementation="redispy",
            key_prefix=_PREFIX,
            socket_timeout=self._timeout_s,
            socket_connect_timeout=self._timeout_s,
            max_connections=_MAX_CONNECTIONS,
        )
        # More connections than that would be an error; a call waits for one within its timeout.
        self._connections = asyncio.Semaphore(_MAX_CONNECTIONS)
        self._limiter = SlidingWindowCounterRateLimiter(self._storage)
        self._left_alone_until_s = 0.0
        self._is_failing = False
        self._refused_until_s: OrderedDict[str, float] = OrderedDict()

    async def take(self, tenant: str, allowance: CallAllowance) -> timedelta | None:
        """See `CallRate`."""
        now_s = time.monotonic()
        if (pause_s := self._refused_until_s.get(tenant, 0.0) - now_s) > 0:
            return timedelta(seconds=pause_s)
        if now_s < self._left_alone_until_s:
            return await self._alone.take(tenant, allowance)
        try:
            async with asyncio.timeout(self._timeout_s), self._connections:
                pause_s = await self._ask(tenant, allowance)
        # Whatever a client of a store may raise: a quota is no reason to refuse everybody.
        except Exception as error:
            self._failed(error)
            return await self._alone.take(tenant, allowance)
        if self._is_failing:
            self._is_failing = False
            _log.info("the quota store answers again")
        if not pause_s:
            return None
        self._refused_until_s[tenant] = time.monotonic() + pause_s
        self._refused_until_s.move_to_end(tenant)
        if len(self._refused_until_s) > _MAX_REFUSALS:
            self._refused_until_s.popitem(last=False)
        return timedelta(seconds=pause_s)

    async def close(self) -> None:
        """Close the connections to the store."""
        # The base class of bridges to Redis's clients leaves the client undeclared.
        await getattr(self._storage.bridge, "storage").aclose()  # noqa: B009

    async def _ask(self, tenant: str, allowance: CallAllowance) -> float:
        """Return 0 where the call is counted, else the seconds to the next one that will be."""
        window = _window(allowance)
        # The anonymous tenant's name is empty; no other's has a colon.
        if await self._limiter.hit(window, f"tenant:{tenant}"):
            return 0.0
        stats = await self._limiter.get_window_stats(window, f"tenant:{tenant}")
        return max(stats.reset_time - time.time(), _LEAST_RETRY_S)

    def _failed(self, error: Exception) -> None:
        self._left_alone_until_s = time.monotonic() + _PAUSE_S
        self._observer.quota_store_failed()
        if not self._is_failing:
            self._is_failing = True
            _log.warning(
                "the quota store does not answer; each server counts on its own",
                error=type(error).__name__,
            )


def _window(allowance: CallAllowance) -> RateLimitItemPerSecond:
    """Return the window for a bucket: whole seconds, never more calls than the rate has in them."""
    seconds = math.ceil(allowance.burst * 60 / allowance.calls_per_minute)
    calls = max(1, math.floor(seconds * allowance.calls_per_minute / 60))
    return RateLimitItemPerSecond(calls, seconds)
