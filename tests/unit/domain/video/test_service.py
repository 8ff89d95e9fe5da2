"""Tracking through stored videos over an engine whose masks are known to the pixel."""

from __future__ import annotations

import asyncio
import io
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import av
import numpy as np
import pytest

from maskwire_server.domain.engine import SegmentationEngine
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import Box, Point
from maskwire_server.domain.masks import EncodedRle, MaskEncoding, decode_mask, encode_mask
from maskwire_server.domain.postprocessing import PostprocessOptions
from maskwire_server.domain.prompts import (
    BoxPrompt,
    MaskPrompt,
    PointPrompt,
    TextPrompt,
)
from maskwire_server.domain.tracked_masks import ObjectState
from maskwire_server.domain.video.requests import (
    FrameRange,
    TrackDirection,
    TrackedFrame,
    TrackEvent,
    TrackProgress,
    TrackSummary,
    VideoInfo,
    VideoUri,
)
from tests.support import videos
from tests.support.colour_engine import ColourEngine
from tests.support.video_world import (
    BACKWARD,
    BOTH,
    COUNT,
    FORWARD,
    SIZE,
    VIDEO,
    World,
    indices,
    on_square,
    prompt_on,
    request,
    world,
)


def object_ids(frame: TrackedFrame) -> list[int]:
    return [mask.mask.object_id for mask in frame.masks]


def expected(frame: int, *, second: bool = False) -> np.ndarray[Any, Any]:
    colour = videos.SECOND if second else videos.SQUARE
    return np.asarray((videos.picture(frame) == colour).all(-1))


def bitmap(frame: TrackedFrame, position: int = 0) -> np.ndarray[Any, Any]:
    encoded = frame.masks[position].mask.encoded
    assert encoded is not None
    return decode_mask(encoded, SIZE)


async def test_the_answer_is_info_frames_and_summary_with_progress():
    async with world() as made:
        events = await made.events(request())
    first, *between, last = events
    assert isinstance(first.content, VideoInfo)
    assert first.content.frame_count == COUNT
    assert isinstance(last.content, TrackSummary)
    assert last.content.model == "colour"
    assert last.content.overlay_video is None
    assert last.content.decode_error is None
    assert last.content.timings.total_s > 0
    done = [event.progress.frames_done for event in events]
    assert done == [0, *range(1, COUNT + 1), COUNT]
    assert {event.progress.frames_total for event in events} == {COUNT}
    for index, event in enumerate(between):
        assert isinstance(event.content, TrackedFrame)
        assert event.content.index == index
        assert event.content.time_s == pytest.approx(0.04 * index)
        assert np.array_equal(bitmap(event.content), expected(index))
        [tracked] = event.content.masks
        assert isinstance(tracked.mask.encoded, EncodedRle)
        assert tracked.is_new == (index == 0)
        assert tracked.state is ObjectState.TRACKED


@pytest.mark.parametrize(
    ("direction", "chosen", "order"),
    [
        (FORWARD, FrameRange(), [*range(10, COUNT)]),
        (BACKWARD, FrameRange(), [*range(10, -1, -1)]),
        (BOTH, FrameRange(), [*range(10, COUNT), *range(9, -1, -1)]),
        (BOTH, FrameRange(2, 21, 4), [10, 14, 18, 6, 2]),
        (BACKWARD, FrameRange(4, 20, 3), [10, 7, 4]),
    ],
)
async def test_every_frame_of_the_range_is_answered_once_and_right(direction, chosen, order):
    async with world() as made:
        wanted = request(on_square(10), direction=direction, frames=chosen)
        frames = await made.frames(wanted)
    assert indices(frames) == order
    for frame in frames:
        assert np.array_equal(bitmap(frame), expected(frame.index))
        assert frame.masks[0].is_new == (frame.index == 10)


async def test_objects_begin_where_they_are_prompted():
    prompts = (on_square(3), on_square(8, second=True))
    async with world() as made:
        forward = await made.frames(request(*prompts))
        backward = await made.frames(request(*prompts, direction=BACKWARD))
    assert [object_ids(frame) for frame in forward] == [[1]] * 5 + [[1, 2]] * (COUNT - 8)
    assert [object_ids(frame) for frame in backward] == [[2]] * 5 + [[2, 1]] * 4
    assert np.array_equal(bitmap(forward[-1], 1), expected(COUNT - 1, second=True))
    assert forward[5].masks[1].is_new
    assert not forward[6].masks[1].is_new


async def test_a_later_prompt_corrects_an_object():
    async with world() as made:
        frames = await made.frames(request(on_square(0, 7), on_square(10, 7, second=True)))
    assert [object_ids(frame) for frame in frames] == [[7]] * COUNT
    assert np.array_equal(bitmap(frames[9]), expected(9))
    assert np.array_equal(bitmap(frames[10]), expected(10, second=True))
    assert np.array_equal(bitmap(frames[20]), expected(20, second=True))


