"""Token buckets on a clock that the tests turn."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from maskwire_server.domain.quotas import CallAllowance
from maskwire_server.quotas.token_buckets import TokenBuckets


class _Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


async def test_a_full_bucket_is_a_burst_and_then_the_rate() -> None:
    clock = _Clock()
    buckets = TokenBuckets(clock)
    allowance = CallAllowance(calls_per_minute=60, burst=3)
    assert [await buckets.take("acme", allowance) for _ in range(3)] == [None] * 3
    assert await buckets.take("acme", allowance) == timedelta(seconds=1)
    clock.now_s += 0.25
    assert await buckets.take("acme", allowance) == timedelta(seconds=0.75)
    clock.now_s += 0.75
    assert await buckets.take("acme", allowance) is None
    assert await buckets.take("acme", allowance) == timedelta(seconds=1)


async def test_tenants_have_buckets_of_their_own() -> None:
    buckets = TokenBuckets(_Clock())
    allowance = CallAllowance(60, 1)
    assert await buckets.take("acme", allowance) is None
    assert await buckets.take("globex", allowance) is None
    assert await buckets.take("acme", allowance) is not None


async def test_a_bucket_never_holds_more_than_its_burst() -> None:
    clock = _Clock()
    buckets = TokenBuckets(clock)
    allowance = CallAllowance(6000, 2)
    await buckets.take("acme", allowance)
    clock.now_s += 3600
    taken = [await buckets.take("acme", allowance) for _ in range(3)]
    assert [pause is None for pause in taken] == [True, True, False]


async def test_a_limit_that_was_lowered_holds_at_once() -> None:
    buckets = TokenBuckets(_Clock())
    await buckets.take("acme", CallAllowance(600, 100))
    small = CallAllowance(60, 1)
    assert await buckets.take("acme", small) is None
    assert await buckets.take("acme", small) is not None


async def test_the_memory_for_tenants_is_bounded() -> None:
    buckets = TokenBuckets(_Clock())
    for index in range(10_000):
        await buckets.take(f"tenant-{index}", CallAllowance(60, 1))
    assert len(buckets._buckets) <= 4096


@given(
    per_minute=st.integers(1, 6000),
    burst=st.integers(1, 50),
    pauses=st.lists(st.floats(0, 5), max_size=80),
)
async def test_no_interval_has_more_than_the_burst_and_the_rate(
    per_minute: int, burst: int, pauses: list[float]
) -> None:
    clock = _Clock()
    buckets = TokenBuckets(clock)
    allowance = CallAllowance(per_minute, burst)
    allowed: list[float] = []
    for pause in pauses:
        clock.now_s += pause
        if await buckets.take("acme", allowance) is None:
            allowed.append(clock.now_s)
    for first in range(len(allowed)):
        for last in range(first, len(allowed)):
            seconds = allowed[last] - allowed[first]
            assert last - first + 1 <= burst + seconds * per_minute / 60 + 1e-6
