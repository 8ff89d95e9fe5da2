"""Lists of hosts: names and addresses, and whole domains as `*.example.com`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Self

_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_WILDCARD = "*."


@dataclass(frozen=True, slots=True)
class HostPatterns:
    """Which hosts are meant.

    Attributes:
        exact: Names in lower case, and addresses in their usual form.
        suffixes: Ends of names, each beginning with a dot; the domain itself is not meant.
    """

    exact: frozenset[str] = frozenset()
    suffixes: tuple[str, ...] = ()

    @classmethod
    def read(cls, patterns: Iterable[str]) -> Self:
        """Read a list of the settings.

        Raises:
            ValueError: A pattern is none; names it.
        """
        exact, suffixes = set[str](), []
        for pattern in patterns:
            text = pattern.lower().removesuffix(".")
            name = text.removeprefix(_WILDCARD)
            if text.startswith(_WILDCARD) and _NAME.fullmatch(name):
                suffixes.append(f".{name}")
            else:
                exact.add(_exact(text, pattern))
        return cls(frozenset(exact), tuple(suffixes))

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.exact or self.suffixes)

    def __contains__(self, host: str) -> bool:
        """Whether a host, as `HttpsUrl.host` has it, is meant."""
        return host in self.exact or host.endswith(self.suffixes)


def _exact(text: str, pattern: str) -> str:
    try:
        return str(ip_address(text.strip("[]")))
    except ValueError:
        pass
    if _NAME.fullmatch(text) is None:
        raise ValueError(f"{pattern!r} is no host name, address or *.domain")
    return text
