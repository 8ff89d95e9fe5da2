"""The matrix of hostile URIs, tried once for all tests."""

from __future__ import annotations

import json

import pytest

from tests.support.own_network import run_in_own_network
from tests.support.ssrf_outcomes import Outcome

_TIMEOUT_S = 240.0


@pytest.fixture(scope="session")
def tried() -> dict[tuple[str, str], Outcome]:
    """Outcomes by case and by what it went through."""
    printed = run_in_own_network("tests.support.ssrf_world", timeout_s=_TIMEOUT_S)
    outcomes = [Outcome(**row) for row in json.loads(printed.splitlines()[-1])]
    return {(outcome.case, outcome.through): outcome for outcome in outcomes}
