"""Memory that outlives a call, always within a budget of bytes.

`ByteBudgetCache` forgets the least recently used entries; `SingleFlightCache` adds that concurrent
calls for the same key share one computation.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from .observer import Observer

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class ByteBudgetCache(Generic[Key, Value]):
    """A least-recently-used map whose values' sizes sum to at most `budget_bytes`.

    Used from the event loop's thread only. A value larger than the whole budget is not kept.
    """

    def __init__(
        self, name: str, budget_bytes: int, size_of: Callable[[Value], int], observer: Observer
    ) -> None:
        self._name = name
        self._budget_bytes = budget_bytes
        self._size_of = size_of
        self._observer = observer
        self._entries: OrderedDict[Key, Value] = OrderedDict()
        self._size_bytes = 0

    def get(self, key: Key) -> Value | None:
        """Return the value for `key`, which becomes the most recently used, or None."""
        value = self._entries.get(key)
        self._observer.cache_looked_up(self._name, value is not None)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def put(self, key: Key, value: Value) -> None:
        """Keep `value` for `key`, forgetting the least recently used entries to stay in budget."""
        size = self._size_of(value)
        old = self._entries.pop(key, None)
        if old is not None:
            self._size_bytes -= self._size_of(old)
        if size <= self._budget_bytes:
            self._entries[key] = value
            self._size_bytes += size
            while self._size_bytes > self._budget_bytes:
                _, evicted = self._entries.popitem(last=False)
                self._size_bytes -= self._size_of(evicted)
        self._observer.cache_size_changed(self._name, self._size_bytes, len(self._entries))


@dataclass(slots=True)
class _Flight(Generic[Value]):
    task: asyncio.Task[Value]
    waiters: int = 0


class SingleFlightCache(Generic[Key, Value]):
    """A `ByteBudgetCache` in front of a computation that runs once per key at a time.

    The computation belongs to nobody: it goes on while any caller waits for it, and is cancelled
    when the last one has gone.
    """

    def __init__(self, cache: ByteBudgetCache[Key, Value]) -> None:
        self._cache = cache
        self._flights: dict[Key, _Flight[Value]] = {}

    def get(self, key: Key) -> Value | None:
        """Return the value for `key` if it is held."""
        return self._cache.get(key)

    def put(self, key: Key, value: Value) -> None:
        """Keep a value that was computed elsewhere."""
        self._cache.put(key, value)

    async def compute(self, key: Key, make: Callable[[], Awaitable[Value]]) -> Value:
        """Return what `make` returns, sharing a run for the same key that is under way."""
        flight = self._flights.get(key)
        if flight is None:
            flight = _Flight(asyncio.create_task(self._run(key, make)))
            self._flights[key] = flight
        flight.waiters += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiters -= 1
            if flight.waiters == 0 and not flight.task.done():
                flight.task.cancel()
                if self._flights.get(key) is flight:
                    del self._flights[key]

    async def _run(self, key: Key, make: Callable[[], Awaitable[Value]]) -> Value:
        task = asyncio.current_task()
        try:
            value = await make()
            self._cache.put(key, value)
            return value
        finally:
            flight = self._flights.get(key)
            if flight is not None and flight.task is task:
                del self._flights[key]
