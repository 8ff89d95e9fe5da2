"""Start-time fair queueing: whose turn it is, what it costs, and who makes room in a full queue."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwire_server.domain.fair_queue import FairQueue, Share


def _served(queue: FairQueue[str], cost: float = 1.0) -> list[str]:
    order = []
    while (entry := queue.take()) is not None:
        order.append(entry.item)
        queue.pay(entry, cost)
    return order


def _fill(queue: FairQueue[str], tenant: str, count: int, weight: float = 1.0) -> None:
    for index in range(count):
        queue.put(f"{tenant}{index}", Share(tenant, weight))


def test_one_tenant_is_served_in_the_order_of_arrival() -> None:
    queue: FairQueue[str] = FairQueue()
    _fill(queue, "a", 5)
    assert _served(queue) == ["a0", "a1", "a2", "a3", "a4"]
    assert len(queue) == 0


def test_a_newcomer_waits_for_no_more_than_one_call_of_a_flood() -> None:
    queue: FairQueue[str] = FairQueue()
    _fill(queue, "a", 100)
    running = queue.take()
    assert running is not None
    _fill(queue, "b", 1)
    queue.pay(running, 1.0)
    assert _served(queue)[0] == "b0"


def test_tenants_take_turns_by_what_their_work_costs() -> None:
    queue: FairQueue[str] = FairQueue()
    _fill(queue, "a", 9)
    _fill(queue, "b", 9)
    order = []
    while (entry := queue.take()) is not None:
        order.append(entry.item[0])
        queue.pay(entry, 4.0 if entry.item[0] == "a" else 1.0)
    # While both had work, four cheap ones for each dear one.
    assert "".join(order[:10]) == "abbbbabbbb"


def test_a_weight_is_a_share_of_the_time() -> None:
    queue: FairQueue[str] = FairQueue()
    _fill(queue, "a", 30, weight=3.0)
    _fill(queue, "b", 30)
    first = _served(queue)[:20]
    assert sum(item.startswith("a") for item in first) == 15


def test_who_was_idle_is_owed_nothing() -> None:
    queue: FairQueue[str] = FairQueue()
    _fill(queue, "a", 50)
    _fill(queue, "b", 1)
    for _ in range(20):
        entry = queue.take()
        assert entry is not None
        queue.pay(entry, 1.0)
    _fill(queue, "b", 20)
    first = _served(queue)[:10]
    assert sum(item.startswith("b") for item in first) == 5


def test_leaving_and_coming_back_does_not_make_a_tenant_new() -> None:
    queue: FairQueue[str] = FairQueue()
    _fill(queue, "a", 10)
    served: list[str] = []
    # b has never more than one call in the queue, and each costs as much as five of a's.
    for _ in range(12):
        if not any(item.startswith("b") for item in served[-5:]):
            queue.put("b", Share("b"))
        entry = queue.take()
        if entry is None:
            break
        served.append(entry.item)
        queue.pay(entry, 5.0 if entry.item == "b" else 1.0)
    assert served.count("b") <= 3


def test_expected_costs_keep_a_tenant_from_taking_all_threads() -> None:
    queue: FairQueue[str] = FairQueue()
    _fill(queue, "a", 4)
    _fill(queue, "b", 4)
    at_once = [queue.take(1.0) for _ in range(4)]
    assert [entry.item for entry in at_once if entry] == ["a0", "b0", "a1", "b1"]


def test_removed_work_is_gone_and_only_once() -> None:
    queue: FairQueue[str] = FairQueue()
    entries = [queue.put(name, Share()) for name in "xyz"]
    assert queue.remove(entries[1])
    assert not queue.remove(entries[1])
    assert _served(queue) == ["x", "z"]


def test_the_flood_makes_room_with_its_newest_call() -> None:
    queue: FairQueue[str] = FairQueue()
    _fill(queue, "a", 4)
    pushed = queue.push_out(Share("b"))
    assert pushed is not None
    assert pushed.item == "a3"
    assert len(queue) == 3


def test_nobody_makes_room_for_who_has_as_much() -> None:
    queue: FairQueue[str] = FairQueue()
    _fill(queue, "a", 3)
    assert queue.push_out(Share("a")) is None
    _fill(queue, "b", 2)
    # With one more, b would have as many as a, which was there first and got no more than b.
    assert queue.push_out(Share("b")) is None
    assert queue.push_out(Share("b", weight=2.0)) is not None


def test_the_only_place_goes_to_who_got_less() -> None:
    queue: FairQueue[str] = FairQueue()
    _fill(queue, "a", 2)
    running = queue.take(1.0)
    assert running is not None
    pushed = queue.push_out(Share("b"))
    assert pushed is not None
    assert pushed.item == "a1"
    queue.put("b0", Share("b"))
    assert queue.push_out(Share("a")) is None


def test_work_that_may_not_be_refused_is_not_pushed_out() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.put("a0", Share("a"))
    for index in range(1, 4):
        queue.put(f"a{index}", Share("a"), is_refusable=False)
    pushed = queue.push_out(Share("b"))
    assert pushed is not None
    assert pushed.item == "a0"
    assert queue.push_out(Share("b")) is None


def test_tenants_that_left_are_forgotten() -> None:
    queue: FairQueue[str] = FairQueue()
    _fill(queue, "always", 2500)
    for index in range(2000):
        queue.put("once", Share(f"tenant-{index}"))
        for _ in ("tenant-...", "always"):
            entry = queue.take()
            assert entry is not None
            queue.pay(entry, 1.0)
    assert queue.accounts < 600
    _served(queue)
    assert queue.accounts <= 1


def test_a_weight_is_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        Share("a", 0.0)


_tenants = st.sampled_from([Share("a"), Share("b"), Share("c", 2.0), Share("d", 0.5)])


@given(
    arrivals=st.lists(st.tuples(_tenants, st.integers(1, 20), st.integers(0, 30)), max_size=60),
    seed=st.integers(0, 1000),
)
def test_nobody_with_work_gets_less_than_its_share(
    arrivals: list[tuple[Share, int, int]], seed: int
) -> None:
    """The theorem of the paper, on one server, for every pair of tenants and every interval.

    Over an interval in which both always have work, what two tenants got, divided by their weights,
    differs by at most the sum of their largest costs, each divided by its weight.
    """
    queue: FairQueue[tuple[Share, int]] = FairQueue()
    coming = sorted(arrivals, key=lambda one: one[2])
    clock = 0
    running = None
    waiting: dict[Share, int] = {}
    got: dict[Share, float] = {}
    since: dict[tuple[Share, Share], dict[Share, float]] = {}
    largest: dict[Share, float] = {}
    randomness = random.Random(seed)
    while coming or running or len(queue):
        while coming and coming[0][2] <= clock:
            share, cost, _ = coming.pop(0)
            queue.put((share, cost), share)
            waiting[share] = waiting.get(share, 0) + 1
            largest[share] = max(largest.get(share, 0.0), cost / share.weight)
        if running is None:
            # The estimate may be anything: on one thread the true cost replaces it in time.
            running = queue.take(randomness.choice((0.0, 1.0, 40.0)))
            if running is None:
                clock = coming[0][2]
                continue
        share, cost = running.item
        clock += cost
        # What arrives while it runs, arrives before it is paid for.
        while coming and coming[0][2] <= clock:
            newcomer, its_cost, _ = coming.pop(0)
            queue.put((newcomer, its_cost), newcomer)
            waiting[newcomer] = waiting.get(newcomer, 0) + 1
            largest[newcomer] = max(largest.get(newcomer, 0.0), its_cost / newcomer.weight)
        queue.pay(running, cost)
        running = None
        waiting[share] -= 1
        got[share] = got.get(share, 0.0) + cost / share.weight
        busy = [one for one, count in waiting.items() if count]
        for pair in list(since):
            if not (pair[0] in busy and pair[1] in busy):
                del since[pair]
        for pair in itertools.combinations(sorted(busy, key=lambda one: one.tenant), 2):
            begun = since.setdefault(pair, dict(got))
            one, other = (got.get(who, 0.0) - begun.get(who, 0.0) for who in pair)
            assert abs(one - other) <= largest[pair[0]] + largest[pair[1]] + 1e-9
