"""The door before the devices: who is let in when it is full."""

from __future__ import annotations

import contextvars
from contextlib import AbstractContextManager, ExitStack

import pytest

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.fair_door import FairDoor
from maskwire_server.domain.fair_queue import Share, current_share
from maskwire_server.observability.metrics import Metrics


def _enter(door: FairDoor, share: Share, stack: ExitStack) -> None:
    """Enter as a tenant; the context variable is set for the entering alone."""

    def entered() -> AbstractContextManager[None]:
        current_share.set(share)
        context = door.enter()
        context.__enter__()
        return context

    context = contextvars.copy_context().run(entered)
    stack.callback(context.__exit__, None, None, None)


def test_one_tenant_has_all_places_and_no_more() -> None:
    metrics = Metrics()
    door = FairDoor("calls", 3, metrics)
    with ExitStack() as stack:
        for _ in range(3):
            _enter(door, Share("a"), stack)
        with pytest.raises(MaskwireError) as refusal:
            _enter(door, Share("a"), stack)
        assert refusal.value.code is ErrorCode.OVERLOADED
        assert refusal.value.retry_after is not None
        refused = {"executor": "calls"}
        assert metrics.registry.get_sample_value("maskwire_overload_refused_total", refused) == 1
    with ExitStack() as stack:
        for _ in range(3):
            _enter(door, Share("a"), stack)


def test_a_full_door_is_open_to_others_up_to_their_share() -> None:
    door = FairDoor("calls", 8, Metrics())
    with ExitStack() as stack:
        for _ in range(8):
            _enter(door, Share("a"), stack)
        for _ in range(4):
            _enter(door, Share("b"), stack)
        for tenant in ("a", "b"):
            with pytest.raises(MaskwireError):
                _enter(door, Share(tenant), stack)


def test_the_share_follows_the_weight() -> None:
    door = FairDoor("calls", 8, Metrics())
    with ExitStack() as stack:
        for _ in range(8):
            _enter(door, Share("a"), stack)
        for _ in range(6):
            _enter(door, Share("b", 3.0), stack)
        with pytest.raises(MaskwireError):
            _enter(door, Share("b", 3.0), stack)


def test_the_first_call_of_a_tenant_is_always_let_in() -> None:
    door = FairDoor("calls", 2, Metrics())
    with ExitStack() as stack:
        for _ in range(2):
            _enter(door, Share("a"), stack)
        for index in range(10):
            _enter(door, Share(f"other-{index}"), stack)


def test_who_leaves_makes_room_whatever_came_between() -> None:
    door = FairDoor("calls", 1, Metrics())
    for _ in range(3):
        with ExitStack() as stack:
            _enter(door, Share("a"), stack)
            _enter(door, Share("b"), stack)
            with pytest.raises(MaskwireError):
                _enter(door, Share("b"), stack)
