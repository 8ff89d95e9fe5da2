"""Reading `https:` URLs of callers, strictly: what two parsers could read in two ways is refused.

What is connected to is rebuilt from what was read here, so that no other parser decides it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

DEFAULT_PORT = 443

_MAX_CHARACTERS = 8192
_MAX_HOST_CHARACTERS = 253
_PRINTABLE = re.compile(r"[!-\[\]-~]*")  # without the backslash, which some parsers read as a slash
_SHAPE = re.compile(r"https://([^/?#]*)([^#]*)(?:#.*)?", re.IGNORECASE)
_AUTHORITY = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# Whose last label is one of these is an address to some resolvers: 127.1, 0x7f000001, 2130706433.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


@dataclass(frozen=True, slots=True)
class HttpsUrl:
    """A URL that was read.

    Attributes:
        host: Name in lower case without a dot at its end, or an address in its usual form, without
            brackets.
        port: 1 to 65535.
        target: Path and query as they were, beginning with a slash.
    """

    host: str
    port: int
    target: str

    def __str__(self) -> str:
        """Write it without a fragment, which is no server's business."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == DEFAULT_PORT else f":{self.port}"
        return f"https://{host}{port}{self.target}"


def read_https_url(text: str) -> HttpsUrl:
    """Read a URL.

    Raises:
        ValueError: It is not one, or one that could be read in two ways; says the rule, in words
            that go on from the field's name.
    """
    if len(text) > _MAX_CHARACTERS:
        raise ValueError(f"must have at most {_MAX_CHARACTERS} characters")
    if _PRINTABLE.fullmatch(text) is None:
        raise ValueError(
            "must hold printable ASCII characters only, without spaces and backslashes: "
            "escape others, and write host names in their ASCII form (xn--)"
        )
    shape = _SHAPE.fullmatch(text)
    if shape is None:
        raise ValueError("must have the form https://host/path")
    authority, target = shape.groups()
    if "@" in authority:
        raise ValueError("must hold no user name or password")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise ValueError(
            "must name a host by ASCII letters, digits, dots and hyphens or by its address, "
            "and a port, if any, by its number"
        )
    port = DEFAULT_PORT if parts[2] is None else int(parts[2])
    if not 1 <= port <= 65535:
        raise ValueError("must name a port from 1 to 65535")
    return HttpsUrl(_read_host(parts[1]), port, target if target.startswith("/") else f"/{target}")


def _read_host(text: str) -> str:
    if text.startswith("["):
        return _read_ipv6(text[1:-1])
    host = text.lower().removesuffix(".")
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _read_ipv4(text)
    if len(host) > _MAX_HOST_CHARACTERS or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(
            "must name a host by labels of 1 to 63 letters, digits and hyphens, 253 in all"
        )
    return host


def _read_ipv4(text: str) -> str:
    try:
        return str(IPv4Address(text))
    except AddressValueError:
        raise ValueError("must write an IPv4 address as four decimal numbers") from None


def _read_ipv6(text: str) -> str:
    try:
        return str(IPv6Address(text))
    except AddressValueError:
        raise ValueError("must write an IPv6 address in its usual form, without a zone") from None
