"""One servicer method of each kind of RPC, and how tests call them."""

# ruff: noqa: N802  # the methods carry the contract's names
# Servicers that lack methods, which then are unimplemented, are what the tests need.
# mypy: disable-error-code="abstract"
from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import grpc
import pytest

from maskwire.v1 import (
    file_pb2,
    file_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    realtime_pb2,
    realtime_pb2_grpc,
    video_pb2,
    video_pb2_grpc,
)

KINDS = ["unary", "server_stream", "client_stream", "bidi_stream"]


class Services(
    model_pb2_grpc.ModelServiceServicer,
    video_pb2_grpc.VideoServiceServicer,
    file_pb2_grpc.FileServiceServicer,
    realtime_pb2_grpc.RealtimeServiceServicer,
):
    """One method of each kind; `act` is what each does before it answers."""

    def __init__(self, act=None):
        self.act = act or self._nothing
        self.ended = asyncio.Event()

    async def _nothing(self):
        return None

    async def GetModel(self, request, context):
        try:
            await self.act()
            return model_pb2.GetModelResponse(model=model_pb2.Model(name=request.name))
        finally:
            self.ended.set()

    async def TrackVideo(self, request, context):
        try:
            await self.act()
            for _ in range(3):
                yield video_pb2.TrackVideoResponse()
        finally:
            self.ended.set()

    async def UploadFile(self, requests, context):
        try:
            count = 0
            async for _ in requests:
                count += 1
            await self.act()
            return file_pb2.UploadFileResponse(file=file_pb2.StoredFile(size_bytes=count))
        finally:
            self.ended.set()

    async def RunSession(self, requests, context):
        try:
            await self.act()
            async for _ in requests:
                yield realtime_pb2.RunSessionResponse()
        finally:
            self.ended.set()


def pairs(servicer: Any) -> Any:
    return (
        (model_pb2_grpc.add_ModelServiceServicer_to_server, servicer),
        (video_pb2_grpc.add_VideoServiceServicer_to_server, servicer),
        (file_pb2_grpc.add_FileServiceServicer_to_server, servicer),
        (realtime_pb2_grpc.add_RealtimeServiceServicer_to_server, servicer),
    )


def start(
    channel: Any, kind: str, *, silent: bool = False, messages: int = 2, **options: Any
) -> Any:
    """Begin a call of one kind.

    Where the client streams, it sends two messages, or none and stays open (`silent`), or one and
    stays open: a server that refuses early then meets no message on its way, which grpc.aio's
    client reports as INTERNAL when it loses that race.
    """
    if kind == "unary":
        stub = model_pb2_grpc.ModelServiceStub(channel)
        return stub.GetModel(model_pb2.GetModelRequest(name="m"), **options)
    if kind == "server_stream":
        stub = video_pb2_grpc.VideoServiceStub(channel)
        return stub.TrackVideo(video_pb2.TrackVideoRequest(), **options)
    if kind == "client_stream":
        stub = file_pb2_grpc.FileServiceStub(channel)
        uploads = _nothing() if silent else iter([file_pb2.UploadFileRequest()] * 2)
        return stub.UploadFile(uploads, **options)
    stub = realtime_pb2_grpc.RealtimeServiceStub(channel)
    requests = [realtime_pb2.RunSessionRequest()] * (0 if silent else messages)
    given = iter(requests) if len(requests) == 2 else _nothing(*requests)
    return stub.RunSession(given, **options)


async def _nothing(*before: Any) -> Any:
    """Yield what comes before, and then nothing, nor an end."""
    for one in before:
        yield one
    await asyncio.Event().wait()
    yield None


async def finish(call: Any, kind: str) -> Any:
    """Return the answers of a call of one kind."""
    if kind in ("unary", "client_stream"):
        return [await call]
    return [response async for response in call]


async def fail(call: Any, kind: str) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await finish(call, kind)
    return raised.value


def raw_call(channel: Any, path: str, request: bytes) -> Any:
    """Begin a unary call with raw bytes."""
    return channel.unary_unary(path)(request)


class Recorder:
    """Counts what the metrics interceptor reports."""

    def __init__(self):
        self.counts: Counter = Counter()
        self.errors: Counter = Counter()
        self.quotas: Counter = Counter()
        self._ended = asyncio.Semaphore(0)

    def call_started(self, *method):
        self.counts["started", *method] += 1

    def call_finished(self, kind, service, method, code, seconds):
        assert seconds >= 0
        self.counts["finished", kind, service, method, code] += 1
        self._ended.release()

    def error_answered(self, code):
        self.errors[code] += 1

    def quota_refused(self, limit):
        self.quotas[limit] += 1

    def message_received(self, *method):
        self.counts["received", *method] += 1

    def message_sent(self, *method):
        self.counts["sent", *method] += 1

    async def codes(self, kind, *, calls=1):
        """Return how many calls of a kind ended with which status, once that many have ended.

        A client knows the status a moment before the server's interceptors have seen it.
        """
        for _ in range(calls):
            await self._ended.acquire()
        return {key[4]: n for key, n in self.counts.items() if key[:2] == ("finished", kind)}

    def messages(self, direction, kind):
        return sum(n for key, n in self.counts.items() if key[:2] == (direction, kind))
