"""Work of several tenants that waits for one executor, and whose turn it is.

Start-time fair queueing: Goyal, Vin and Cheng, "Start-Time Fair Queuing: A Scheduling Algorithm for
Integrated Services Packet Switching Networks", SIGCOMM 1996. Each tenant has a clock of its own
that advances by what its work cost, divided by its weight; the one that is furthest behind goes
next. Of the algorithms of this family it is the one that needs no cost before the work is done, and
ours is known only when it was measured. Whoever was idle starts at the present and is owed nothing.

Two tenants that both have work waiting in some interval differ in what they got, each divided by
its weight, by no more than the largest piece of work of each. On several threads work is charged
what it is expected to cost while it runs, as in SFQ(D) of Jin, Chase and Kaur, SIGMETRICS 2004.

Nothing here knows threads, time or locks; `executor.py` does.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")

_MANY_ACCOUNTS = 256


@dataclass(frozen=True, slots=True)
class Share:
    """For whose account work is done.

    Attributes:
        tenant: Name of the tenant; empty for the anonymous one.
        weight: What it gets beside others that want as much; twice as much for 2 as for 1.
    """

    tenant: str = ""
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"weight must be positive, not {self.weight}")


current_share: ContextVar[Share] = ContextVar("current_share", default=Share())  # noqa: B039
"""For whose account the work of this context is; work that is shared is its first caller's."""


@dataclass(eq=False, slots=True)
class Entry(Generic[Item]):
    """Work in the queue, or taken out of it and not yet paid for.

    Attributes:
        item: The work.
        is_refusable: Whether another tenant's work may push it out.
    """

    item: Item
    is_refusable: bool
    _account: _Account[Item]
    _charged: float = 0.0


@dataclass(eq=False, slots=True)
class _Account(Generic[Item]):
    """One tenant's clock and what it has in the queue."""

    tenant: str
    weight: float
    clock: float
    order: int
    waiting: deque[Entry[Item]] = field(default_factory=deque)
    unpaid: int = 0

    def turn(self) -> tuple[float, int]:
        """Return what decides whose turn it is: the least goes next."""
        return self.clock, self.order

    def fullness(self) -> tuple[float, float]:
        """Return how much of the queue it has for its weight, and what it got, among equals."""
        return len(self.waiting) / self.weight, self.clock


class FairQueue(Generic[Item]):
    """A queue with an account for each tenant; in the order of arrival within one tenant."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account[Item]] = {}
        self._present = 0.0
        self._waiting = 0
        self._unpaid = 0
        self._orders = itertools.count()

    def __len__(self) -> int:
        """Return how much work waits."""
        return self._waiting

    @property
    def accounts(self) -> int:
        """How many tenants have work here, or got some a moment ago."""
        return len(self._accounts)

    def put(self, item: Item, share: Share, *, is_refusable: bool = True) -> Entry[Item]:
        """Add work behind what its tenant has."""
        account = self._account(share)
        account.weight = share.weight
        if not account.waiting:
            account.clock = max(account.clock, self._present)
            account.order = next(self._orders)
        entry = Entry(item, is_refusable, account)
        account.waiting.append(entry)
        self._waiting += 1
        return entry

    def take(self, expected_cost: float = 0.0) -> Entry[Item] | None:
        """Take out the work whose turn it is, or return None where there is none.

        Args:
            expected_cost: What it is charged until `pay` says what it cost.
        """
        if not self._waiting:
            return None
        return self._take(min(self._backlogged(), key=_Account.turn), expected_cost)

    def take_after(self, entry: Entry[Item], expected_cost: float = 0.0) -> Entry[Item] | None:
        """Take out work of the tenant that had its turn with `entry`, as part of the same turn.

        It is paid for like any other, so that over time the tenant gets no more than its share.
        """
        account = entry._account
        return self._take(account, expected_cost) if account.waiting else None

    def others_wait(self, entry: Entry[Item]) -> bool:
        """Whether work of other tenants waits, and none of the one that had its turn."""
        return bool(self._waiting) and not entry._account.waiting

    def _take(self, account: _Account[Item], expected_cost: float) -> Entry[Item]:
        self._present = max(self._present, account.clock)
        entry = account.waiting.popleft()
        entry._charged = expected_cost / account.weight
        account.clock += entry._charged
        account.order = next(self._orders)
        account.unpaid += 1
        self._waiting -= 1
        self._unpaid += 1
        return entry

    def pay(self, entry: Entry[Item], cost: float) -> None:
        """Charge the tenant what work that was taken out cost."""
        account = entry._account
        account.clock += cost / account.weight - entry._charged
        account.unpaid -= 1
        self._unpaid -= 1
        self._forget_idle()

    def remove(self, entry: Entry[Item]) -> bool:
        """Take out work that is no longer wanted; False where it does not wait (any more)."""
        try:
            entry._account.waiting.remove(entry)
        except ValueError:
            return False
        self._waiting -= 1
        self._forget_idle()
        return True

    def push_out(self, share: Share) -> Entry[Item] | None:
        """Make room in a full queue for one more of a tenant, where others have more than it.

        Takes out, and returns, the newest work that may be refused of the tenant that has the most
        of the queue for its weight. None, where the newcomer would then have more than that one.
        """
        fullest = max(
            (one for one in self._backlogged() if _newest_refusable(one) is not None),
            key=_Account.fullness,
            default=None,
        )
        if fullest is None or fullest.tenant == share.tenant:
            return None
        mine = self._accounts.get(share.tenant)
        waiting = len(mine.waiting) if mine is not None else 0
        clock = max(mine.clock if mine is not None else 0.0, self._present)
        if ((waiting + 1) / share.weight, clock) >= fullest.fullness():
            return None
        entry = _newest_refusable(fullest)
        assert entry is not None
        self.remove(entry)
        return entry

    def drain(self) -> Iterator[Entry[Item]]:
        """Take out everything that waits."""
        for account in list(self._backlogged()):
            while account.waiting:
                self._waiting -= 1
                yield account.waiting.popleft()

    def _account(self, share: Share) -> _Account[Item]:
        account = self._accounts.get(share.tenant)
        if account is None:
            account = _Account(share.tenant, share.weight, self._present, 0)
            self._accounts[share.tenant] = account
        return account

    def _backlogged(self) -> Iterator[_Account[Item]]:
        return (one for one in self._accounts.values() if one.waiting)

    def _forget_idle(self) -> None:
        """Forget tenants that have nothing here and whose clocks would begin at the present."""
        if not self._waiting and not self._unpaid:
            self._present = 0.0
            if len(self._accounts) == 1:  # the usual one, which will be back
                next(iter(self._accounts.values())).clock = 0.0
            else:
                self._accounts.clear()
        elif len(self._accounts) > _MANY_ACCOUNTS:
            self._accounts = {
                name: one
                for name, one in self._accounts.items()
                if one.waiting or one.unpaid or one.clock > self._present
            }


def _newest_refusable(account: _Account[Item]) -> Entry[Item] | None:
    return next((entry for entry in reversed(account.waiting) if entry.is_refusable), None)
