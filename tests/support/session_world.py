"""A session service over the colour engine, and a client that talks to it in process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from maskwire_server.domain.errors import MaskwireError
from maskwire_server.domain.geometry import ImageSize, Point
from maskwire_server.domain.image_access import ImageAccess
from maskwire_server.domain.masks import decode_mask
from maskwire_server.domain.prompts import PointPrompt, Prompt
from maskwire_server.domain.segmentation import Caller, InlineImage
from maskwire_server.domain.sessions.messages import (
    FrameResult,
    NewFrame,
    Refusal,
    RequestContent,
    ResponseContent,
    SessionConfig,
    SessionRequest,
    SessionResponse,
    StartSession,
)
from maskwire_server.domain.sessions.service import SessionService
from maskwire_server.domain.tracked_masks import TrackedMask
from maskwire_server.observability.metrics import Metrics
from tests.support.colour_engine import ColourEngine

CALLER = Caller("tenant", "request")
SIDE = 32


def picture(*squares: tuple[int, tuple[int, int, int]], side: int = SIDE) -> bytes:
    """A black PNG with squares of 6 x 6 pixels: column of the left edge, and colour."""
    pixels = np.zeros((side, side, 3), np.uint8)
    for left, colour in squares:
        pixels[8:14, left : left + 6] = colour
    _, data = cv2.imencode(".png", pixels[..., ::-1])
    return data.tobytes()


def click(x: float, y: float = 10.0, object_id: int | None = None) -> Prompt:
    return Prompt(PointPrompt(Point(x, y)), object_id, "prompts[0]")


def frame(data: bytes, frame_id: int, *prompts: Prompt) -> NewFrame:
    """A frame captured as many microseconds after the epoch as its number says."""
    return NewFrame(InlineImage(data), frame_id, frame_id * 1000, prompts)


@dataclass
class Talk:
    """One session as its client sees it."""

    service: SessionService
    caller: Caller = CALLER
    sequence: int = 0
    requests: asyncio.Queue[SessionRequest | None] = field(default_factory=asyncio.Queue)

    def __post_init__(self) -> None:
        self.responses = self.service.run(self._sent(), self.caller)

    async def _sent(self) -> AsyncIterator[SessionRequest]:
        while (request := await self.requests.get()) is not None:
            yield request
            self.requests.task_done()

    def say(self, content: RequestContent, sequence: int | None = None) -> int:
        self.sequence = self.sequence + 1 if sequence is None else sequence
        self.requests.put_nowait(SessionRequest(self.sequence, content, 0.0))
        return self.sequence

    def close(self) -> None:
        self.requests.put_nowait(None)

    async def all_read(self) -> None:
        """Return when the session has taken every request that was said."""
        await self.requests.join()

    async def hear(self) -> SessionResponse:
        return await asyncio.wait_for(anext(self.responses), 30)

    async def ask(self, content: RequestContent) -> ResponseContent:
        sequence = self.say(content)
        response = await self.hear()
        assert response.sequence == sequence
        return response.content


@dataclass
class World:
    service: SessionService
    engine: ColourEngine
    metrics: Metrics
    images: ImageAccess

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    @asynccontextmanager
    async def session(
        self, config: SessionConfig | None = None, **start: Any
    ) -> AsyncIterator[Talk]:
        talk = Talk(self.service)
        await talk.ask(StartSession(config or SessionConfig(), **start))
        try:
            yield talk
        finally:
            await talk.responses.aclose()


def left_edge(mask: TrackedMask) -> int:
    """Column of the first pixel of a mask of a picture of `SIDE`."""
    assert mask.mask.encoded is not None
    bitmap = decode_mask(mask.mask.encoded, ImageSize(SIDE, SIDE))
    return int(np.flatnonzero(bitmap.any(0))[0])


def result(content: object) -> FrameResult:
    assert isinstance(content, FrameResult), content
    return content


def refused(content: object) -> MaskwireError:
    assert isinstance(content, Refusal), content
    return content.error
