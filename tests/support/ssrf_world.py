"""Tries the matrix of `ssrf_cases` where every address is this machine; prints what happened.

A program, run by `run_in_own_network`. HTTPS is answered at every address, private ones and clouds'
metadata included, so that nothing but the server's own rules keeps it from them. Connections are
seen twice: as packets, whoever sends them, and as this process's calls of `connect`.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import grpc
import trustme
from aiohttp import web
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from PIL import Image

from maskwire.v1 import segmentation_pb2, segmentation_pb2_grpc
from maskwire_server.app import Application
from maskwire_server.composition.sources import build_sources
from maskwire_server.domain.errors import MaskwireError
from maskwire_server.domain.images import ImageFormat, identify_format
from maskwire_server.domain.remote_sources import RemoteSources, WantedContent
from maskwire_server.domain.segmentation import Caller
from maskwire_server.observability.metrics import Metrics
from maskwire_server.settings import Settings
from tests.support.name_server import ScriptedNames, serving_names
from tests.support.own_network import ConnectionWatch, set_up_network
from tests.support.ssrf_cases import CASES, FETCHED
from tests.support.ssrf_hosts import GOOD, HOSTS, PRIVATE, PUBLIC_IPV4, PUBLIC_IPV6, SLOW
from tests.support.ssrf_hosts import SETTINGS as VARIANTS
from tests.support.ssrf_outcomes import Outcome

FETCHES_OF_A_TENANT = 4
_METADATA = "169.254.169.254"
_PORTS = (443, 8443)
_MAPPED = f"::ffff:{PUBLIC_IPV4}"
_CERTIFIED = (*HOSTS, PUBLIC_IPV4, _MAPPED, PUBLIC_IPV6, PRIVATE, _METADATA, "127.0.0.1", "::1")

_SEEN = "prompts[0].point.point: "
"""How the server's answer begins where it saw the picture."""


class Witness:
    """Sees connections, in both ways."""

    def __init__(self) -> None:
        self._watch = ConnectionWatch()
        self._calls: set[tuple[str, int]] = set()
        self.ignored: set[tuple[str, int]] = set()
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect" and isinstance(arguments[1], tuple):
            connected = arguments[0]
            # Nobody is connected to by a datagram: the resolver's choice of a source address.
            if connected.type == socket.SOCK_STREAM:
                self._calls.add((str(arguments[1][0]), int(arguments[1][1])))

    def forget(self) -> None:
        self._watch.take()
        self._calls.clear()

    def seen(self) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
        """Return what was connected to, as packets and as calls, and forget it."""
        packets, calls = self._watch.take() - self.ignored, self._calls - self.ignored
        self._calls.clear()
        return sorted(packets), sorted(calls)


Trying = Callable[[str], Coroutine[Any, Any, tuple[str, str]]]
"""Tries a URI once; returns what became of it and what the caller was told."""


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        set_up_network(folder)
        outcomes = asyncio.run(run(folder))
    print(json.dumps([asdict(outcome) for outcome in outcomes]))


async def run(folder: Path) -> list[Outcome]:
    """Try every case."""
    names, witness = ScriptedNames(HOSTS), Witness()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    outcomes = [control(witness)]
    async with AsyncExitStack() as resources:
        resources.enter_context(serving_names(names))
        await resources.enter_async_context(serving_files(authority))
        for variant in VARIANTS:
            sources = await resources.enter_async_context(made_sources(folder, variant))
            outcomes += await tried("adapter", variant, through_adapter(sources), names, witness)
            if variant == "open":
                outcomes.append(await slow_name(sources, names, witness))
                outcomes.append(await many_slow(sources, names, witness))
        server = await resources.enter_async_context(made_server(folder, witness))
        outcomes += await tried("server", "open", server, names, witness)
    return outcomes


def control(witness: Witness) -> Outcome:
    """Connect to where nobody may, to show that this is seen."""
    with (
        socket.create_server((_METADATA, 443)),
        socket.create_connection((_METADATA, 443)),
        socket.create_server(("::1", 22), family=socket.AF_INET6),
        socket.create_connection(("::1", 22)),
    ):
        packets, calls = witness.seen()
    return Outcome("control", "", [], [], packets, calls)


async def tried(
    through: str, variant: str, trying: Trying, names: ScriptedNames, witness: Witness
) -> list[Outcome]:
    outcomes = []
    for case in CASES:
        if case.settings != variant:
            continue
        names.forget()
        witness.forget()
        ends = [await trying(case.uri) for _ in case.outcomes]
        outcomes.append(
            Outcome(
                case.name,
                through,
                [end for end, _ in ends],
                [message for _, message in ends],
                *witness.seen(),
            )
        )
    return outcomes


async def slow_name(sources: RemoteSources, names: ScriptedNames, witness: Witness) -> Outcome:
    """Fetch from a name that is not resolved, and from others meanwhile; tell which end first."""
    trying, ends = through_adapter(sources), list[tuple[str, str]]()

    async def fetch(host: str) -> None:
        ends.append(await trying(f"https://{host}/image.png"))

    witness.forget()
    await asyncio.gather(fetch(SLOW), *[fetch(GOOD) for _ in range(3)])
    names.waiting.acquire()
    outcomes, messages = [end for end, _ in ends], [message for _, message in ends]
    return Outcome("slow name", "adapter", outcomes, messages, *witness.seen())


