"""How far a call is, kept until somebody can pass it on: bounded, the latest wins.

The same buffer is in the child, between the working threads and the socket, and in the worker,
between the socket and the backend.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

_MAX_WAITING = 64
_MAX_LOG_LINES = 200
_MAX_LINE_CHARACTERS = 500
_MAX_STAGE_CHARACTERS = 100
_NO_MORE_LINES = "there were more log lines, which are left out"


@dataclass(frozen=True, slots=True)
class Progress:
    """A stage that runs, how much of the whole is done (0 to 1), and a line for people."""

    stage: str
    fraction: float
    log_line: str = ""


class ProgressBuffer:
    """Keeps what was reported and not passed on; not safe for threads.

    New stages and log lines are kept one by one. Other reports replace one another, and so does
    everything once too much waits. After so many log lines of one call, more are left out.
    """

    def __init__(self) -> None:
        self._waiting: deque[Progress] = deque()
        self._stage = ""
        self._lines = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, progress: Progress) -> None:
        """Take a report."""
        line = self._bounded(progress.log_line)
        stage = progress.stage[:_MAX_STAGE_CHARACTERS]
        # NaN compares false with everything and so becomes 0.
        fraction = min(progress.fraction, 1.0) if progress.fraction > 0.0 else 0.0
        is_new = bool(line) or stage != self._stage
        self._stage = stage
        last = self._waiting[-1] if self._waiting else None
        is_replaceable = last is not None and not last.log_line and last.stage == stage
        if len(self._waiting) >= _MAX_WAITING or (is_replaceable and not is_new):
            self._waiting.pop()
        self._waiting.append(Progress(stage, fraction, line))

    @property
    def is_pressing(self) -> bool:
        """Whether more than a newer fraction of one stage waits: a log line or several stages."""
        return len(self._waiting) > 1 or any(one.log_line for one in self._waiting)

    def first(self) -> Progress:
        """Return what is to be passed on next; the buffer is not empty."""
        return self._waiting[0]

    def pop(self) -> Progress:
        """Take what is to be passed on next; the buffer is not empty."""
        return self._waiting.popleft()

    def _bounded(self, line: str) -> str:
        line = " ".join(line.split())
        if not line or self._lines > _MAX_LOG_LINES:
            return ""
        self._lines += 1
        return line[:_MAX_LINE_CHARACTERS] if self._lines <= _MAX_LOG_LINES else _NO_MORE_LINES
