"""Decides whether, where and when a session or watch that lost its connection opens another."""

from __future__ import annotations

from . import errors
from .errors import MaskwireError
from .sessions import Reconnect

# What another attempt, here or at another target, may well mend.
_PASSING = (errors.Unavailable, errors.Cancelled, errors.ResourceExhausted)


class Reconnection:
    """Attempts since the session last worked.

    Attributes:
        target_index: Counts the connections; the targets are taken in turn.
        is_asleep: Whether the last connection ended because the client said nothing for too long:
            another is of use only when there is something to say.
    """

    def __init__(self, policy: Reconnect | None) -> None:
        self.target_index = 0
        self.is_asleep = False
        self._policy = policy
        self._attempts = 0

    @property
    def resends(self) -> bool:
        """Whether unanswered requests are sent again."""
        return self._policy is not None and self._policy.resend

    @property
    def pause_s(self) -> float:
        """Seconds to wait before the attempt that is due; none before the first."""
        if self._policy is None or self._attempts < 2:
            return 0.0
        growing: float = self._policy.initial_backoff_s * 2.0 ** (self._attempts - 2)
        return min(growing, self._policy.max_backoff_s)

    @property
    def is_exhausted(self) -> bool:
        """Whether no more attempts are to be made."""
        return self._policy is None or self._attempts >= self._policy.max_attempts

    def allows(self, error: MaskwireError, *, was_announced: bool) -> bool:
        """Whether there should be another attempt.

        Args:
            error: What the connection ended with.
            was_announced: Whether a drain notice came before.
        """
        if self._policy is None or self.is_exhausted:
            return False
        self.is_asleep = isinstance(error, errors.DeadlineExceeded)
        if was_announced or self.is_asleep or isinstance(error, _PASSING):
            return True
        # A seed that one server cannot resume (its checkpoint differs), another one may.
        return isinstance(error, errors.FailedPrecondition) and bool(self._policy.targets)

    def begin(self) -> None:
        """Note that another attempt is due, at the next target."""
        self._attempts += 1
        self.target_index += 1

    def succeed(self) -> None:
        """Note that the session works again."""
        self._attempts = 0
