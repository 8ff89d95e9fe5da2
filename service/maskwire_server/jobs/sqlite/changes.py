"""Who waits for a change of the database, and how they hear of one.

Changes of this process wake them at once. Those of other processes are looked for, by one task for
all who wait, and only while somebody does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager

from ...domain.errors import MaskwireError


class Changes:
    """Wakes those who wait for a topic; used on one event loop."""

    def __init__(self, version: Callable[[], Awaitable[object]], interval_s: float) -> None:
        """Prepare to look for changes.

        Args:
            version: Returns what differs after another process wrote.
            interval_s: Pause between two looks.
        """
        self._version = version
        self._interval_s = interval_s
        self._waiting: dict[Hashable, set[asyncio.Event]] = {}
        self._looking: asyncio.Task[None] | None = None

    @contextmanager
    def listen(self, topic: Hashable) -> Iterator[asyncio.Event]:
        """Give an event that is set whenever the topic may have changed."""
        changed = asyncio.Event()
        self._waiting.setdefault(topic, set()).add(changed)
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look())
        try:
            yield changed
        finally:
            others = self._waiting[topic]
            others.discard(changed)
            if not others:
                del self._waiting[topic]
            if not self._waiting and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    def tell(self, topic: Hashable) -> None:
        """Wake those who wait for a topic."""
        for changed in self._waiting.get(topic, ()):
            changed.set()

    def tell_all(self) -> None:
        """Wake everybody."""
        for topic in self._waiting:
            self.tell(topic)

    async def _look(self) -> None:
        """Wake everybody when another process wrote."""
        seen: object = None
        while True:
            try:
                version = await self._version()
            except MaskwireError:
                # Whoever waits finds the failure by asking again; the log has it from there.
                version = None
            if version is None or version != seen:
                seen = version
                self.tell_all()
            await asyncio.sleep(self._interval_s)
