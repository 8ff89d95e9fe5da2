"""What waits to be sent: a bounded queue with one end, good or bad."""

from __future__ import annotations

import asyncio
from collections import deque

from .messages import SessionResponse


class Outbox:
    """Responses on their way to the client, at most `capacity` of them.

    `put` waits while it is full: a client that does not read stops its own session, and only that.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._waiting: deque[SessionResponse] = deque()
        self._failure: BaseException | None = None
        self._is_closed = False
        self._changed = asyncio.Condition()
        self.last_put_s = asyncio.get_running_loop().time()
        """When something was last said, on the event loop's clock."""

    async def put(self, response: SessionResponse) -> None:
        """Add a response; waits while there is no room for it."""
        async with self._changed:
            while len(self._waiting) >= self._capacity:
                await self._changed.wait()
            self._add(response)

    async def offer(self, response: SessionResponse) -> None:
        """Add a response that may as well be left out, if there is room."""
        async with self._changed:
            if len(self._waiting) < self._capacity:
                self._add(response)

    async def close(self) -> None:
        """Say that no more responses come."""
        async with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    async def fail(self, error: BaseException) -> None:
        """End with an error once what waits is sent; the first one counts."""
        async with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()

    async def get(self) -> SessionResponse | None:
        """Return the next response, waiting for one; None after the last.

        Raises:
            BaseException: What `fail` was given, after the last.
        """
        async with self._changed:
            while not (self._waiting or self._is_closed or self._failure):
                await self._changed.wait()
            if self._waiting:
                response = self._waiting.popleft()
                self._changed.notify_all()
                return response
            if self._failure is not None:
                raise self._failure
            return None

    def _add(self, response: SessionResponse) -> None:
        self._waiting.append(response)
        self.last_put_s = asyncio.get_running_loop().time()
        self._changed.notify_all()
