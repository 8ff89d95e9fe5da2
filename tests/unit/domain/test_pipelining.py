"""Stages that run a bounded number of steps ahead of one another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from maskwire_server.domain.pipelining import ahead


class Source:
    """Counts up, and tells how far it came and whether it was closed."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.made = 0
        self.is_closed = False
        self.stepped = asyncio.Event()
        self._count = count
        self._error = error

    async def values(self) -> AsyncGenerator[int, None]:
        try:
            for value in range(self._count):
                self.made += 1
                self.stepped.set()
                yield value
            if self._error is not None:
                raise self._error
        finally:
            self.is_closed = True


async def settled() -> None:
    """Let every task run until it waits."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_everything_comes_in_order():
    source = Source(20)
    assert [value async for value in ahead(source.values(), 3)] == list(range(20))
    assert source.is_closed


@pytest.mark.parametrize("most_waiting", [1, 4])
async def test_the_source_is_never_further_ahead_than_agreed(most_waiting):
    source = Source(20)
    async with aclosing(ahead(source.values(), most_waiting)) as values:
        taken = 0
        async for _ in values:
            taken += 1
            await settled()
            assert source.made == min(20, taken + most_waiting + 1)


async def test_an_error_comes_after_what_was_made_before_it():
    source = Source(3, ValueError("broken"))
    values = ahead(source.values(), 2)
    assert [await anext(values) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="broken"):
        await anext(values)


async def test_closing_closes_the_source():
    source = Source(20)
    values = ahead(source.values(), 1)
    assert await anext(values) == 0
    await settled()
    made = source.made
    await values.aclose()
    await settled()
    assert source.is_closed
    assert source.made == made


async def test_cancelling_closes_the_source():
    source = Source(20)
    began = asyncio.Event()

    async def consume() -> None:
        async with aclosing(ahead(source.values(), 1)) as values:
            async for _ in values:
                began.set()
                await asyncio.Event().wait()

    task = asyncio.create_task(consume())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.is_closed
