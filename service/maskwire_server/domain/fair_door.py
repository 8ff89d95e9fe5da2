"""How many calls of one kind are let in at a time, before anything is done for them.

What waits behind the door is bounded by queues of its own; the door refuses earlier, when reading
and decoding a request that would then be refused has cost nothing yet.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from .errors import ErrorCode, MaskwireError
from .fair_queue import current_share
from .observer import Observer

_SMOOTHING = 0.1
_LEAST_RETRY_S, _MOST_RETRY_S = 0.05, 30.0


@dataclass(slots=True)
class _Inside:
    count: int
    weight: float


class FairDoor:
    """Lets in `most` calls at a time, and beyond that tenants that have less than their share.

    So a flood of one tenant does not shut out the others: what it has too much of is pushed out of
    the queues behind the door. Inside are then at most twice as many, and one of each further
    tenant. Used on one event loop.
    """

    def __init__(self, name: str, most: int, observer: Observer) -> None:
        """Take what refusals are reported as, and the number."""
        self._name = name
        self._most = most
        self._observer = observer
        self._inside: dict[str, _Inside] = {}
        self._count = 0
        self._mean_s = 0.0

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Be inside while the context lasts, for the account of `current_share`.

        Raises:
            MaskwireError: `OVERLOADED`; `retry_after` is what calls take at present.
        """
        share = current_share.get()
        mine = self._inside.get(share.tenant)
        if self._count >= self._most and not self._is_below_share(mine, share.weight):
            self._observer.overload_refused(self._name)
            raise MaskwireError(
                ErrorCode.OVERLOADED,
                f"the server has its limit of {self._most} {self._name} in work",
                retry_after=timedelta(
                    seconds=min(max(self._mean_s, _LEAST_RETRY_S), _MOST_RETRY_S)
                ),
                resource=self._name,
            )
        if mine is None:
            mine = self._inside[share.tenant] = _Inside(0, share.weight)
        mine.count += 1
        self._count += 1
        began_s = time.perf_counter()
        try:
            yield
        finally:
            self._mean_s += _SMOOTHING * (time.perf_counter() - began_s - self._mean_s)
            self._count -= 1
            mine.count -= 1
            if not mine.count:
                del self._inside[share.tenant]

    def _is_below_share(self, mine: _Inside | None, weight: float) -> bool:
        """Whether one more is within a tenant's share of the places; always so for its first."""
        others = sum(one.weight for one in self._inside.values() if one is not mine)
        if not others:
            return False
        count = 0 if mine is None else mine.count
        return count == 0 or count + 1 <= self._most * weight / (others + weight)
