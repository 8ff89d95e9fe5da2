"""A receiver of webhooks on loopback, over HTTPS with a certificate of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from typing import Any

import trustme
from aiohttp import web
from standardwebhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Certificate:
    """The receiver's certificate for loopback with its key, and the authority that made it."""

    authority: Path
    chain: Path


@dataclass(frozen=True)
class Received:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    def verified(self, secret: str = SECRET) -> Any:
        """Return what it says; raises what the library raises if its signature is wrong."""
        return Webhook(secret).verify(self.body, self.headers)


@dataclass
class Receiver:
    """Answers with scripted statuses, and with 200 when they are used up.

    Attributes:
        port: Where it listens.
        received: The requests so far.
        statuses: The next answers.
        answer: Answers instead, where it is set.
    """

    port: int = 0
    received: list[Received] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    answer: Answer | None = None
    _came: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/hook"

    async def requests(self, count: int) -> list[Received]:
        """Return the requests once there are so many."""
        async with asyncio.timeout(20), self._came:
            await self._came.wait_for(lambda: len(self.received) >= count)
        return self.received

    async def handle(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        async with self._came:
            self.received.append(Received(request.path, headers, await request.read()))
            self._came.notify_all()
        if self.answer is not None:
            return await self.answer(request)
        status = self.statuses.pop(0) if self.statuses else 200
        headers = {"Location": "/elsewhere"} if status in (301, 302, 307, 308) else {}
        return web.Response(status=status, headers=headers)


def make_certificate(folder: Path) -> Certificate:
    """Make an authority and a certificate."""
    made = Certificate(folder / "authority.pem", folder / "receiver.pem")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(made.authority)
    issued = authority.issue_cert("127.0.0.1", "localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(made.chain)
    return made


@asynccontextmanager
async def receiving(certificate: Certificate) -> AsyncIterator[Receiver]:
    """Run a receiver."""
    receiver = Receiver()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    tls = SSLContext(PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate.chain)
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        receiver.port = runner.addresses[0][1]
        yield receiver
    finally:
        await runner.cleanup()
