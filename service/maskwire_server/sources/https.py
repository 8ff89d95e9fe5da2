"""Fetches files over HTTPS from where callers say, and from nowhere that only this server reaches.

Host and port are checked as the settings say before a name is looked up; the address when the
socket is opened to it, for every redirect anew. What happens before a host has answered is told in
one sentence, whatever it was, so that nobody learns what is inside the server's network; the log
has the reason.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from urllib.parse import urljoin

import aiohttp
import structlog
from yarl import URL

from ..domain.addresses import is_public_address
from ..domain.errors import ErrorCode, MaskwireError, invalid_field
from ..domain.remote_sources import BYTES_OF_ANY_KIND, RemoteSource, WantedContent
from ..domain.segmentation import Caller
from ..outgoing_https import open_session
from .host_patterns import HostPatterns
from .https_urls import DEFAULT_PORT, HttpsUrl, read_https_url
from .name_lookup import SystemResolver

_log = structlog.get_logger(__name__)

_USER_AGENT = "maskwire-sources"
_CHUNK_BYTES = 256 * 1024
_OK = 200
_REDIRECTS = frozenset((301, 302, 303, 307, 308))


@dataclass(frozen=True, slots=True)
class HttpsRules:
    """What is fetched over HTTPS.

    Attributes:
        allowed_hosts: The only hosts; none means all.
        denied_hosts: Hosts that are not fetched from, whatever else says.
        allowed_ports: The only ports.
        allowed_networks: Networks that are not public and may be connected to all the same.
        ca_file: Certificates to trust instead of the system's.
        connect_timeout_s: Longest time to look up a name and to connect, in seconds.
        max_redirects: How many are followed.
    """

    allowed_hosts: HostPatterns = field(default_factory=HostPatterns)
    denied_hosts: HostPatterns = field(default_factory=HostPatterns)
    allowed_ports: frozenset[int] = frozenset((DEFAULT_PORT,))
    allowed_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    ca_file: Path | None = None
    connect_timeout_s: float = 5.0
    max_redirects: int = 3

    def may_connect(self, address: str) -> bool:
        """Whether a socket may be opened to an address, as a resolver gives it."""
        if is_public_address(address):
            return True
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self.allowed_networks)

    def check(self, url: HttpsUrl) -> None:
        """Refuse hosts and ports that are not fetched from.

        Raises:
            ValueError: Says so, in words that go on from the field's name.
        """
        if url.host in self.denied_hosts or (
            self.allowed_hosts and url.host not in self.allowed_hosts
        ):
            raise ValueError("this server does not fetch from that host")
        if url.port not in self.allowed_ports:
            raise ValueError("this server does not fetch from that port")


class HttpsSource(RemoteSource):
    """Fetches with one client, which it makes on the event loop that uses it."""

    def __init__(self, rules: HttpsRules, max_lookups: int, max_lookups_per_tenant: int) -> None:
        """Prepare to fetch.

        Args:
            rules: What is fetched.
            max_lookups: Most names that are looked up at a time.
            max_lookups_per_tenant: Most of one tenant.

        Raises:
            OSError: `ca_file` cannot be read, or holds no certificate.
        """
        self._rules = rules
        self._resolver = SystemResolver(max_lookups, max_lookups_per_tenant)
        self._tls = ssl.create_default_context(cafile=rules.ca_file)
        self._session: aiohttp.ClientSession | None = None

    async def read(
        self, uri: str, wanted: WantedContent, caller: Caller
    ) -> AsyncGenerator[bytes, None]:
        """Yield a file's bytes; as the interface says."""
        url = self._checked(uri, wanted.field)
        for _ in range(self._rules.max_redirects + 1):
            async with self._answer(url, wanted, caller) as response:
                if response.status not in _REDIRECTS:
                    _check_head(response, wanted)
                    with _broken_off(wanted.field, url):
                        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                            yield chunk
                    return
                location = response.headers.get("Location", "")
            url = self._redirected(url, location, wanted.field)
        raise MaskwireError(
            ErrorCode.SOURCE_UNAVAILABLE,
            f"{wanted.field}: it redirects more than {self._rules.max_redirects} times",
        )

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        await self._resolver.close()

    def _checked(self, uri: str, field: str) -> HttpsUrl:
        try:
            url = read_https_url(uri)
        except ValueError as error:
            raise invalid_field(field, str(error)) from None
        try:
            self._rules.check(url)
        except ValueError as error:
            raise MaskwireError(ErrorCode.SOURCE_FORBIDDEN, f"{field}: {error}") from None
        return url

    def _redirected(self, url: HttpsUrl, location: str, field: str) -> HttpsUrl:
        """Return where a host sends to, which is no more trusted than what callers send."""
        try:
            target = read_https_url(urljoin(str(url), location))
            self._rules.check(target)
        except ValueError as error:
            _log.info("a redirect was not followed", host=url.host, reason=str(error))
            raise MaskwireError(
                ErrorCode.SOURCE_FORBIDDEN,
                f"{field}: it redirects to where this server does not fetch from",
            ) from None
        return target

    @asynccontextmanager
    async def _answer(
        self, url: HttpsUrl, wanted: WantedContent, caller: Caller
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Give the head of the answer to a request; its body is yet to come."""
        with _unreachable(wanted.field, url), self._resolver.on_behalf_of(caller.tenant):
            response = await self._client().get(
                URL(str(url), encoded=True),
                headers={
                    "Accept": ", ".join((*sorted(wanted.media_types), "*/*;q=0.1")),
                    "Accept-Encoding": "identity",
                    "User-Agent": _USER_AGENT,
                },
                allow_redirects=False,
            )
        async with response:
            yield response

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, connect=self._rules.connect_timeout_s)
            self._session = open_session(
                self._tls, timeout, self._rules.may_connect, self._resolver
            )
        return self._session


def _check_head(response: aiohttp.ClientResponse, wanted: WantedContent) -> None:
    """Refuse an answer by its head, before its body is read."""
    if response.status != _OK:
        raise MaskwireError(
            ErrorCode.SOURCE_UNAVAILABLE,
            f"{wanted.field}: the host answered with the status {response.status}",
        )
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding != "identity":
        raise invalid_field(wanted.field, "must be served without a content encoding")
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type and media_type not in wanted.media_types | BYTES_OF_ANY_KIND:
        known = ", ".join(sorted(wanted.media_types))
        raise invalid_field(wanted.field, f"must be served as one of {known}")
    if response.content_length is not None:
        wanted.check_size(response.content_length)


@contextmanager
def _unreachable(field: str, url: HttpsUrl) -> Iterator[None]:
    """Tell every failure to get an answer in the same words."""
    try:
        yield
    # ValueError: what aiohttp and the system's resolver raise for some names that are none.
    except (aiohttp.ClientError, OSError, ValueError) as error:
        _log.info("a source could not be fetched", host=url.host, reason=str(error)[:500])
        raise MaskwireError(
            ErrorCode.SOURCE_UNAVAILABLE,
            f"{field}: no answer over HTTPS came from a public address of that host",
        ) from None


@contextmanager
def _broken_off(field: str, url: HttpsUrl) -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientError, OSError) as error:
        _log.info("a source broke off", host=url.host, reason=str(error)[:500])
        raise MaskwireError(
            ErrorCode.SOURCE_UNAVAILABLE,
            f"{field}: the connection broke before everything had come",
        ) from None
