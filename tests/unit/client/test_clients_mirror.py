"""The two clients offer the same methods with the same signatures and defaults."""

from __future__ import annotations

import inspect

from maskwire_client import AsyncClient, Client


def public_methods(client: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(function)
        for name, function in inspect.getmembers(client, inspect.isfunction)
        if not name.startswith("_")
    }


def test_methods_and_signatures_are_equal() -> None:
    methods = public_methods(Client)
    assert methods.keys() >= {"segment", "models", "model", "close"}
    assert public_methods(AsyncClient) == methods


def test_constructors_are_equal() -> None:
    assert inspect.signature(AsyncClient.__init__) == inspect.signature(Client.__init__)


def test_what_waits_in_one_is_awaited_in_the_other() -> None:
    for name in public_methods(Client):
        assert inspect.iscoroutinefunction(getattr(AsyncClient, name)), name
        assert not inspect.iscoroutinefunction(getattr(Client, name)), name
