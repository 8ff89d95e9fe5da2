"""No URI makes the server connect to where callers may not: measured at the socket.

Every case goes through the adapter as the settings build it, and those of the usual settings
through a real server, in a network in which every address answers.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

import pytest

from tests.support.ssrf_cases import CASES, FETCHED, UNAVAILABLE, Case

LEAST_CASES = 60

MATRIX = [
    pytest.param(case, through, id=f"{case.name} ({through})")
    for case in CASES
    for through in ("adapter", "server")
    if through == "adapter" or case.settings == "open"
]


def test_the_matrix_is_large_and_its_names_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert sum(FETCHED not in case.outcomes for case in CASES) >= LEAST_CASES


def test_a_connection_to_where_nobody_may_would_be_seen(tried) -> None:
    control = tried["control", ""]
    assert control.packets == [["169.254.169.254", 443], ["::1", 22]]
    assert control.calls == control.packets


@pytest.mark.parametrize(("case", "through"), MATRIX)
def test_case(tried, case: Case, through: str) -> None:
    outcome = tried[case.name, through]
    packets = {(address, port) for address, port in outcome.packets}
    assert packets <= case.allowed
    assert {(_plain(address), port) for address, port in outcome.calls} == packets
    assert tuple(outcome.outcomes) == case.outcomes


@pytest.mark.parametrize("through", ["adapter", "server"])
def test_refusals_are_no_oracle_about_the_network(tried, through: str) -> None:
    """A name that is not there, and addresses of every kind: all are told in the same words."""
    told = {
        message
        for (name, way), outcome in tried.items()
        if way == through and name.startswith(("address:", "name:", "rebinding"))
        for end, message in zip(outcome.outcomes, outcome.messages, strict=True)
        if end == UNAVAILABLE
    }
    assert told == {"image.uri: no answer over HTTPS came from a public address of that host"}


def test_a_name_server_that_says_nothing_holds_up_nobody_else(tried) -> None:
    outcome = tried["slow name", "adapter"]
    assert outcome.outcomes == [FETCHED] * 3 + [UNAVAILABLE]
    assert {port for _, port in outcome.packets} == {443}


def test_names_that_are_waited_for_hold_up_their_tenant_alone(tried) -> None:
    """The system's resolver cannot be interrupted: its threads are taken after a fetch's end."""
    assert tried["many slow names", "adapter"].outcomes == [FETCHED, UNAVAILABLE, FETCHED]


def _plain(address: str) -> str:
    """Return the address whose packets those of a mapped one are."""
    parsed = ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return str(mapped or parsed)
