"""Lists of hosts in the settings."""

from __future__ import annotations

import pytest

from maskwire_server.sources import HostPatterns

PATTERNS = HostPatterns.read(
    ["Host.test", "dotted.test.", "*.Wide.test", "93.184.216.34", "[2606:2800::0:1]", "2606::1"]
)


@pytest.mark.parametrize(
    "host",
    [
        *("host.test", "dotted.test", "a.wide.test", "a.b.wide.test"),
        *("93.184.216.34", "2606:2800::1", "2606::1"),
    ],
)
def test_hosts_that_are_meant(host):
    assert host in PATTERNS


@pytest.mark.parametrize(
    "host", ["a.host.test", "test", "wide.test", "awide.test", "wide.test.evil", "93.184.216.3"]
)
def test_other_hosts_are_not(host):
    assert host not in PATTERNS


def test_an_empty_list_means_none():
    assert not HostPatterns.read([])
    assert "host.test" not in HostPatterns.read([])
    assert PATTERNS


@pytest.mark.parametrize(
    "pattern",
    ["", "*", "*.", "*.*.test", "a.*.test", "https://a", "a/b", "a b", "*.1.2.3.4/8", "ä"],
)
def test_what_is_no_pattern_is_refused(pattern):
    with pytest.raises(ValueError, match="host name"):
        HostPatterns.read([pattern])
