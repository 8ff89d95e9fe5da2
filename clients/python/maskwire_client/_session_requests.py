"""Requests of a session on their way: what is still to be sent, and what is still unanswered."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

from maskwire.v1 import realtime_pb2

from . import errors
from .errors import MaskwireError
from .sessions import DroppedFrame, FrameResult

OUTBOX_CAPACITY = 4
"""Requests that may wait for the connection, before senders wait: it pushes back as it must."""


class Waiter(Protocol):
    """What `concurrent.futures.Future` and `asyncio.Future` have in common."""

    def done(self) -> bool:
        """Whether it has its result, or nobody waits any more."""

    def set_result(self, result: Any, /) -> None:
        """Give it its result."""

    def set_exception(self, exception: BaseException, /) -> None:
        """Let the waiting call raise."""


class AnswerQueue:
    """Answers of frames that nobody waits for by name, for one collector.

    At most `window` of its frames are sent and not collected, so that the reader of the connection
    never has to wait for the collector.

    Raises:
        ValueError: `window` is less than 1.
    """

    def __init__(self, window: int) -> None:
        if window < 1:
            raise ValueError(f"window must be at least 1, not {window}")
        self.in_flight = 0
        self.answers: deque[FrameResult | MaskwireError] = deque()
        self._window = window

    @property
    def has_room(self) -> bool:
        """Whether another frame may be sent."""
        return self.in_flight + len(self.answers) < self._window


@dataclass(slots=True, eq=False)
class Pending:
    """A request that has no answer yet.

    Attributes:
        request: The message; None once it is of no more use.
        sequence: Its number.
        started_s: When it was handed in, on the session's clock.
        frame_id: Number of the frame at its source; None where it carries none.
        waiter: The call that waits for the answer.
        queue: Where the answer goes when no call waits for it.
        is_sent: Whether it was handed to a connection.
        is_counted: Whether it is a frame that is counted as sent, be it sent once or again.
        is_open: Whether the server may still be working on it.
    """

    request: realtime_pb2.RunSessionRequest | None
    sequence: int
    started_s: float
    frame_id: int | None = None
    waiter: Waiter | None = None
    queue: AnswerQueue | None = None
    is_sent: bool = False
    is_counted: bool = False
    is_open: bool = True

    @property
    def is_frame(self) -> bool:
        """Whether it carries a frame."""
        return self.frame_id is not None

    def release(self) -> None:
        """Note that the server is done with it, whatever came of it."""
        self.request = None
        if self.is_open and self.queue is not None:
            self.queue.in_flight -= 1
        self.is_open = False

    def succeed(self, result: object) -> None:
        """Hand the answer to whom it concerns."""
        if self.waiter is not None:
            if not self.waiter.done():
                self.waiter.set_result(result)
        elif self.queue is not None and isinstance(result, FrameResult):
            self.queue.answers.append(result)

    def fail(self, error: MaskwireError) -> None:
        """Hand the error to whom it concerns."""
        self.refuse(error)
        if self.waiter is None and self.queue is not None:
            self.queue.answers.append(error)

    def miss(self, frame: DroppedFrame) -> None:
        """Let the call that waits know that its frame has no answer of its own."""
        error = errors.FrameDropped(
            f"frame {frame.frame_id} has no answer of its own: {frame.reason.value}"
        )
        error.sequence, error.frame_id = frame.sequence, frame.frame_id
        self.refuse(error)

    def refuse(self, error: Exception) -> None:
        """Let the call that waits raise; queues learn of it by other means."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(error)


class RequestBook:
    """The requests of a session by number and by their places on the way.

    Requests wait in the outbox; then they are sent, in order, and open until the server answers
    them or anything sent after them; sent frames without an answer stay on record until an answer
    accounts for them.
    """

    def __init__(self) -> None:
        self.last_sequence = 0
        self._pending: dict[int, Pending] = {}
        self._outbox: deque[Pending] = deque()
        self._urgent: deque[Pending] = deque()
        self._open: deque[Pending] = deque()

    @property
    def has_room(self) -> bool:
        """Whether a request may be added without waiting."""
        return len(self._outbox) < OUTBOX_CAPACITY

    @property
    def next_in_line(self) -> int | None:
        """Sequence of the next request to be sent, or None where none waits."""
        return self._outbox[0].sequence if self._outbox else None

    def __contains__(self, sequence: int) -> bool:
        """Whether a request is on the record."""
        return sequence in self._pending

    def next_sequence(self) -> int:
        """Return a new number, greater than all before."""
        self.last_sequence += 1
        return self.last_sequence

    def add(self, pending: Pending, *, is_urgent: bool = False) -> None:
        """Put a request into the outbox; an urgent one is sent even while the others are held."""
        assert pending.request is not None, "what is added is to be sent"
        pending.request.sequence = pending.sequence
        self._pending[pending.sequence] = pending
        if pending.queue is not None:
            pending.queue.in_flight += 1
        (self._urgent if is_urgent else self._outbox).append(pending)

    def take(self, *, is_held: bool) -> Pending | None:
        """Return the next request to send, or None; while held only urgent ones are given."""
        if self._urgent:
            pending = self._urgent.popleft()
        elif self._outbox and not is_held:
            pending = self._outbox.popleft()
        else:
            return None
        pending.is_sent = True
        self._open.append(pending)
        return pending

    def pass_to(self, sequence: int) -> None:
        """Note that the server, which works in order, has come as far as this request."""
        while self._open and self._open[0].sequence <= sequence:
            self._open.popleft().release()

    def answered(self, sequence: int) -> Pending | None:
        """Take a request off the record; None for one that is not on it."""
        return self._pending.pop(sequence, None)

    def lose_sent(self, *, resend: bool) -> list[Pending]:
        """Take all sent requests off the record and return them.

        Args:
            resend: Put those that were open back to the head of the outbox instead.
        """
        again = [pending for pending in self._open if resend]
        again = [pending for pending in again if pending.waiter or pending.queue]
        self._open.clear()
        self._urgent.clear()
        kept = {pending.sequence for pending in (*again, *self._outbox)}
        lost = [pending for pending in self._pending.values() if pending.sequence not in kept]
        for pending in again:
            pending.is_sent = False
        self._outbox.extendleft(reversed(again))
        for pending in lost:
            pending.release()
            del self._pending[pending.sequence]
        return lost

    def clear(self) -> list[Pending]:
        """Take all requests off the record and return them."""
        everything = list(self._pending.values())
        for pending in everything:
            pending.release()
        self._pending.clear()
        for waiting in (self._outbox, self._urgent, self._open):
            waiting.clear()
        return everything