async def many_slow(sources: RemoteSources, names: ScriptedNames, witness: Witness) -> Outcome:
    """Have a tenant wait for all the names that it may, and give up; who is fetched for then?"""
    slow, other = through_adapter(sources, "slow"), through_adapter(sources, "other")
    good = f"https://{GOOD}/image.png"
    witness.forget()
    waiting = [asyncio.create_task(slow(f"https://{SLOW}/")) for _ in range(FETCHES_OF_A_TENANT)]
    ends = [await other(good)]
    for _ in waiting:
        # A lookup that no thread has taken yet would end with its task.
        await asyncio.to_thread(names.waiting.acquire)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    ends += [await slow(good), await other(good)]
    outcomes, messages = [end for end, _ in ends], [message for _, message in ends]
    return Outcome("many slow names", "adapter", outcomes, messages, *witness.seen())


def settings(folder: Path, variant: str) -> Settings:
    return Settings.read(
        grpc={"port": 0, "drain_notice_s": 0.0},
        metrics={"enabled": False},
        storage={"folder": folder / "files"},
        jobs={"database": folder / "jobs.sqlite", "workers": 0},
        logging={"level": "error"},
        models={"cpu_threads": 1},
        sources={
            "https": {"enabled": True, "ca_file": folder / "authority.pem", **VARIANTS[variant]},
            "timeout_s": 10.0,
            "max_fetches_per_tenant": FETCHES_OF_A_TENANT,
        },
    )


@asynccontextmanager
async def made_sources(folder: Path, variant: str) -> AsyncIterator[RemoteSources]:
    async with AsyncExitStack() as resources:
        yield build_sources(settings(folder, variant), Metrics(), resources)


def through_adapter(sources: RemoteSources, tenant: str = "") -> Trying:
    types = frozenset(known.value for known in ImageFormat)
    wanted = WantedContent("image.uri", 10**6, types, identify_format)

    async def trying(uri: str) -> tuple[str, str]:
        try:
            chunks = await sources.fetch(uri, wanted, Caller(tenant, "matrix"))
        except MaskwireError as error:
            return error.code.name, error.message
        assert b"".join(chunks) == picture()
        return FETCHED, ""

    return trying


@asynccontextmanager
async def made_server(folder: Path, witness: Witness) -> AsyncIterator[Trying]:
    application = await Application.start(settings(folder, "open"))
    witness.ignored.add(("127.0.0.1", application.port))
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{application.port}") as channel:
            yield through_server(segmentation_pb2_grpc.SegmentationServiceStub(channel))
    finally:
        await application.stop()


def through_server(stub: Any) -> Trying:
    async def trying(uri: str) -> tuple[str, str]:
        request = segmentation_pb2.SegmentImageRequest()
        request.image.uri = uri
        # Outside the picture, which the server knows once it has it; no network then runs.
        request.prompts.add().point.point.x = 1000
        try:
            await stub.SegmentImage(request, timeout=60)
        except grpc.aio.AioRpcError as error:
            message = error.details() or ""
            is_fetched = message.startswith(_SEEN)
            return (FETCHED, "") if is_fetched else (reason_of(error), message)
        raise AssertionError("a point outside the picture was taken")

    return trying


def reason_of(error: Any) -> str:
    """Return the code of the domain's error."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    for detail in status.details if status is not None else ():
        if detail.Unpack(info):
            return info.reason
    return error.code().name


@asynccontextmanager
async def serving_files(authority: trustme.CA) -> AsyncIterator[None]:
    """Answer HTTPS at every address there is."""
    application = web.Application()
    application.router.add_get("/to/{status}/{location:.*}", redirected)
    application.router.add_get("/chain/{left}", chained)
    application.router.add_get("/loop", looped)
    application.router.add_get("/{path:.*}", served)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*_CERTIFIED).configure_cert(tls)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        for port in _PORTS:
            for host in ("0.0.0.0", "::"):
                await web.TCPSite(runner, host, port, ssl_context=tls).start()
        yield
    finally:
        await runner.cleanup()


async def served(request: web.Request) -> web.Response:
    return web.Response(body=picture(), content_type="image/png")


async def redirected(request: web.Request) -> web.Response:
    written = request.match_info["location"]
    headers = {"Location": base64.urlsafe_b64decode(written).decode()} if written else {}
    return web.Response(status=int(request.match_info["status"]), headers=headers)


async def chained(request: web.Request) -> web.Response:
    left = int(request.match_info["left"])
    target = f"/chain/{left - 1}" if left > 1 else "/image.png"
    return web.Response(status=302, headers={"Location": target})


async def looped(request: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": "/loop"})


def picture() -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(written, "PNG")
    return written.getvalue()


if __name__ == "__main__":
    main()
