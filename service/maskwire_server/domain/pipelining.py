"""Running the stages of a long piece of work side by side, each a bounded number of steps ahead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Generic, TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class _Item(Generic[Value]):
    value: Value


@dataclass(frozen=True, slots=True)
class _End:
    error: Exception | None


async def ahead(
    source: AsyncGenerator[Value, None], most_waiting: int
) -> AsyncGenerator[Value, None]:
    """Yield what `source` yields, letting it run ahead in a task of its own.

    At most `most_waiting` values wait, and one more is in the source's hands. Closing this closes
    the source, at its next await at the latest.

    Args:
        source: Not used by anyone else.
        most_waiting: At least 1.
    """
    waiting: asyncio.Queue[_Item[Value] | _End] = asyncio.Queue(most_waiting)

    async def fill() -> None:
        error: Exception | None = None
        try:
            async with aclosing(source):
                async for value in source:
                    await waiting.put(_Item(value))
        except Exception as raised:  # raised again where the values are taken
            error = raised
        await waiting.put(_End(error))

    task = asyncio.create_task(fill())
    try:
        while isinstance(item := await waiting.get(), _Item):
            yield item.value
        if item.error is not None:
            raise item.error
    finally:
        task.cancel()
        await asyncio.wait([task])
