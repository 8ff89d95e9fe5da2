"""Counts what became of each frame of a session, over all its connections."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from .sessions import DroppedFrame, LostFrame, SessionSummary

MAX_REPORTED_FRAMES = 65_536
"""Most frames that are kept by name until a result reports them, and for the summary."""


class FrameLedger:
    """What became of each frame; `sent = answered + dropped + failed + lost + still open`."""

    def __init__(self) -> None:
        self.sent = 0
        self.answered = 0
        self.failed = 0
        self.reconnects = 0
        self._dropped = 0
        self._lost = 0
        self._unreported_drops: deque[DroppedFrame] = deque(maxlen=MAX_REPORTED_FRAMES)
        self._unreported_losses: deque[LostFrame] = deque(maxlen=MAX_REPORTED_FRAMES)
        self._all_losses: deque[LostFrame] = deque(maxlen=MAX_REPORTED_FRAMES)

    def drop(self, frames: Iterable[DroppedFrame]) -> None:
        """Note frames without an answer of their own."""
        for frame in frames:
            self._dropped += 1
            self._unreported_drops.append(frame)

    def lose(self, frame: LostFrame) -> None:
        """Note a frame that was lost with a connection."""
        self._lost += 1
        self._unreported_losses.append(frame)
        self._all_losses.append(frame)

    def report_drops(self) -> tuple[DroppedFrame, ...]:
        """Return the dropped frames that no result has reported; they are reported now."""
        frames = tuple(self._unreported_drops)
        self._unreported_drops.clear()
        return frames

    def report_losses(self) -> tuple[LostFrame, ...]:
        """Return the lost frames that no result has reported; they are reported now."""
        frames = tuple(self._unreported_losses)
        self._unreported_losses.clear()
        return frames

    def summary(self) -> SessionSummary:
        """Return the counts."""
        return SessionSummary(
            frames_sent=self.sent,
            frames_answered=self.answered,
            frames_dropped=self._dropped,
            frames_failed=self.failed,
            frames_lost=self._lost,
            dropped_frames=tuple(self._unreported_drops),
            lost_frames=tuple(self._all_losses),
            reconnects=self.reconnects,
        )
