from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from maskwire_server.domain.engine import EngineFactory
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.engines import registry
from maskwire_server.engines.sam2 import Sam2EngineFactory


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch):
    """Return a function that installs one entry point and no other."""

    def install(value: str) -> None:
        point = EntryPoint(name="odd", value=value, group=registry.GROUP)

        def found(group: str, name: str = "odd") -> tuple[EntryPoint, ...]:
            return (point,) if (group, name) == (registry.GROUP, "odd") else ()

        monkeypatch.setattr(registry, "entry_points", found)

    return install


def test_the_engines_of_this_distribution_are_found():
    assert {"nano", "sam2"} <= set(registry.engine_names())
    assert isinstance(registry.create_factory("sam2"), Sam2EngineFactory)


def test_a_class_and_an_instance_both_serve(installed):
    installed("maskwire_server.engines.sam2:Sam2EngineFactory")
    assert isinstance(registry.create_factory("odd"), EngineFactory)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("maskwire_server.no_such_module:Factory", "cannot be imported"),
        ("pathlib:Path", "not an EngineFactory"),
    ],
)
def test_a_broken_entry_point_is_named(installed, value: str, words: str):
    installed(value)
    with pytest.raises(MaskwireError, match=words) as caught:
        registry.create_factory("odd")
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE


def test_an_unknown_engine_is_answered_with_the_installed_ones():
    with pytest.raises(MaskwireError, match=r"'warp'.*sam2"):
        registry.create_factory("warp")
