"""What waits to be processed: a bounded queue that pushes back or drops, and never loses count."""

from __future__ import annotations

import asyncio
from collections import deque

from ..observer import Observer
from .messages import (
    DroppedFrame,
    DropPolicy,
    DropReason,
    FrameCounts,
    NewFrame,
    NewPrompts,
    SessionRequest,
)


class FrameLedger:
    """Counts every frame of a session, and keeps which ones have no answer until they are told.

    Holds at most `capacity` untold frames: whoever adds must ask `is_full` first.
    """

    def __init__(self, capacity: int, observer: Observer) -> None:
        self._capacity = capacity
        self._observer = observer
        self._untold: list[DroppedFrame] = []
        self._received = self._answered = self._dropped = 0

    @property
    def counts(self) -> FrameCounts:
        """Frames so far."""
        return FrameCounts(self._received, self._answered, self._dropped)

    @property
    def is_full(self) -> bool:
        """Whether no further frame may go without an answer before the untold ones are told."""
        return len(self._untold) >= self._capacity

    @property
    def untold(self) -> int:
        """Frames without an answer that were not told yet."""
        return len(self._untold)

    def receive(self) -> None:
        """Count a frame that came in."""
        self._received += 1
        self._observer.session_frame("received")

    def answer(self) -> None:
        """Count a frame that has an answer of its own."""
        self._answered += 1
        self._observer.session_frame("answered")

    def drop(self, request: SessionRequest, reason: DropReason) -> None:
        """Count a frame that has none, to be told with the next answer."""
        assert isinstance(request.content, NewFrame)
        self._dropped += 1
        self._untold.append(DroppedFrame(request.sequence, request.content.frame_id, reason))
        self._observer.session_frame(f"dropped_{reason.value}")

    def tell(self) -> tuple[DroppedFrame, ...]:
        """Return the frames that have no answer and were not told yet, in their order."""
        told = tuple(sorted(self._untold, key=lambda frame: frame.sequence))
        self._untold.clear()
        return told


class Inbox:
    """Requests that wait, in their order, at most `max_requests` and `max_frames` of them.

    `put` waits while it is full, which stops the reading of the stream: flow control then pushes
    back on the client. With `LATEST_ONLY` a plain frame that waits makes room for a newer one,
    unless prompts that wait name it; frames with prompts are never dropped.
    """

    def __init__(
        self, policy: DropPolicy, ledger: FrameLedger, *, max_requests: int, max_frames: int
    ) -> None:
        self._policy = policy
        self._ledger = ledger
        self._max_requests = max_requests
        self._max_frames = max_frames
        self._waiting: deque[SessionRequest] = deque()
        self._frames = 0
        self._is_closed = False
        self._changed = asyncio.Condition()

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting

    async def put(self, request: SessionRequest) -> None:
        """Add a request; waits while there is no room for it."""
        is_frame = isinstance(request.content, NewFrame)
        async with self._changed:
            if is_frame:
                self._ledger.receive()
            while not self._has_room(is_frame=is_frame):
                await self._changed.wait()
            self._waiting.append(request)
            self._frames += is_frame
            self._changed.notify_all()

    async def put_first(self, request: SessionRequest) -> None:
        """Add a request of the server's own before all others."""
        async with self._changed:
            self._waiting.appendleft(request)
            self._changed.notify_all()

    async def get(self) -> SessionRequest | None:
        """Return the next request, waiting for one; None once it is closed and empty."""
        async with self._changed:
            while not self._waiting and not self._is_closed:
                await self._changed.wait()
            if not self._waiting:
                return None
            request = self._waiting.popleft()
            self._frames -= isinstance(request.content, NewFrame)
            self._changed.notify_all()
            return request

    async def close(self) -> None:
        """Say that no more requests come."""
        async with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    async def told(self) -> None:
        """Say that the ledger has room again."""
        async with self._changed:
            self._changed.notify_all()

    def _has_room(self, *, is_frame: bool) -> bool:
        if is_frame and self._policy is DropPolicy.LATEST_ONLY:
            self._drop_stale()
        if len(self._waiting) >= self._max_requests:
            return False
        return not is_frame or self._frames < self._max_frames

    def _drop_stale(self) -> None:
        named = {
            request.content.frame_id
            for request in self._waiting
            if isinstance(request.content, NewPrompts)
        }
        kept: deque[SessionRequest] = deque()
        for request in self._waiting:
            content = request.content
            if (
                not isinstance(content, NewFrame)
                or content.prompts
                or content.frame_id in named
                or self._ledger.is_full
            ):
                kept.append(request)
            else:
                self._frames -= 1
                self._ledger.drop(request, DropReason.STALE)
        self._waiting = kept
