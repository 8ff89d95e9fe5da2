"""A service for stored video over the colour engine, and requests whose answers are known."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from maskwire_server.domain.engine import SegmentationEngine
from maskwire_server.domain.executor import BoundedExecutor
from maskwire_server.domain.geometry import ImageSize, Point
from maskwire_server.domain.models import ModelRegistry, ServedModel
from maskwire_server.domain.prompts import AnyPrompt, PointPrompt, Prompt
from maskwire_server.domain.segmentation import Caller
from maskwire_server.domain.video.requests import (
    FramePrompt,
    InlineVideo,
    TrackDirection,
    TrackedFrame,
    TrackEvent,
    TrackVideoRequest,
)
from maskwire_server.domain.video.run import TrackLimits
from maskwire_server.domain.video.service import VideoService
from maskwire_server.observability.metrics import Metrics
from tests.support import videos
from tests.support.colour_engine import ColourEngine

COUNT = 30
CALLER = Caller("tenant", "request")
VIDEO = videos.squares_video(COUNT)
SIZE = ImageSize(videos.WIDTH, videos.HEIGHT)
TRACK_LIMITS = TrackLimits(
    max_prompts=50,
    max_objects=8,
    decode_ahead_frames=2,
    max_overlay_bytes=1 << 20,
    max_drawn_bytes=1 << 20,
)
FORWARD, BACKWARD, BOTH = TrackDirection


class World:
    """A service on the colour engine, with what tests look at."""

    def __init__(self, **changes: Any) -> None:
        self.engine = ColourEngine()
        self.pixels = BoundedExecutor("pixels", 2, 64, Metrics())
        self.device = BoundedExecutor("cpu", 1, 64, Metrics())
        engine: SegmentationEngine = changes.pop("engine", self.engine)
        limits = replace(TRACK_LIMITS, **changes.pop("limits", {}))
        self.service = VideoService(
            ModelRegistry([ServedModel(engine, self.device, is_default=True)]),
            self.pixels,
            Metrics(),
            videos.LIMITS,
            limits,
            **{"max_streams": 2, **changes},
        )

    def track(self, request: TrackVideoRequest) -> Any:
        return self.service.track(request, CALLER)

    async def events(self, request: TrackVideoRequest) -> list[TrackEvent]:
        return [event async for event in self.track(request)]

    async def frames(self, request: TrackVideoRequest) -> list[TrackedFrame]:
        contents = [event.content for event in await self.events(request)]
        return [content for content in contents if isinstance(content, TrackedFrame)]


@asynccontextmanager
async def world(**changes: Any) -> AsyncIterator[World]:
    made = World(**changes)
    try:
        yield made
    finally:
        made.engine.gate.set()
        made.device.close()
        made.pixels.close()
    assert made.engine.open_trackers == 0, "every tracker must be closed"


def on_square(frame: int, object_id: int | None = None, *, second: bool = False) -> FramePrompt:
    top = videos.SECOND_TOP if second else videos.TOP
    point = Point(videos.STEP * frame + 4.5, top + 4.5)
    return FramePrompt(Prompt(PointPrompt(point), object_id, "prompts[0]"), frame)


def request(*prompts: FramePrompt, **options: Any) -> TrackVideoRequest:
    data = options.pop("data", VIDEO)
    video = options.pop("video", InlineVideo(data))
    return TrackVideoRequest(video, prompts or (on_square(0),), **options)


def prompt_on(frame: int, content: AnyPrompt) -> FramePrompt:
    return FramePrompt(Prompt(content, None, "prompts[0]"), frame)


def indices(frames: list[TrackedFrame]) -> list[int]:
    return [frame.index for frame in frames]
