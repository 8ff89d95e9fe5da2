"""The hosts of the matrix of `ssrf_cases`, and the settings that its cases are tried under."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.support.name_server import Host, at

PUBLIC_IPV4, PUBLIC_IPV6 = "93.184.216.34", "2606:2800:220:1::34"
"""Where the host that may be fetched from is."""
PRIVATE = "10.0.0.1"
"""An address of the server's own network, which one set of settings allows."""

GOOD = "public.attack.test"
SLOW = "slow.attack.test"
"""A name that its name server says nothing about."""

HOSTS: Mapping[str, Host] = {
    GOOD: at(PUBLIC_IPV4, PUBLIC_IPV6),
    "cdn.good.test": at(PUBLIC_IPV4),
    "denied.good.test": at(PUBLIC_IPV4),
    "deep.worse.good.test": at(PUBLIC_IPV4),
    SLOW: Host(is_silent=True),
    "loopback.attack.test": at("127.0.0.1"),
    "loopback.good.test": at("127.0.0.1"),
    "unspecified.attack.test": at("0.0.0.0"),
    "private.attack.test": at(PRIVATE),
    "metadata.attack.test": at("169.254.169.254"),
    "carrier.attack.test": at("100.100.100.200"),
    "wire.attack.test": at("168.63.129.16"),
    "loopback6.attack.test": at("::1"),
    "unique.attack.test": at("fd00:ec2::254"),
    "mapped.attack.test": at("::ffff:127.0.0.1"),
    "translated.attack.test": at("64:ff9b::a9fe:a9fe"),
    "sixtofour.attack.test": at("2002:7f00:1::"),
    "teredo.attack.test": at("2001:0:7f00:1::1"),
    "compatible.attack.test": at("::127.0.0.1"),
    "several.attack.test": at("127.0.0.1", PRIVATE, "169.254.169.254", "::1"),
    "mixed.attack.test": at("127.0.0.1", PUBLIC_IPV4, PRIVATE),
    "mixed6.attack.test": at("::1", PUBLIC_IPV4),
    "alias.attack.test": Host(alias="alias2.attack.test"),
    "alias2.attack.test": Host(alias="loopback.attack.test"),
    "goodalias.attack.test": Host(alias=GOOD),
    "localalias.attack.test": Host(alias="localhost"),
    "localhost": at("127.0.0.1"),
    "127.0.0.1.attack.test": at("127.0.0.1"),
    "rebinding.attack.test": Host(((PUBLIC_IPV4,), ("127.0.0.1",))),
    "rebinding6.attack.test": Host(((PUBLIC_IPV6,), ("::1",))),
    "unbinding.attack.test": Host((("127.0.0.1",), (PUBLIC_IPV4,))),
    "flapping.attack.test": Host(
        tuple((PUBLIC_IPV4,) if turn % 2 else ("169.254.169.254",) for turn in range(20))
    ),
}

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "open": {},
    "listed": {
        "allowed_hosts": [GOOD, "*.good.test", PUBLIC_IPV4],
        "denied_hosts": ["denied.good.test", "*.worse.good.test"],
        "allowed_ports": [443, 8443],
    },
    "private network": {"allowed_networks": ["10.0.0.0/8"]},
}
"""The sets of settings (`sources.https`) that cases are tried under."""
