"""Figures over a stream of any length in bounded memory: percentiles and rates."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

__all__ = ["Percentiles", "Rate"]

_GROWTH = 1.01
_SMALLEST = 1e-6
_LARGEST = 1e6


class Percentiles:
    """Percentiles of positive values, exact to 0.5 %, in the memory of 2,800 counters at most.

    Values are counted in buckets, each 1 % wider than the one before, from 1e-6 to 1e6; what lies
    outside counts as the nearest of the two.
    """

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._count = 0
        self._sum = 0.0

    @property
    def count(self) -> int:
        """Number of values."""
        return self._count

    @property
    def mean(self) -> float | None:
        """Their mean; None without values."""
        return self._sum / self._count if self._count else None

    def add(self, value: float) -> None:
        """Count a value."""
        clipped = min(max(value, _SMALLEST), _LARGEST)
        bucket = math.floor(math.log(clipped / _SMALLEST) / math.log(_GROWTH))
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self._count += 1
        self._sum += value

    def percentile(self, percent: float) -> float | None:
        """Return the smallest value that at least so many percent of all do not exceed.

        None without values. The answer is the middle of the value's bucket.
        """
        if not self._count:
            return None
        rank = max(1, math.ceil(percent / 100 * self._count))
        seen = 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= rank:
                return _SMALLEST * float(_GROWTH ** (bucket + 0.5))
        raise AssertionError("the counts add up to the number of values")


class Rate:
    """Events per second, lately: over the latest 100 of them or 5 seconds, whichever is less.

    Args:
        clock: Gives the time in seconds.
    """

    _WINDOW_S = 5.0
    _EVENTS = 100

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times: deque[float] = deque(maxlen=self._EVENTS + 1)

    def add(self) -> None:
        """Count an event now."""
        self._times.append(self._clock())

    def per_second(self) -> float:
        """Return the rate; 0 while fewer than two events lie in the window."""
        now = self._clock()
        while self._times and now - self._times[0] > self._WINDOW_S:
            self._times.popleft()
        if len(self._times) < 2:
            return 0.0
        passed = now - self._times[0]
        return (len(self._times) - 1) / passed if passed > 0 else 0.0
