"""An HTTPS server on loopback that serves files in all the ways that hosts do, good and bad."""

from __future__ import annotations

import asyncio
import gzip
import io
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trustme
from aiohttp import web
from PIL import Image

CHUNK = bytes(64 * 1024)


def png(width_px: int = 24, height_px: int = 16) -> bytes:
    """Return a picture that is more than 128 bytes."""
    written = io.BytesIO()
    Image.effect_noise((width_px, height_px), 50).convert("RGB").save(written, "PNG")
    return written.getvalue()


@dataclass
class FileHost:
    """The server.

    Attributes:
        port: Where it listens.
        picture: What `/picture` serves, and the other paths in other ways.
        requests: Headers of every request so far, in lower case.
        ended: Set when an answer without end was ended by the client.
        begun: Set when an answer without end has begun.
        sent_bytes: How much of one was sent.
    """

    port: int = 0
    picture: bytes = field(default_factory=png)
    requests: list[dict[str, str]] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    sent_bytes: int = 0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"https://{host}:{self.port}/{path}"

    async def picture_as(self, request: web.Request) -> web.Response:
        """Serve the picture under the media type of the query, or none."""
        response = web.Response(body=self.picture)
        named = request.query.get("type")
        if named is None:
            response.headers.popall("Content-Type", None)
        else:
            response.headers["Content-Type"] = named
        response.headers["Set-Cookie"] = "session=1; Path=/; Secure"
        return response

    async def gzipped(self, request: web.Request) -> web.Response:
        """Serve a picture that unpacks to much more."""
        packed = gzip.compress(self.picture + bytes(10**7))
        headers = {"Content-Encoding": request.query.get("as", "gzip")}
        return web.Response(body=packed, content_type="image/png", headers=headers)

    async def page(self, request: web.Request) -> web.StreamResponse:
        """Serve a page without end that calls itself a picture."""
        return await self._endless(request, b"<html>" + CHUNK)

    async def endless(self, request: web.Request) -> web.StreamResponse:
        """Serve a picture without end."""
        return await self._endless(request, self.picture)

    async def stalling(self, request: web.Request) -> web.StreamResponse:
        """Serve the beginning of a picture and nothing more."""
        return await self._endless(request, self.picture[:200], more=b"")

    async def silent(self, request: web.Request) -> web.StreamResponse:
        """Answer nothing at all."""
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()
        raise AssertionError

    async def large(self, request: web.Request) -> web.StreamResponse:
        """State a size that is too much, and send it."""
        response = web.StreamResponse(headers={"Content-Type": "image/png"})
        response.content_length = 10**12
        return await self._written(request, response, self.picture, CHUNK)

    async def cut_off(self, request: web.Request) -> web.StreamResponse:
        """State a size and break off before."""
        response = web.StreamResponse(headers={"Content-Type": "image/png"})
        response.content_length = 10**5
        await response.prepare(request)
        await response.write(self.picture)
        assert request.transport is not None
        request.transport.abort()
        return response

    async def status(self, request: web.Request) -> web.Response:
        """Serve the picture under any status."""
        return web.Response(
            status=int(request.match_info["status"]), body=self.picture, content_type="image/png"
        )

    async def long_header(self, request: web.Request) -> web.Response:
        headers = {"X-Long": "x" * 20_000}
        return web.Response(body=self.picture, content_type="image/png", headers=headers)

    async def _endless(
        self, request: web.Request, start: bytes, more: bytes = CHUNK
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "image/png"})
        return await self._written(request, response, start, more)

    async def _written(
        self, request: web.Request, response: web.StreamResponse, start: bytes, more: bytes
    ) -> web.StreamResponse:
        try:
            await response.prepare(request)
            await response.write(start)
            self.begun.set()
            while more:
                await response.write(more)
                self.sent_bytes += len(more)
                # A write that need not wait does not: the end of the connection would go unseen.
                await asyncio.sleep(0)
            await asyncio.Event().wait()
        finally:
            self.ended.set()
        return response


@asynccontextmanager
async def serving_files(folder: Path, *names: str) -> AsyncIterator[FileHost]:
    """Run a server whose certificate is for these names; its authority is `authority.pem`."""
    host = FileHost()
    application = web.Application(middlewares=[_remembering(host)])
    for path, handler in {
        "/picture": host.picture_as,
        "/gzip": host.gzipped,
        "/page": host.page,
        "/endless": host.endless,
        "/stalling": host.stalling,
        "/silent": host.silent,
        "/large": host.large,
        "/cut-off": host.cut_off,
        "/status/{status}": host.status,
        "/long-header": host.long_header,
    }.items():
        application.router.add_get(path, handler)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or ("127.0.0.1", "localhost"))).configure_cert(tls)
    runner = web.AppRunner(
        application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        host.port = runner.addresses[0][1]
        yield host
    finally:
        await runner.cleanup()


def _remembering(host: FileHost):
    @web.middleware
    async def remember(request: web.Request, handler):
        host.requests.append({name.lower(): value for name, value in request.headers.items()})
        return await handler(request)

    return remember
