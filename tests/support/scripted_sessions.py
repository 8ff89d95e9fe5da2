"""A real gRPC server whose sessions do what a test writes down, or else what the contract says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import numpy as np
from google.rpc import code_pb2, status_pb2

from maskwire.v1 import (
    geometry_pb2,
    image_pb2,
    mask_pb2,
    processing_pb2,
    realtime_pb2,
    realtime_pb2_grpc,
)
from maskwire_client import CocoRleCounts

Request = realtime_pb2.RunSessionRequest
Response = realtime_pb2.RunSessionResponse
SIZE = geometry_pb2.ImageSize(width_px=8, height_px=6)


@dataclass
class Stream:
    """One stream as the server sees it.

    Attributes:
        config: Its config.
        first_sequence: The number of that.
        requests: What came after it, in order.
        object_ids: Objects of the session.
        has_ended: Set when the stream is over, however.
    """

    config: realtime_pb2.SessionConfig
    first_sequence: int
    requests: list[Request] = field(default_factory=list)
    object_ids: list[int] = field(default_factory=list)
    has_ended: asyncio.Event = field(default_factory=asyncio.Event)

    def frames(self) -> list[Request]:
        return [request for request in self.requests if request.HasField("frame")]


Answer = Callable[[Request, Stream], list[Response]]


def answer(request: Request, stream: Stream) -> list[Response]:
    """Answer as the contract says: every object is a square whose place tells the frame."""
    kind = request.WhichOneof("message")
    if kind == "frame":
        _add_objects(list(request.frame.prompts), stream)
        return [frame_result(request, stream)]
    if kind == "prompts":
        _add_objects(list(request.prompts.prompts), stream)
        return [frame_result(request, stream)]
    return _answer_control(request, stream)


def _add_objects(prompts, stream: Stream) -> None:
    for prompt in prompts:
        object_id = prompt.object_id or max(stream.object_ids, default=0) + 1
        if object_id not in stream.object_ids:
            stream.object_ids.append(object_id)


def _answer_control(request: Request, stream: Stream) -> list[Response]:
    control, sequence = request.control, request.sequence
    match control.WhichOneof("control"):
        case "export_seed":
            return [Response(sequence=sequence, seed=seed(stream, sequence))]
        case "remove_objects":
            removed = set(control.remove_objects.object_ids)
            stream.object_ids = [one for one in stream.object_ids if one not in removed]
        case "reset":
            stream.object_ids = []
        case "end":
            return [Response(sequence=sequence, ended=realtime_pb2.SessionEnded())]
    acknowledged = realtime_pb2.SessionAcknowledgement(object_ids=stream.object_ids)
    return [Response(sequence=sequence, acknowledgement=acknowledged)]


def seed(stream: Stream, last_sequence: int = 0) -> realtime_pb2.SessionSeed:
    """Return a seed that holds the objects."""
    data = json.dumps(stream.object_ids).encode()
    return realtime_pb2.SessionSeed(seed=data, last_sequence=last_sequence)


def frame_result(
    request: Request,
    stream: Stream,
    *,
    dropped: list[realtime_pb2.DroppedFrame] | None = None,
    masks: list[realtime_pb2.TrackedMask] | None = None,
) -> Response:
    """Return the result of a frame or of prompts."""
    frame_id = request.frame.frame_id if request.HasField("frame") else request.prompts.frame_id
    result = realtime_pb2.SessionFrameResult(
        frame_id=frame_id,
        capture_time=request.frame.capture_time if request.frame.HasField("capture_time") else None,
        masks=[square(one, frame_id) for one in stream.object_ids] if masks is None else masks,
        dropped_frames=dropped or (),
        info=processing_pb2.ProcessingInfo(image=image_pb2.ImageInfo(size=SIZE)),
    )
    return Response(sequence=request.sequence, frame_result=result)


def square(object_id: int, frame_id: int) -> realtime_pb2.TrackedMask:
    """Return the mask of an object in a frame, 2 × 2 pixels."""
    encoded = CocoRleCounts.encode(square_bitmap(frame_id))
    counts = mask_pb2.CocoRleCounts(size=SIZE, counts=encoded.counts)
    return realtime_pb2.TrackedMask(
        mask=mask_pb2.Mask(
            object_id=object_id, area_px=4, mask=mask_pb2.EncodedMask(coco_rle_counts=counts)
        ),
        state=realtime_pb2.OBJECT_STATE_TRACKED,
    )


def square_bitmap(frame_id: int) -> np.ndarray:
    """Return where the square of a frame is."""
    bitmap = np.zeros((SIZE.height_px, SIZE.width_px), dtype=bool)
    left = frame_id % (SIZE.width_px - 1)
    bitmap[2:4, left : left + 2] = True
    return bitmap


def error(request: Request, code: int, message: str) -> Response:
    """Return an in-band error."""
    status = status_pb2.Status(code=code, message=message)
    return Response(sequence=request.sequence, error=status)


def dropped(
    request: Request, reason: realtime_pb2.DropReason.ValueType = realtime_pb2.DROP_REASON_STALE
) -> realtime_pb2.DroppedFrame:
    """Return the account of a frame without an answer of its own."""
    return realtime_pb2.DroppedFrame(
        sequence=request.sequence, frame_id=request.frame.frame_id, reason=reason
    )


INVALID_ARGUMENT = code_pb2.INVALID_ARGUMENT


@dataclass
class SessionScript(realtime_pb2_grpc.RealtimeServiceServicer):
    """Runs sessions.

    Attributes:
        answers: What to say to each request; by default what the contract says.
        refusals: Statuses with which the next streams end before they start.
        streams: The streams so far.
        reads: Released once for each request that the server reads; None reads all.
        arrived: Notified with each request.
    """

    answers: Answer = answer
    refusals: list[grpc.StatusCode] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    reads: asyncio.Semaphore | None = None
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def wait_for_frames(self, count: int, stream: int = 0) -> None:
        """Wait until so many frames of one stream have come."""
        async with self.arrived:
            await self.arrived.wait_for(
                lambda: len(self.streams) > stream and len(self.streams[stream].frames()) >= count
            )

    async def RunSession(self, request_iterator, context):  # noqa: N802 - the contract's name
        if self.refusals:
            await context.abort(self.refusals.pop(0), "refused by the script")
        first = await anext(request_iterator)
        stream = Stream(first.config, first.sequence)
        self.streams.append(stream)
        if first.config.resume_seed:
            stream.object_ids = json.loads(first.config.resume_seed)
        try:
            yield _started(first.sequence, stream, len(self.streams))
            while True:
                if self.reads is not None:
                    await self.reads.acquire()
                try:
                    request = await anext(request_iterator)
                except StopAsyncIteration:
                    return
                async with self.arrived:
                    stream.requests.append(request)
                    self.arrived.notify_all()
                for response in self.answers(request, stream):
                    if response is GO_AWAY:
                        await context.abort(grpc.StatusCode.UNAVAILABLE, "the server stops")
                    if response is IDLE:
                        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "idle too long")
                    yield response
        finally:
            stream.has_ended.set()


GO_AWAY = Response(sequence=1 << 60)
"""Among the answers: ends the stream with UNAVAILABLE."""
IDLE = Response(sequence=1 << 61)
"""Among the answers: ends the stream with DEADLINE_EXCEEDED, as after a time of silence."""


def _started(sequence: int, stream: Stream, number: int) -> Response:
    started = realtime_pb2.SessionStarted(
        session_id=f"session-{number}",
        model=processing_pb2.ModelReference(model="toy", checkpoint_digest="sha256:0"),
        resumed_object_ids=stream.object_ids,
        max_objects=16,
        held_frames=1,
    )
    started.idle_timeout.FromSeconds(60)
    started.lease.FromSeconds(3600)
    return Response(sequence=sequence, started=started)


@asynccontextmanager
async def serving_sessions(script: SessionScript, port: int = 0) -> AsyncIterator[str]:
    """Serve a script on a port of the loopback interface; give its address."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    realtime_pb2_grpc.add_RealtimeServiceServicer_to_server(script, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{bound}"
    finally:
        await server.stop(None)
