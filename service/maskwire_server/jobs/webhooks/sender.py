"""Sends signed reports over HTTPS to addresses that callers named.

Callers could name anything, so the address is checked when a socket is about to be opened to it,
after all names are resolved; redirects are not followed, proxies of the environment are not used,
and next to nothing of the answer is read.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import aiohttp
from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError

from ...domain.addresses import is_public_address
from ...domain.jobs.webhooks import WebhookAnswer, WebhookReport, WebhookSender
from ...outgoing_https import AddressForbidden, any_address, open_session

_MAX_ANSWER_BYTES = 4096
"""Most that is read of an answer's body, which nobody looks at."""
_USER_AGENT = "maskwire-webhooks"


class HttpWebhookSender(WebhookSender):
    """Sends reports with one client; made on the event loop that uses it."""

    def __init__(
        self,
        secret: str,
        timeout: timedelta,
        now: Callable[[], datetime],
        *,
        ca_file: Path | None = None,
        allow_private_addresses: bool = False,
    ) -> None:
        """Prepare to send.

        Args:
            secret: Signing secret, `whsec_` and base 64.
            timeout: Longest time of one attempt.
            now: Tells the time, in UTC.
            ca_file: Certificates to trust instead of the system's.
            allow_private_addresses: Send to addresses that are not public, too.

        Raises:
            ValueError: The secret is not one; the message does not show it.
            OSError: `ca_file` cannot be read, or holds no certificate.
        """
        self._signer = _signer(secret)
        self._now = now
        self._may_connect = any_address if allow_private_addresses else is_public_address
        self._tls = ssl.create_default_context(cafile=ca_file)
        self._timeout = aiohttp.ClientTimeout(total=timeout.total_seconds())
        self._session: aiohttp.ClientSession | None = None

    async def send(self, report: WebhookReport) -> WebhookAnswer:
        """Send a report; as the interface says."""
        if not report.url.startswith("https://"):
            return WebhookAnswer(0, "the URL does not begin with https://", is_forbidden=True)
        body = json.dumps(report.content, separators=(",", ":"))
        session = self._client()
        try:
            async with session.post(
                report.url,
                data=body.encode(),
                headers=self._headers(report.report_id, body),
                allow_redirects=False,
            ) as response:
                # What matters is known by now; reading only lets the receiver end in peace.
                with suppress(aiohttp.ClientError, OSError):
                    await response.content.read(_MAX_ANSWER_BYTES)
                return WebhookAnswer(response.status)
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, AddressForbidden):
                return WebhookAnswer(0, str(error.os_error), is_forbidden=True)
            return WebhookAnswer(0, _problem(error))
        except TimeoutError:
            return WebhookAnswer(0, f"no answer within {self._timeout.total:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # ValueError: what aiohttp raises for some URLs that are none.
            return WebhookAnswer(0, _problem(error))

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = open_session(self._tls, self._timeout, self._may_connect)
        return self._session

    def _headers(self, report_id: str, body: str) -> dict[str, str]:
        now = self._now()
        return {
            "Content-Type": "application/json",
            "User-Agent": _USER_AGENT,
            "webhook-id": report_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer.sign(report_id, now, body),
        }


def _signer(secret: str) -> Webhook:
    try:
        return Webhook(secret)
    except (ValueError, EmptyWebhookSecretError):
        pass
    raise ValueError("the webhook secret is not whsec_ and base 64")


def _problem(error: Exception) -> str:
    """Return what went wrong, in words that tell nothing about the server's own network."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return "the TLS connection failed"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the host's name was not found"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "no connection"
    if isinstance(error, aiohttp.InvalidURL):
        return "the URL is not one"
    return "the connection broke"
