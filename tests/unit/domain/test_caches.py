"""The byte-budget cache against a plain model, and the sharing of computations."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwire_server.domain.caches import ByteBudgetCache, SingleFlightCache
from maskwire_server.observability.metrics import Metrics

BUDGET = 10


def _cache(metrics: Metrics | None = None) -> ByteBudgetCache[str, bytes]:
    return ByteBudgetCache("test", BUDGET, len, metrics or Metrics())


_operations = st.lists(
    st.one_of(
        st.tuples(st.just("get"), st.sampled_from("abcde"), st.just(0)),
        st.tuples(st.just("put"), st.sampled_from("abcde"), st.integers(0, BUDGET + 3)),
    ),
    max_size=40,
)


@given(_operations)
def test_behaves_as_a_least_recently_used_map_within_its_budget(
    operations: list[tuple[str, str, int]],
) -> None:
    metrics = Metrics()
    value = partial(metrics.registry.get_sample_value, labels={"cache": "test"})
    cache = _cache(metrics)
    model: OrderedDict[str, bytes] = OrderedDict()
    for operation, key, size in operations:
        if operation == "get":
            assert cache.get(key) == model.get(key)
            if key in model:
                model.move_to_end(key)
            continue
        cache.put(key, bytes(size))
        model.pop(key, None)
        if size <= BUDGET:
            model[key] = bytes(size)
            while sum(map(len, model.values())) > BUDGET:
                model.popitem(last=False)
        assert value("maskwire_cache_bytes") == sum(map(len, model.values()))
        assert value("maskwire_cache_entries") == len(model)


class _Computation:
    def __init__(self) -> None:
        self.runs = 0
        self.release = asyncio.Event()
        self.cancelled = False

    async def __call__(self) -> bytes:
        self.runs += 1
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return b"value"


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_concurrent_calls_share_one_computation() -> None:
    cache = SingleFlightCache(_cache())
    computation = _Computation()
    calls = [asyncio.create_task(cache.compute("key", computation)) for _ in range(8)]
    await _settle()
    computation.release.set()
    assert await asyncio.gather(*calls) == [b"value"] * 8
    assert computation.runs == 1
    assert cache.get("key") == b"value"


async def test_computation_outlives_the_caller_that_started_it() -> None:
    cache = SingleFlightCache(_cache())
    computation = _Computation()
    first = asyncio.create_task(cache.compute("key", computation))
    second = asyncio.create_task(cache.compute("key", computation))
    await _settle()
    first.cancel()
    await _settle()
    assert not computation.cancelled
    computation.release.set()
    assert await second == b"value"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_computation_ends_with_its_last_caller_and_can_start_again() -> None:
    cache = SingleFlightCache(_cache())
    computation = _Computation()
    only = asyncio.create_task(cache.compute("key", computation))
    await _settle()
    only.cancel()
    await _settle()
    assert computation.cancelled
    computation.release.set()
    assert await cache.compute("key", computation) == b"value"
    assert computation.runs == 2


async def test_failure_reaches_every_caller_and_is_not_kept() -> None:
    cache = SingleFlightCache(_cache())
    release = asyncio.Event()

    async def fail() -> bytes:
        await release.wait()
        raise ValueError("broken")

    calls = [asyncio.create_task(cache.compute("key", fail)) for _ in range(3)]
    await _settle()
    release.set()
    for call in calls:
        with pytest.raises(ValueError, match="broken"):
            await call
    assert cache.get("key") is None

    async def succeed() -> bytes:
        return b"now"

    assert await cache.compute("key", succeed) == b"now"