async def test_an_object_is_lost_and_found_again():
    shown = [videos.picture(index, second=index not in (3, 4)) for index in range(8)]
    data = videos.encode_video(shown)
    async with world() as made:
        frames = await made.frames(request(on_square(0, second=True), data=data))
    states = [frame.masks[0].state for frame in frames]
    assert states[3:6] == [ObjectState.LOST, ObjectState.LOST, ObjectState.FOUND_AGAIN]
    assert frames[3].masks[0].mask.encoded is None


async def test_boxes_and_masks_prompt_too():
    rle = encode_mask(expected(5), MaskEncoding.COCO_RLE)
    box = BoxPrompt(Box(10, videos.TOP, 10 + videos.SIDE, videos.TOP + videos.SIDE))
    async with world() as made:
        for content in (MaskPrompt(rle), box):
            frames = await made.frames(request(prompt_on(5, content)))
            assert np.array_equal(bitmap(frames[0]), expected(5))
            assert indices(frames) == list(range(5, COUNT))


async def test_masks_are_changed_before_they_are_sent():
    prompts = (on_square(0), on_square(0, 9, second=True))
    async with world() as made:
        cleaned = await made.frames(
            request(*prompts, postprocess=PostprocessOptions(smoothing_radius_px=2.0))
        )
        dropped = await made.frames(
            request(*prompts, postprocess=PostprocessOptions(min_score=0.99))
        )
        apart = await made.frames(
            request(
                on_square(0), on_square(0, 9), postprocess=PostprocessOptions(max_overlap_iou=0.5)
            )
        )
    assert [object_ids(frame) for frame in apart] == [[1]] * COUNT, "the other is the same mask"
    assert bitmap(cleaned[4]).sum() < expected(4).sum()
    assert cleaned[4].masks[0].mask.area_px == bitmap(cleaned[4]).sum()
    # A prompted mask scores 1, one that is followed 0.95.
    assert [object_ids(frame) for frame in dropped] == [[1, 9]] + [[]] * (COUNT - 1)


async def test_a_caller_that_stops_reading_stops_the_device():
    async with world() as made, aclosing(made.track(request())) as events:
        await anext(events)
        for taken in range(1, 6):
            await anext(events)
            await at_rest(made)
            # One frame waits, and one more is in the hands of the stage that made it.
            assert made.engine.encoded <= taken + 2


async def at_rest(made: World) -> None:
    """Wait until the device has done what it was given."""
    before = -1
    while before != made.engine.encoded:
        before = made.engine.encoded
        for executor in (made.pixels, made.device):
            for _ in range(20):
                await executor.run(lambda: None)


@pytest.mark.parametrize("direction", [FORWARD, BACKWARD])
async def test_closing_frees_the_device_within_a_frame(direction):
    async with world() as made:
        wanted = request(on_square(15), direction=direction)
        events = made.track(wanted)
        for _ in range(4):
            await anext(events)
        made.engine.gate.clear()
        made.engine.reached_gate.clear()
        next_event = asyncio.ensure_future(drained(events))
        await asyncio.to_thread(made.engine.reached_gate.wait, 60)
        encoded = made.engine.encoded
        next_event.cancel()
        await asyncio.sleep(0)
        made.engine.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await next_event
        await events.aclose()
        await at_rest(made)
        assert made.engine.encoded == encoded, "no frame but the one on the device"
        assert made.engine.open_trackers == 0


async def drained(events: Any) -> None:
    async for _ in events:
        pass


async def test_a_stream_that_was_closed_makes_room_for_another():
    async with world(max_streams=1) as made:
        events = made.track(request())
        await anext(events)
        with pytest.raises(MaskwireError) as raised:
            await made.frames(request())
        assert raised.value.code is ErrorCode.OVERLOADED
        assert raised.value.retry_after is not None
        await events.aclose()
        assert len(await made.frames(request())) == COUNT


async def test_a_file_that_is_cut_off_gives_what_is_there_then_the_error():
    data = videos.cut_in_data(videos.index_first(VIDEO), 0.6)
    async with world() as made:
        events = made.track(request(data=data, render_overlay=True))
        gathered_events: list[TrackEvent] = []
        with pytest.raises(MaskwireError) as raised:
            await gathered(events, gathered_events)
    assert raised.value.code is ErrorCode.DATA_LOSS
    contents: list[Any] = [event.content for event in gathered_events]
    info, *frames, summary = contents
    assert info.frame_count == COUNT
    assert 3 < len(frames) < COUNT
    assert indices(frames) == list(range(len(frames)))
    assert summary.decode_error is raised.value
    assert summary.overlay_video
    progress = gathered_events[-1].progress
    assert progress == TrackProgress(frames_done=len(frames), frames_total=COUNT)


async def gathered(events: Any, contents: list[TrackEvent]) -> None:
    async for event in events:
        contents.append(event)  # noqa: PERF401  # what came before an error counts


