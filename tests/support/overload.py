"""An open-loop load of calls that each need the device, far over what a server can do.

The requests are written before the run and the answers are not read, so that the generator takes
little of the processor that it shares with the server. A latency runs from when a call was due.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from PIL import Image

from maskwire.v1 import segmentation_pb2

METHOD = "/maskwire.v1.SegmentationService/SegmentImage"
WIDTH, HEIGHT = 128, 96
_CALL_TIMEOUT_S = 60.0


def requests(count: int) -> list[bytes]:
    """Return calls about that many pictures, none of which another call has."""
    made = []
    for seed in range(count):
        pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG", compress_level=1)
        request = segmentation_pb2.SegmentImageRequest()
        request.image.data = file.getvalue()
        point = request.prompts.add().point
        point.point.x, point.point.y = WIDTH / 2, HEIGHT / 2
        made.append(request.SerializeToString())
    return made


def percentile_ms(latencies_s: list[float], percent: float) -> float:
    """Return a percentile in milliseconds; of nothing it is 0."""
    return float(np.percentile(latencies_s, percent)) * 1e3 if latencies_s else 0.0


@dataclass(slots=True)
class Load:
    """How calls ended.

    Attributes:
        accepted_s: Latencies of those that were answered.
        refused_s: Latencies of those that were refused because the server was full.
        other: Statuses of those that ended otherwise.
        arrived_s: When the last one was due, on `time.perf_counter`'s clock.
        waits: Of calls made one by one: the time that each waited for the device and for threads,
            in relation to the time that it had them.
    """

    accepted_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    arrived_s: float = 0.0
    waits: list[float] = field(default_factory=list)

    def line(self, name: str) -> str:
        """Return the figures for people."""
        parts = [f"{name}: {len(self.accepted_s)} answered"]
        for what, latencies in (("", self.accepted_s), ("refused", self.refused_s)):
            if latencies:
                p50, p99 = (percentile_ms(latencies, percent) for percent in (50, 99))
                parts.append(
                    f"{what and f'{len(latencies)} refused '}p50 {p50:.1f} ms, p99 {p99:.1f} ms"
                )
        return "; ".join(parts) + (f"; {len(self.other)} otherwise" if self.other else "")


class Caller:
    """Sends calls over a few connections."""

    def __init__(
        self,
        channels: list[grpc.aio.Channel],
        made: list[bytes],
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self._metadata = metadata
        self._methods: Iterator[Any] = itertools.cycle(
            [channel.unary_unary(METHOD) for channel in channels]
        )
        self._requests: Iterator[bytes] = itertools.cycle(made)

    async def call(self, load: Load, due_s: float | None = None) -> bytes:
        """Make one call; return what is answered, if it is."""
        began = time.perf_counter() if due_s is None else due_s
        try:
            answer: bytes = await next(self._methods)(
                next(self._requests), timeout=_CALL_TIMEOUT_S, metadata=self._metadata
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                load.refused_s.append(time.perf_counter() - began)
            else:
                load.other.append(error.code().name)
        else:
            load.accepted_s.append(time.perf_counter() - began)
            return answer
        return b""

    async def one_by_one(self, seconds: float) -> Load:
        """Make calls one after the other."""
        load, end = Load(), time.perf_counter() + seconds
        while time.perf_counter() < end:
            if answer := await self.call(load):
                load.waits.append(_wait(answer))
        return load

    async def together(self, callers: int, seconds: float) -> Load:
        """Make calls from so many callers, each one after the other."""
        load, end = Load(), time.perf_counter() + seconds

        async def caller() -> None:
            while time.perf_counter() < end:
                await self.call(load)

        await asyncio.gather(*(caller() for _ in range(callers)))
        return load

    async def until_answered_within(self, seconds: float) -> float:
        """Make calls one after the other until one is answered so soon; return when it was."""
        while True:
            load = Load()
            await self.call(load)
            if load.accepted_s and load.accepted_s[0] <= seconds:
                return time.perf_counter()

    async def at_rate(self, per_s: float, seconds: float) -> Load:
        """Make calls at a rate, whatever becomes of them; at random, as independent callers do."""
        load = Load()
        rng = np.random.default_rng(0)
        begin = time.perf_counter()
        due_s, calls = 0.0, set()
        while due_s < seconds:
            if (pause_s := begin + due_s - time.perf_counter()) > 0:
                await asyncio.sleep(pause_s)
            task = asyncio.create_task(self.call(load, begin + due_s))
            calls.add(task)
            task.add_done_callback(calls.discard)
            load.arrived_s = begin + due_s
            due_s += rng.exponential(1 / per_s)
        await asyncio.gather(*calls)
        return load


def _wait(answer: bytes) -> float:
    timings = segmentation_pb2.SegmentImageResponse.FromString(answer).info.timings
    served_s = sum(
        one.ToTimedelta().total_seconds()
        for one in (timings.decode, timings.encode, timings.prompt, timings.postprocess)
    )
    return timings.queue.ToTimedelta().total_seconds() / served_s
