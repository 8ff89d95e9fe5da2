"""Runs the contract suite over every engine."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from maskwire_server.engines import registry
from tests.support.engines import SPECIFICATIONS, Candidate


@pytest.fixture(scope="session", params=sorted(SPECIFICATIONS))
def candidate(request: pytest.FixtureRequest) -> Candidate:
    engine: str = request.param
    if find_spec(f"maskwire_server.engines.{engine}") is None:
        pytest.skip(f"the engine {engine} is not part of this tree")
    return Candidate(registry.create_factory(engine), SPECIFICATIONS[engine](request))
