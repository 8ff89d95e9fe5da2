"""HTTPS to addresses that callers named, for every adapter that speaks it on their behalf.

A name says nothing about where it leads, and leads elsewhere the next moment: so the address is
judged when a socket is about to be opened to it, after all names are resolved, and that socket is
the one that is used. What a caller may name, and what is done with the answer, is the adapters'.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

import aiohttp
from aiohttp.abc import AbstractResolver

MAX_HEADER_BYTES = 8190
"""Longest line or field of an answer's head."""

AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]
"""An address to connect to, as `socket.getaddrinfo` gives it."""

AddressRule = Callable[[str], bool]
"""Says of an address, as a resolver gives it, whether a socket may be opened to it."""


class AddressForbidden(OSError):
    """The address is not one that is connected to on behalf of callers."""

    def __init__(self) -> None:
        super().__init__("the address is not public")


def any_address(address: str) -> bool:
    """Allow every address: the rule of an operator who trusts the network and the callers."""
    return True


def open_session(
    tls: ssl.SSLContext,
    timeout: aiohttp.ClientTimeout,
    may_connect: AddressRule,
    resolver: AbstractResolver | None = None,
) -> aiohttp.ClientSession:
    """Return a client that carries nothing from one request to the next; the caller closes it.

    It knows no cookies and no proxies of the environment, and unpacks nothing. Redirects are for
    its user to refuse (`allow_redirects=False`).

    Args:
        tls: Says which certificates are trusted.
        timeout: Longest times of a request.
        may_connect: Which addresses sockets are opened to.
        resolver: Resolves names; None leaves it to the client's default.
    """
    connector = aiohttp.TCPConnector(
        ssl=tls,
        resolver=resolver,
        use_dns_cache=False,
        socket_factory=_socket_factory(may_connect),
        # A connection that is kept was checked for another request's address.
        force_close=True,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=timeout,
        trust_env=False,
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
        auto_decompress=False,
    )


def _socket_factory(may_connect: AddressRule) -> Callable[[AddressInfo], socket.socket]:
    def opened(address: AddressInfo) -> socket.socket:
        family, kind, protocol, _, place = address
        if not may_connect(str(place[0])):
            raise AddressForbidden
        return socket.socket(family, kind, protocol)

    return opened
