"""Real traffic for a real server: cameras as live sessions, and calls on one image.

Small on purpose: it measures what one frame and one call cost, and gives the simulation something
to be compared with. For load tests there is `maskwire bench load`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import grpc

from maskwire.v1 import (
    geometry_pb2,
    image_pb2,
    processing_pb2,
    prompt_pb2,
    realtime_pb2,
    realtime_pb2_grpc,
    segmentation_pb2,
    segmentation_pb2_grpc,
)

MESSAGE_BYTES = 64 * 2**20
_DEADLINE_S = 1200.0


@dataclass(slots=True)
class Seen:
    """What a camera or a caller saw.

    Attributes:
        sent: Frames or calls sent.
        latencies_s: From sending to the answer, for each answered one.
        timings: What the server said about each answered one.
        request_bytes: Size of the requests.
        response_bytes: Size of the answers.
    """

    sent: int = 0
    latencies_s: list[float] = field(default_factory=list)
    timings: list[processing_pb2.Timings] = field(default_factory=list)
    request_bytes: list[int] = field(default_factory=list)
    response_bytes: list[int] = field(default_factory=list)

    @property
    def dropped(self) -> int:
        """Frames that have no answer."""
        return self.sent - len(self.latencies_s)


async def one_by_one(
    address: str, frames: Sequence[bytes], clicks: Sequence[prompt_pb2.Prompt]
) -> Seen:
    """Send frames to one session, each once the one before is answered; the first is left out."""
    seen = Seen()
    async with _channel(address) as channel:
        call = realtime_pb2_grpc.RealtimeServiceStub(channel).RunSession(timeout=_DEADLINE_S)
        await call.write(_config(realtime_pb2.DROP_POLICY_PROCESS_ALL))
        await call.read()
        for number, data in enumerate(frames):
            request = _frame(number, data, () if number else clicks)
            started = time.perf_counter()
            await call.write(request)
            response = _answer(await call.read())
            if number:
                seen.sent += 1
                seen.latencies_s.append(time.perf_counter() - started)
                seen.timings.append(response.frame_result.info.timings)
                seen.request_bytes.append(request.ByteSize())
                seen.response_bytes.append(response.ByteSize())
        await call.done_writing()
        while await call.read() is not grpc.aio.EOF:
            pass
    return seen


async def camera(
    address: str,
    frames: Sequence[bytes],
    clicks: Sequence[prompt_pb2.Prompt],
    *,
    frames_per_s: float,
    offset_s: float,
    seconds: float,
) -> Seen:
    """Send frames at a rate to a session that keeps the latest only, whatever the answers do."""
    seen, sent_at = Seen(), dict[int, float]()
    async with _channel(address) as channel:

        async def requests() -> AsyncIterator[realtime_pb2.RunSessionRequest]:
            yield _config(realtime_pb2.DROP_POLICY_LATEST_ONLY)
            yield _frame(0, frames[0], clicks)
            await is_tracking.wait()
            begin = time.perf_counter() + offset_s
            for number in range(1, int(frames_per_s * seconds) + 1):
                due = begin + (number - 1) / frames_per_s
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                sent_at[number] = time.perf_counter()
                seen.sent += 1
                yield _frame(number, frames[number % len(frames)])

        is_tracking = asyncio.Event()
        stub = realtime_pb2_grpc.RealtimeServiceStub(channel)
        async for received in stub.RunSession(requests(), timeout=_DEADLINE_S):
            response = _answer(received)
            if response.HasField("frame_result"):
                is_tracking.set()
                sent_s = sent_at.pop(response.frame_result.frame_id, None)
                if sent_s is not None:
                    seen.latencies_s.append(time.perf_counter() - sent_s)
                    seen.timings.append(response.frame_result.info.timings)
    return seen


async def segment(
    address: str, images: Sequence[image_pb2.ImageSource], clicks: Sequence[prompt_pb2.Prompt]
) -> Seen:
    """Prompt images, one call after the other; the first is left out."""
    seen = Seen()
    async with _channel(address) as channel:
        stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
        for number, image in enumerate(images):
            request = segmentation_pb2.SegmentImageRequest(image=image, prompts=clicks)
            started = time.perf_counter()
            response = await stub.SegmentImage(request, timeout=_DEADLINE_S)
            if number:
                seen.sent += 1
                seen.latencies_s.append(time.perf_counter() - started)
                seen.timings.append(response.info.timings)
                seen.request_bytes.append(request.ByteSize())
                seen.response_bytes.append(response.ByteSize())
    return seen


def click(x: float, y: float, object_id: int) -> prompt_pb2.Prompt:
    """Return a foreground point on an object."""
    return prompt_pb2.Prompt(
        point=prompt_pb2.PointPrompt(
            point=geometry_pb2.Point(x=x, y=y), label=prompt_pb2.POINT_LABEL_FOREGROUND
        ),
        object_id=object_id,
    )


def _channel(address: str) -> grpc.aio.Channel:
    sizes = ("grpc.max_receive_message_length", "grpc.max_send_message_length")
    return grpc.aio.insecure_channel(address, [(name, MESSAGE_BYTES) for name in sizes])


def _config(policy: realtime_pb2.DropPolicy.ValueType) -> realtime_pb2.RunSessionRequest:
    config = realtime_pb2.SessionConfig(drop_policy=policy)
    return realtime_pb2.RunSessionRequest(sequence=1, config=config)


def _frame(
    number: int, data: bytes, clicks: Sequence[prompt_pb2.Prompt] = ()
) -> realtime_pb2.RunSessionRequest:
    image = image_pb2.ImageSource(data=data)
    frame = realtime_pb2.SessionFrame(image=image, frame_id=number, prompts=clicks)
    return realtime_pb2.RunSessionRequest(sequence=number + 2, frame=frame)


def _answer(response: object) -> realtime_pb2.RunSessionResponse:
    if not isinstance(response, realtime_pb2.RunSessionResponse):
        raise RuntimeError("the server ended the session")
    if response.HasField("error"):
        raise RuntimeError(f"the server refused a frame: {response.error.message}")
    return response
