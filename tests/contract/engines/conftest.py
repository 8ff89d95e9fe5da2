"""Runs the contract suite over every engine."""

from __future__ import annotations

import pytest

from maskwire_server.engines import registry
from tests.support.engines import SPECIFICATIONS, Candidate


@pytest.fixture(scope="session", params=sorted(SPECIFICATIONS))
def candidate(request: pytest.FixtureRequest) -> Candidate:
    engine: str = request.param
    return Candidate(registry.create_factory(engine), SPECIFICATIONS[engine](request))