async def test_a_break_ends_each_way_by_itself():
    data = videos.scrambled(VIDEO, VIDEO.find(b"mdat") + len(VIDEO) * 2 // 5)
    async with world() as made:
        contents: list[TrackEvent] = []
        with pytest.raises(MaskwireError, match="cannot be decoded"):
            await gathered(made.track(request(on_square(3), data=data, direction=BOTH)), contents)
    answered = [one.content.index for one in contents if isinstance(one.content, TrackedFrame)]
    assert answered[-3:] == [2, 1, 0]
    assert answered[:-3] == list(range(3, len(answered)))
    assert len(answered) < COUNT


async def test_prompts_beyond_the_cut_give_a_summary_and_the_error():
    data = videos.cut_in_data(videos.index_first(VIDEO), 0.6)
    async with world() as made:
        contents: list[TrackEvent] = []
        with pytest.raises(MaskwireError, match="cut off"):
            await gathered(made.track(request(on_square(29), data=data)), contents)
    assert [type(one.content) for one in contents] == [VideoInfo, TrackSummary]


@pytest.mark.parametrize("direction", TrackDirection)
async def test_the_overlay_video_shows_every_answered_frame_in_order(direction):
    async with world() as made:
        wanted = request(
            on_square(10), direction=direction, frames=FrameRange(0, 25, 5), render_overlay=True
        )
        events = await made.events(wanted)
    answered = sorted(e.content.index for e in events if isinstance(e.content, TrackedFrame))
    summary = events[-1].content
    assert isinstance(summary, TrackSummary)
    assert isinstance(summary.overlay_video, bytes)
    with av.open(io.BytesIO(summary.overlay_video), "r") as container:
        shown = [
            (frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)
        ]
    assert [time for time, _ in shown] == pytest.approx(
        [0.04 * (index - answered[0]) for index in answered]
    )
    for index, (_, pixels) in zip(answered, shown, strict=True):
        inside = pixels[videos.TOP + 4 : videos.TOP + 10, 2 * index + 4 : 2 * index + 10]
        plain = np.array(videos.SQUARE)
        assert np.abs(inside.mean(axis=(0, 1)) - plain).max() > 20, "the colour lies over it"


async def test_masks_that_wait_to_be_drawn_are_bounded():
    async with world(limits={"max_drawn_bytes": 100}) as made:
        with pytest.raises(MaskwireError, match="render_overlay: the masks") as raised:
            await made.events(request(render_overlay=True))
        assert raised.value.code is ErrorCode.PAYLOAD_TOO_LARGE


class StillEngine(SegmentationEngine):
    """An engine that does not track."""

    def __init__(self) -> None:
        self._colour = ColourEngine()

    @property
    def description(self) -> Any:
        return replace(self._colour.description, name="still", supports_video=False)

    def encode(self, pixels: Any) -> Any:
        raise AssertionError

    def decode(self, embedding: Any, objects: Any, *, multimask: bool) -> Any:
        raise AssertionError


class ForgetfulEngine(ColourEngine):
    """One whose network has no memory."""

    @property
    def description(self) -> Any:
        return replace(super().description, name="still", supports_video=False)


@pytest.mark.parametrize("engine", [StillEngine, ForgetfulEngine])
async def test_a_model_must_track(engine):
    async with world(engine=engine()) as made:
        with pytest.raises(MaskwireError, match="still does not track") as raised:
            await made.events(request())
        assert raised.value.code is ErrorCode.UNSUPPORTED_BY_MODEL


@pytest.mark.parametrize(
    ("wanted", "code", "text"),
    [
        (request(data=b"nothing"), ErrorCode.INVALID_ARGUMENT, "video.data"),
        (request(on_square(30)), ErrorCode.INVALID_ARGUMENT, r"frame_index: .* 30 frames"),
        (
            request(prompt_on(2, PointPrompt(Point(200, 1)))),
            ErrorCode.INVALID_ARGUMENT,
            r"prompts\[0\].point.point: .* outside",
        ),
        (
            request(*[on_square(0, number) for number in range(1, 10)]),
            ErrorCode.INVALID_ARGUMENT,
            "prompts: 9 objects",
        ),
        (request(*[on_square(0)] * 51), ErrorCode.INVALID_ARGUMENT, "prompts: 51 prompts"),
        (
            request(prompt_on(0, TextPrompt("square"))),
            ErrorCode.UNSUPPORTED_BY_MODEL,
            "text prompts",
        ),
        (request(model="other"), ErrorCode.MODEL_NOT_FOUND, "other"),
        (
            request(video=VideoUri("https://host/a.mp4")),
            ErrorCode.SOURCE_DISABLED,
            "video.uri: .*'https'",
        ),
        (request(stores_overlay=True), ErrorCode.SOURCE_DISABLED, "delivery"),
    ],
)
async def test_what_cannot_be_done_is_said_before_anything_else(wanted, code, text):
    async with world() as made:
        with pytest.raises(MaskwireError, match=text) as raised:
            await anext(made.track(wanted))
        assert raised.value.code is code
        assert made.engine.encoded == 0


async def test_a_device_that_fails_ends_the_call():
    async with world() as made:
        made.engine.device_is_broken = True
        with pytest.raises(MaskwireError) as raised:
            await made.events(request())
        assert raised.value.code is ErrorCode.MODEL_UNAVAILABLE
