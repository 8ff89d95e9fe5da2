"""A real gRPC server of live sessions over the colour engine, on a thread of the test's process."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from maskwire.v1 import realtime_pb2, realtime_pb2_grpc
from maskwire_server.composition.limits import image_limits, session_limits
from maskwire_server.domain.executor import BoundedExecutor
from maskwire_server.domain.image_access import ImageAccess
from maskwire_server.domain.models import ModelRegistry, ServedModel
from maskwire_server.domain.sessions.service import SessionService
from maskwire_server.observability.metrics import Metrics
from maskwire_server.settings import GrpcSettings, SessionSettings, Settings
from maskwire_server.transport.server import build_server
from maskwire_server.transport.services import DomainServices
from tests.support.colour_engine import ColourEngine

ANSWER_TIMEOUT_S = 30.0


@dataclass
class SessionServer:
    """The server with what a test looks into."""

    address: str
    engine: ColourEngine
    metrics: Metrics

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


@contextmanager
def session_server(**sessions: Any) -> Iterator[SessionServer]:
    """Serve sessions on a free port; `sessions` are settings of the group of that name."""
    settings = Settings(
        grpc=GrpcSettings(port=0, drain_notice_s=0.0, shutdown_grace_s=2.0),
        sessions=SessionSettings(**sessions),
    )
    engine, metrics = ColourEngine(), Metrics()
    started: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        device = BoundedExecutor("cpu", 1, 16, metrics)
        pixels = BoundedExecutor("pixels", 2, 64, metrics)
        models = ModelRegistry([ServedModel(engine, device, is_default=True)])
        images = ImageAccess(
            pixels,
            image_limits(settings),
            metrics,
            embedding_budget_bytes=2**20,
            image_budget_bytes=2**20,
        )
        service = SessionService(models, images, pixels, metrics, session_limits(settings))
        unused: Any = None  # only sessions are called
        domain = DomainServices(
            segmentation=unused, auto_segmentation=unused, models=models, sessions=service
        )
        server = build_server(settings, domain, metrics)
        await server.start()
        ending = asyncio.Event()
        started.set_result((server.port, asyncio.get_running_loop(), ending))
        await ending.wait()
        service.begin_drain(0.5)
        await server.drain_and_stop(notice_s=0.0, grace_s=2.0)
        for executor in (device, pixels):
            await asyncio.to_thread(executor.close)

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=run, name="session-server")
    thread.start()
    port, loop, ending = started.result(60)
    try:
        yield SessionServer(f"127.0.0.1:{port}", engine, metrics)
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join()


class Stream:
    """One session at the level of messages: what is said, and what is heard."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._said: queue.Queue[realtime_pb2.RunSessionRequest | None] = queue.Queue()
        stub = realtime_pb2_grpc.RealtimeServiceStub(channel)
        self.call = stub.RunSession(iter(self._said.get, None))
        self._heard: queue.Queue[realtime_pb2.RunSessionResponse | grpc.RpcError | None] = (
            queue.Queue()
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def say(self, **message: Any) -> None:
        self._said.put(realtime_pb2.RunSessionRequest(**message))

    def half_close(self) -> None:
        self._said.put(None)

    def cancel(self) -> None:
        self.call.cancel()
        self._said.put(None)
        self._reader.join(ANSWER_TIMEOUT_S)
        assert not self._reader.is_alive()

    def hear(self) -> realtime_pb2.RunSessionResponse:
        """Return the next answer; raise what ends the stream in its place."""
        heard = self._heard.get(timeout=ANSWER_TIMEOUT_S)
        if isinstance(heard, grpc.RpcError):
            raise heard
        assert heard is not None, "the stream ended"
        return heard

    def hear_end(self) -> grpc.StatusCode:
        """Return the status of the stream, which says nothing more."""
        heard = self._heard.get(timeout=ANSWER_TIMEOUT_S)
        self._said.put(None)
        assert heard is None or isinstance(heard, grpc.RpcError), heard
        code: grpc.StatusCode = self.call.code()
        return code

    def ask(self, **message: Any) -> realtime_pb2.RunSessionResponse:
        self.say(**message)
        return self.hear()

    def _read(self) -> None:
        try:
            for response in self.call:
                self._heard.put(response)
        except grpc.RpcError as error:
            self._heard.put(error)
        else:
            self._heard.put(None)
