"""Rates that several servers count together in a real Redis; what happens when it is gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from maskwire_server.domain.quotas import CallAllowance, CallRate
from maskwire_server.observability.metrics import Metrics
from maskwire_server.quotas.shared_windows import SharedWindows
from maskwire_server.quotas.token_buckets import TokenBuckets
from tests.support.redis_process import RedisServer, redis_process, redis_program

TEN_A_MINUTE = CallAllowance(calls_per_minute=10, burst=10)
PATIENT = timedelta(seconds=20)
"""For a store that answers, on a machine that is busy."""
TIMEOUT = timedelta(seconds=3)
"""For one that does not; while it still answers, a machine's pause must not pass for silence."""
_FAILURES = "maskwire_quota_store_failures_total"


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_process(redis_program()) as server:
        yield server


class _Alone(CallRate):
    """Says that it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def take(self, tenant: str, allowance: CallAllowance) -> timedelta | None:
        self.asked += 1
        return None


@asynccontextmanager
async def _rate(
    url: str, alone: CallRate, metrics: Metrics, patience: timedelta = PATIENT
) -> AsyncIterator[SharedWindows]:
    rate = SharedWindows(url, patience, alone, metrics)
    try:
        yield rate
    finally:
        await rate.close()


async def _allowed(rate: CallRate, calls: int, tenant: str = "acme") -> int:
    return sum([await rate.take(tenant, TEN_A_MINUTE) is None for _ in range(calls)])


async def test_two_servers_count_one_tenant_together(redis: RedisServer) -> None:
    alone, metrics = _Alone(), Metrics()
    async with (
        _rate(redis.url, alone, metrics) as first,
        _rate(redis.url, alone, metrics) as second,
    ):
        assert await _allowed(first, 6) + await _allowed(second, 6) == 10
        assert await _allowed(first, 6) + await _allowed(second, 6) == 0
        assert await _allowed(second, 3, tenant="globex") == 3
        assert await _allowed(second, 3, tenant="") == 3
        pause = await first.take("acme", TEN_A_MINUTE)
    assert pause is not None
    assert timedelta() < pause <= timedelta(seconds=60)
    assert alone.asked == 0
    assert metrics.registry.get_sample_value(_FAILURES) == 0


async def test_calls_at_the_same_time_are_counted_once_each(redis: RedisServer) -> None:
    async with _rate(redis.url, _Alone(), Metrics()) as rate:
        await rate.take("warm", TEN_A_MINUTE)
        answers = await asyncio.gather(*(rate.take("acme", TEN_A_MINUTE) for _ in range(60)))
    assert sum(answer is None for answer in answers) == 10


async def test_a_refused_tenant_is_refused_without_the_store(redis: RedisServer) -> None:
    metrics = Metrics()
    async with _rate(redis.url, _Alone(), metrics) as rate:
        await _allowed(rate, 11)
        redis.kill()
        assert await _allowed(rate, 5) == 0
    assert metrics.registry.get_sample_value(_FAILURES) == 0


@pytest.mark.parametrize("how", ["frozen", "gone"])
async def test_a_store_that_does_not_answer_refuses_nobody_and_holds_up_nobody(
    redis: RedisServer, how: str
) -> None:
    metrics, buckets = Metrics(), TokenBuckets()
    async with _rate(redis.url, buckets, metrics, TIMEOUT) as rate:
        await rate.take("acme", TEN_A_MINUTE)
        if how == "frozen":
            redis.freeze()
        else:
            redis.kill()
        # The server counts on its own: its own limit holds.
        began = time.monotonic()
        assert await _allowed(rate, 12) == 10
        took_s = time.monotonic() - began
        # One call waited for the timeout; the others did not ask. (A hang would be far longer.)
        assert took_s < 20 * TIMEOUT.total_seconds()
        assert 1 <= (metrics.registry.get_sample_value(_FAILURES) or 0) < 12
        if how == "frozen":
            redis.thaw()
        else:
            redis.start()
        # It is asked again after a pause.
        while rate._is_failing:
            await rate.take("globex", TEN_A_MINUTE)
            await asyncio.sleep(0.05)
