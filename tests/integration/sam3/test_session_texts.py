"""Texts in live sessions and stored video over the engine: what is refused, and what is left."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from PIL import Image

from maskwire_server.domain.errors import ErrorCode
from maskwire_server.domain.executor import BoundedExecutor
from maskwire_server.domain.geometry import Box
from maskwire_server.domain.image_access import ImageAccess
from maskwire_server.domain.images import ImageLimits
from maskwire_server.domain.models import ModelRegistry, ServedModel
from maskwire_server.domain.postprocessing import PostprocessOptions
from maskwire_server.domain.prompts import BoxPrompt, Prompt, TextPrompt
from maskwire_server.domain.sessions.messages import (
    Acknowledgement,
    ClearPrompts,
    ExportSeed,
    FrameResult,
    NewPrompts,
    SessionConfig,
    SessionStarted,
    Snapshot,
    StartSession,
)
from maskwire_server.domain.sessions.service import SessionLimits, SessionService
from maskwire_server.domain.sessions.session import QueueLimits, SessionTimes
from maskwire_server.domain.video.requests import FramePrompt
from maskwire_server.engines.sam3 import Sam3Engine
from maskwire_server.observability.metrics import Metrics
from tests.support import video_world, videos
from tests.support.sam3_scenes import COLOURS, Scene, draw_clip
from tests.support.session_world import Talk, frame, refused, result
from tests.support.video_world import BOTH, request, world

FRAMES = 8
KINDS = (("red", "disc"), ("blue", "square"))
DISC, SQUARE = 0, 1
GONE_FOR_LONG = 33
"""After so many frames what is not seen may leave its place."""
TOO_LONG = TextPrompt("a very long name of a thing that nobody reads")


@pytest.fixture(scope="module")
def clip() -> list[Scene]:
    """A red disc and a blue square that move slowly."""
    return draw_clip(
        np.random.default_rng(1), FRAMES, width=200, height=160, kinds=KINDS, speed=1.5
    )


@pytest.fixture(scope="module")
def pictures(clip: list[Scene]) -> list[bytes]:
    files = [io.BytesIO() for _ in clip]
    for scene, file in zip(clip, files, strict=True):
        Image.fromarray(scene.pixels).save(file, "PNG")
    return [file.getvalue() for file in files]


@pytest.fixture
def service(engine: Sam3Engine) -> Iterator[SessionService]:
    metrics = Metrics()
    device = BoundedExecutor("cpu", 1, 4, metrics)
    pixels = BoundedExecutor("pixels", 2, 16, metrics)
    images = ImageAccess(
        pixels,
        ImageLimits(max_bytes=2**20, max_pixels=2**20, max_side_px=2**12),
        metrics,
        embedding_budget_bytes=2**24,
        image_budget_bytes=2**20,
    )
    limits = SessionLimits(
        max_sessions=4,
        max_sessions_per_tenant=4,
        max_objects=8,
        max_held_frames=4,
        max_prompts=16,
        max_seed_bytes=2**20,
        times=SessionTimes(idle_timeout_s=600.0, lease_s=3600.0, notice_s=1.0),
        queues=QueueLimits(max_requests=16, max_frames=2, max_responses=4),
    )
    models = ModelRegistry([ServedModel(engine, device, is_default=True)])
    yield SessionService(models, images, pixels, metrics, limits)
    device.close()
    pixels.close()


@asynccontextmanager
async def session(
    service: SessionService, snapshot: Snapshot | None = None, **config: object
) -> AsyncIterator[Talk]:
    talk = Talk(service)
    started = await talk.ask(StartSession(SessionConfig(**config), snapshot))  # type: ignore[arg-type]
    assert isinstance(started, SessionStarted)
    try:
        yield talk
    finally:
        await talk.responses.aclose()


def text(words: str, threshold: float | None = None, object_id: int | None = None) -> Prompt:
    return Prompt(TextPrompt(words, threshold), object_id, "prompts[0]")


def boxed(scene: Scene, shape: int, object_id: int | None = None) -> Prompt:
    return Prompt(BoxPrompt(scene.shapes[shape].box), object_id, "prompts[1]")


def ids(answer: FrameResult) -> list[int]:
    return [one.mask.object_id for one in answer.masks]


async def exported(talk: Talk) -> Snapshot:
    seed = await talk.ask(ExportSeed())
    assert isinstance(seed, Snapshot)
    return seed


async def test_a_frame_with_a_text_that_is_too_long_may_be_sent_again(service, pictures):
    too_long = Prompt(TOO_LONG, None, "frame.prompts[1]")
    async with session(service) as talk:
        assert ids(result(await talk.ask(frame(pictures[0], 1, text("red disc"))))) == [1]
        error = refused(await talk.ask(frame(pictures[1], 2, text("shape"), too_long)))
        assert error.code is ErrorCode.INVALID_ARGUMENT
        assert error.message.startswith("frame.prompts[1].text.text: ")
        assert ids(result(await talk.ask(frame(pictures[1], 2, text("shape"))))) == [1, 2]


async def test_there_are_never_more_objects_than_the_limit(service, clip, pictures):
    async with session(service, max_objects=1) as talk:
        asked = frame(pictures[0], 1, text("red disc"), boxed(clip[0], SQUARE, 5))
        assert ids(result(await talk.ask(asked))) == [5]
        assert ids(result(await talk.ask(frame(pictures[1], 2)))) == [5]
    async with session(service, max_objects=1) as talk:
        await talk.ask(frame(pictures[0], 1, text("red disc", 1.0)))
        asked = frame(pictures[1], 2, text("red disc", 0.3), boxed(clip[1], SQUARE, 5))
        assert ids(result(await talk.ask(asked))) == [5]


async def test_the_id_that_a_text_keeps_is_no_other_texts(service, pictures):
    async with session(service) as talk:
        await talk.ask(frame(pictures[0], 1, text("green disc", object_id=7)))
        error = refused(await talk.ask(frame(pictures[1], 2, text("red disc", object_id=7))))
        assert error.code is ErrorCode.INVALID_ARGUMENT
        assert error.message.startswith("prompts[0].object_id: ")
        again = frame(pictures[1], 2, text("green disc", 0.9, object_id=7))
        assert ids(result(await talk.ask(again))) == []


async def test_a_session_resumes_whose_texts_id_a_box_took(service, clip, pictures):
    async with session(service) as talk:
        await talk.ask(frame(pictures[0], 1, text("green disc", object_id=7)))
        await talk.ask(frame(pictures[1], 2, boxed(clip[1], SQUARE, 7)))
        seed = await exported(talk)
    async with session(service, seed) as talk:
        assert ids(result(await talk.ask(frame(pictures[2], 1)))) == [7]


async def test_a_resumed_session_may_end_the_search_before_its_first_frame(service, pictures):
    async with session(service) as talk:
        await talk.ask(frame(pictures[0], 1, text("red disc")))
        seed = await exported(talk)
    async with session(service, seed) as talk:
        assert await talk.ask(ClearPrompts(())) == Acknowledgement((1,))
        assert (await exported(talk)).sought == ()


async def test_the_least_score_is_that_of_the_masks(service, pictures):
    async with session(service) as talk:
        found = result(await talk.ask(frame(pictures[0], 1, text("shape")))).masks
        least, best = sorted(one.mask.score for one in found)
    between = PostprocessOptions(min_score=(least + best) / 2)
    async with session(service, postprocess=between) as talk:
        first = result(await talk.ask(frame(pictures[0], 1, text("shape")))).masks
        later = result(await talk.ask(frame(pictures[1], 2))).masks
        assert [one.mask.score for one in (*first, *later)] == [best, best]


@pytest.mark.parametrize("told", ["with a frame", "on its own"])
async def test_what_a_text_found_leaves_its_place_and_nothing_of_it_is_left(
    service, clip, told: str
):
    scene, files = clip[0], [io.BytesIO(), io.BytesIO()]
    ground = np.median(scene.pixels.reshape(-1, 3), axis=0).astype(np.uint8)
    for hidden, file in zip((SQUARE, DISC), files, strict=True):
        pixels = scene.pixels.copy()
        pixels[scene.shapes[hidden].mask] = ground
        Image.fromarray(pixels).save(file, "PNG")
    disc, square = (file.getvalue() for file in files)
    async with session(service, max_objects=1) as talk:
        assert ids(result(await talk.ask(frame(disc, 0, text("red disc"))))) == [1]
        for number in range(1, GONE_FOR_LONG):
            assert ids(result(await talk.ask(frame(square, number)))) == [1]
        if told == "with a frame":
            answer = await talk.ask(frame(square, GONE_FOR_LONG, text("blue square")))
        else:
            answer = await talk.ask(NewPrompts((text("blue square"),), None, replace=False))
        assert ids(result(answer)) == [2]
        assert [one.object_id for one in (await exported(talk)).objects] == [2]
        assert ids(result(await talk.ask(frame(square, 99)))) == [2]


async def test_what_the_model_gives_up_is_gone_unless_it_is_prompted_just_then(service, clip):
    """The disc turns green: it is followed, but no detection of the text confirms it any more."""
    scene, files = clip[0], [io.BytesIO(), io.BytesIO()]
    for colour, file in zip(("red", "green"), files, strict=True):
        pixels = scene.pixels.copy()
        pixels[scene.shapes[DISC].mask] = COLOURS[colour]
        Image.fromarray(pixels).save(file, "PNG")
    red, green = (file.getvalue() for file in files)
    async with session(service) as talk:
        assert ids(result(await talk.ask(frame(red, 0, text("red disc"))))) == [1]
        dropped = 1
        while ids(result(await talk.ask(frame(green, dropped)))):
            dropped += 1
        assert dropped > 1
        assert (await exported(talk)).objects == ()
    async with session(service) as talk:
        await talk.ask(frame(red, 0, text("red disc")))
        for number in range(1, dropped):
            await talk.ask(frame(green, number))
        asked = frame(green, dropped, boxed(scene, DISC, 1))
        assert ids(result(await talk.ask(asked))) == [1]
        (still,) = result(await talk.ask(frame(green, dropped + 1))).masks
        assert (still.mask.object_id, still.is_new) == (1, False)
        assert [one.object_id for one in (await exported(talk)).objects] == [1]


async def test_a_correction_leaves_an_object_with_the_text_that_found_it(service, clip, pictures):
    async with session(service) as talk:
        await talk.ask(frame(pictures[0], 1, text("red disc")))
        corrected = NewPrompts((boxed(clip[0], DISC, 1),), None, replace=False)
        (disc,) = result(await talk.ask(corrected)).masks
        assert (disc.mask.object_id, disc.mask.text) == (1, "red disc")
        seed = await exported(talk)
    assert [(one.object_id, one.text) for one in seed.objects] == [(1, "red disc")]
    async with session(service, seed) as talk:
        for number in range(1, 4):
            (disc,) = result(await talk.ask(frame(pictures[number], number))).masks
            assert (disc.mask.object_id, disc.mask.text) == (1, "red disc")


def on_frame(number: int, prompt: Prompt) -> FramePrompt:
    return FramePrompt(prompt, number)


def encoded(clip: list[Scene]) -> bytes:
    return videos.encode_video([scene.pixels for scene in clip])


async def test_a_text_of_a_later_frame_is_refused_before_the_first(engine, clip):
    async with world(engine=engine) as made:
        asked = request(
            on_frame(0, text("red disc")),
            on_frame(5, Prompt(TOO_LONG, None, "prompts[1]")),
            data=encoded(clip),
        )
        events = made.service.track(asked, video_world.CALLER)
        with pytest.raises(Exception, match=r"prompts\[1\]\.text\.text: has") as caught:
            await anext(events)
        assert getattr(caught.value, "code", None) is ErrorCode.INVALID_ARGUMENT


async def test_places_are_left_for_objects_of_later_frames(engine, clip):
    async with world(engine=engine, limits={"max_objects": 2}) as made:
        corner = Prompt(BoxPrompt(Box(2.0, 2.0, 30.0, 30.0)), 9, "prompts[1]")
        asked = request(on_frame(0, text("shape")), on_frame(3, corner), data=encoded(clip))
        frames = await made.frames(asked)
        assert [len(one.masks) for one in frames] == [1] * 3 + [2] * 5
        assert 9 in [one.mask.object_id for one in frames[3].masks]


async def test_both_ways_an_id_is_never_given_to_two_things(engine, clip):
    """Before the frame of the text the square alone is there, after it the disc alone."""
    shown = []
    for number, scene in enumerate(clip):
        pixels = scene.pixels.copy()
        ground = np.median(pixels.reshape(-1, 3), axis=0).astype(np.uint8)
        for shape in (DISC, SQUARE):
            if number == 4 or (shape == DISC) == (number < 4):
                pixels[scene.shapes[shape].mask] = ground
        shown.append(pixels)
    async with world(engine=engine) as made:
        asked = request(
            on_frame(4, text("shape", object_id=7)),
            direction=BOTH,
            data=videos.encode_video(shown),
        )
        frames = {one.index: one for one in await made.frames(asked)}
        assert frames[4].masks == ()
        forward = {one.mask.object_id for at in (5, 6, 7) for one in frames[at].masks}
        backward = {one.mask.object_id for at in (0, 1, 2, 3) for one in frames[at].masks}
        assert 7 in forward
        assert backward
        assert not forward & backward
