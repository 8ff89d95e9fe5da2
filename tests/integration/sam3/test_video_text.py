"""Text in videos and sessions through the API, on a real server whose default model takes none.

What is found and followed is judged by meaning: by the shapes that the clips were drawn from.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from maskwire.v1 import (
    image_pb2,
    mask_pb2,
    prompt_pb2,
    realtime_pb2,
    video_pb2,
    video_pb2_grpc,
)
from tests.support import videos
from tests.support.hosted_requests import refused
from tests.support.metrics_page import scraped
from tests.support.sam3_scenes import COLOURS, Scene, draw_clip
from tests.support.server_process import ServerProcess, server_process
from tests.support.session_server import Stream

NANO, SHAPES = "maskwire-nano", "shapes"
DEADLINE_S = 120.0
FRAMES, ENTERS = 12, 6
KINDS = (("red", "disc"), ("blue", "square"))
MOST_TEXTS = 32
HELD = "maskwire_sessions_bytes"
GROWTH = 0.02
LEAST_IOU = 0.5


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, small_sam3: Path) -> Iterator[ServerProcess]:
    models = [
        {"name": NANO},
        {"name": SHAPES, "engine": "sam3", "checkpoint": str(small_sam3)},
    ]
    chosen = {"serve": models, "device": "cpu", "cpu_threads": 1}
    folder = tmp_path_factory.mktemp("video-text")
    with server_process(folder, models=chosen, jobs={"workers": 0}) as process:
        yield process


@pytest.fixture(scope="module")
def channel(server: ServerProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as connected:
        yield connected


@pytest.fixture(scope="module")
def clip() -> list[Scene]:
    """A red disc and a blue square that move slowly."""
    return draw_clip(
        np.random.default_rng(1), FRAMES, width=200, height=160, kinds=KINDS, speed=1.5
    )


@pytest.fixture(scope="module")
def newcomer(clip: list[Scene]) -> NDArray[np.bool_]:
    """Where another red disc stands that comes later, far from the others."""
    taken = clip[0].shapes[0].mask | clip[0].shapes[1].mask
    room = cv2.distanceTransform((~taken).astype(np.uint8), cv2.DIST_L2, 5)
    room[:24], room[-24:], room[:, :24], room[:, -24:] = 0, 0, 0, 0
    row, column = np.unravel_index(int(room.argmax()), room.shape)
    rows, columns = np.ogrid[: room.shape[0], : room.shape[1]]
    return np.asarray((rows - row) ** 2 + (columns - column) ** 2 < 19**2)


@pytest.fixture(scope="module")
def pictures(clip: list[Scene], newcomer: NDArray[np.bool_]) -> list[NDArray[np.uint8]]:
    shown = []
    for frame, scene in enumerate(clip):
        pixels = scene.pixels.copy()
        if frame >= ENTERS:
            pixels[newcomer] = COLOURS["red"]
        shown.append(pixels)
    return shown


def text(words: str, **more: Any) -> prompt_pb2.Prompt:
    return prompt_pb2.Prompt(text=prompt_pb2.TextPrompt(text=words), **more)


def track(
    channel: grpc.Channel,
    pictures: list[NDArray[np.uint8]],
    *prompts: prompt_pb2.Prompt,
    **more: Any,
) -> list[video_pb2.VideoFrameResult]:
    request = video_pb2.TrackVideoRequest(prompts=prompts, **more)
    request.video.data = videos.encode_video(pictures)
    stub: Any = video_pb2_grpc.VideoServiceStub(channel)
    responses = list(stub.TrackVideo(request, timeout=DEADLINE_S))
    return [response.frame for response in responses if response.HasField("frame")]


def iou(mask: realtime_pb2.TrackedMask, truth: NDArray[np.bool_]) -> float:
    box = mask.mask.box
    rows, columns = np.nonzero(truth)
    left, top = max(box.x_min, columns.min()), max(box.y_min, rows.min())
    right, bottom = min(box.x_max, columns.max() + 1), min(box.y_max, rows.max() + 1)
    shared = max(0.0, right - left) * max(0.0, bottom - top)
    first = (box.x_max - box.x_min) * (box.y_max - box.y_min)
    second = (columns.max() + 1 - columns.min()) * (rows.max() + 1 - rows.min())
    return float(shared / (first + second - shared))


def followed_to(
    frames: list[video_pb2.VideoFrameResult], object_id: int
) -> dict[int, realtime_pb2.TrackedMask]:
    """Return an object's masks by frame."""
    return {
        frame.frame_index: one
        for frame in frames
        for one in frame.masks
        if one.mask.object_id == object_id
    }


def test_what_a_text_finds_in_a_video(channel, pictures, clip, newcomer):
    options = mask_pb2.MaskOptions(include_scores=True, include_boxes=True)
    frames = track(channel, pictures, text("red disc", object_id=7), mask_options=options)
    assert [frame.frame_index for frame in frames] == list(range(FRAMES))
    (first,) = frames[0].masks
    assert first.mask.object_id == 7
    assert first.mask.text == "red disc"
    assert first.mask.score_kind == mask_pb2.SCORE_KIND_CONCEPT_CONFIDENCE
    assert first.mask.score >= 0.5
    # The disc and never the square; from where it comes on also the other disc, and nothing else.
    disc, other = followed_to(frames, 7), followed_to(frames, 1)
    assert list(disc) == list(range(FRAMES))
    assert list(other) == list(range(ENTERS, FRAMES))
    assert [len(frame.masks) for frame in frames] == [1] * ENTERS + [2] * (FRAMES - ENTERS)
    assert min(iou(one, clip[at].shapes[0].mask) for at, one in disc.items()) > LEAST_IOU
    assert min(iou(one, newcomer) for one in other.values()) > LEAST_IOU
    assert [at for at, one in disc.items() if one.is_new] == [0]
    assert [at for at, one in other.items() if one.is_new] == [ENTERS]
    assert {one.mask.text for one in other.values()} == {"red disc"}


def test_several_texts_find_each_its_own(channel, pictures, clip):
    frames = track(channel, pictures, text("red disc"), text("blue shape"))
    for frame in frames[:ENTERS]:
        by_text = {one.mask.text: one for one in frame.masks}
        assert len(frame.masks) == len(by_text) == 2
        shapes = clip[frame.frame_index].shapes
        assert iou(by_text["red disc"], shapes[0].mask) > LEAST_IOU
        assert iou(by_text["blue shape"], shapes[1].mask) > LEAST_IOU
    ids = {one.mask.object_id: one.mask.text for frame in frames for one in frame.masks}
    assert sorted(ids.values()) == ["blue shape", "red disc", "red disc"], "the newcomer is one too"


def test_every_instance_is_found_and_followed(channel):
    kinds = (("green", "triangle"),) * 3 + (("green", "disc"),)
    clip = draw_clip(
        np.random.default_rng(5), FRAMES, width=200, height=160, kinds=kinds, speed=1.5
    )
    assert len(clip[0].shapes) == len(kinds)
    frames = track(channel, [scene.pixels for scene in clip], text("green triangle"))
    ids = {one.mask.object_id for one in frames[0].masks}
    assert len(ids) == 3
    which: dict[int, int] = {}
    for scene, frame in zip(clip, frames, strict=True):
        assert {one.mask.object_id for one in frame.masks} == ids
        for one in frame.masks:
            ious = [iou(one, shape.mask) for shape in scene.shapes]
            which.setdefault(one.mask.object_id, int(np.argmax(ious)))
            assert ious[which[one.mask.object_id]] > LEAST_IOU
    assert sorted(which.values()) == [0, 1, 2]


def test_a_text_may_begin_later(channel, pictures, clip, newcomer):
    late = [text("red disc", frame_index=8)]
    frames = track(channel, pictures, *late)
    assert [frame.frame_index for frame in frames] == [8, 9, 10, 11]
    for frame in frames:
        assert sorted(one.mask.object_id for one in frame.masks) == [1, 2]
        there = [clip[frame.frame_index].shapes[0].mask, newcomer]
        found = sorted(max(range(2), key=lambda at: iou(one, there[at])) for one in frame.masks)
        assert found == [0, 1]
        assert min(max(iou(one, mask) for mask in there) for one in frame.masks) > LEAST_IOU


def test_both_ways_from_a_frame_give_the_same_objects(channel, pictures, clip, newcomer):
    both = video_pb2.TRACK_DIRECTION_BOTH
    frames = track(channel, pictures, text("red disc", frame_index=9), direction=both)
    assert [frame.frame_index for frame in frames] == [9, 10, 11, *range(8, -1, -1)]
    ids = {
        max((1, 2), key=lambda number: iou(followed_to(frames, number)[9], mask)): mask
        for mask in (clip[9].shapes[0].mask, newcomer)
    }
    assert sorted(ids) == [1, 2]
    assert sorted(one.mask.object_id for one in frames[0].masks) == [1, 2]
    for number, mask in ids.items():
        for at, one in followed_to(frames, number).items():
            truth = newcomer if mask is newcomer else clip[at].shapes[0].mask
            if mask is not newcomer or at >= ENTERS:
                assert iou(one, truth) > LEAST_IOU, (number, at)
    (disc,) = (number for number, mask in ids.items() if mask is not newcomer)
    assert sorted(followed_to(frames, disc)) == list(range(FRAMES)), "backward as forward"
    assert set(followed_to(frames, 3 - disc)) >= set(range(ENTERS, FRAMES))


def test_what_is_not_there_is_not_found(channel, pictures):
    frames = track(channel, pictures[:3], text("green triangle"))
    assert [len(frame.masks) for frame in frames] == [0, 0, 0]


def test_a_model_that_takes_no_text_is_named_with_one_that_does(channel, pictures):
    error = refused(lambda: track(channel, pictures[:2], text("disc"), model=NANO))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert SHAPES in error.details()


def encoded(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def opened(stream: Stream, model: str = SHAPES) -> None:
    started = stream.ask(sequence=1, config=realtime_pb2.SessionConfig(model=model))
    assert started.WhichOneof("message") == "started"


def shown(
    stream: Stream, number: int, data: bytes, *prompts: prompt_pb2.Prompt
) -> realtime_pb2.RunSessionResponse:
    frame = realtime_pb2.SessionFrame(
        image=image_pb2.ImageSource(data=data), frame_id=number, prompts=prompts
    )
    return stream.ask(sequence=number + 2, frame=frame)


@pytest.mark.robustness
@pytest.mark.timeout(1800)
def test_resident_memory_after_100_and_500_frames_of_text(server, channel, pictures):
    resident: dict[int, int] = {}
    data = [encoded(one) for one in pictures[ENTERS:]]
    held = followed(server, channel, data, 500, resident)
    print(f"resident {resident}, held {held}")
    assert resident[500] < resident[100] * (1 + GROWTH)
    assert max(size for frame, size in held.items() if frame > 350) <= 1.02 * max(
        size for frame, size in held.items() if 150 < frame <= 350
    )
    assert scraped(server.metrics_port, HELD) == 0


def followed(
    server: ServerProcess,
    channel: grpc.Channel,
    data: list[bytes],
    frames: int,
    resident: dict[int, int] | None = None,
) -> dict[int, float]:
    """Follow what a text finds for so many frames; return what the session held on the way."""
    held = {}
    stream = Stream(channel)
    opened(stream)
    for number in range(frames):
        prompts = [text("red disc")] if number == 0 else []
        answer = shown(stream, number, data[number % len(data)], *prompts)
        assert answer.WhichOneof("message") == "frame_result", answer
        if number % 10 == 9:
            held[number + 1] = scraped(server.metrics_port, HELD)
        if resident is not None and number + 1 in (100, 500):
            resident[number + 1] = resident_bytes(server.process.pid)
    stream.half_close()
    assert stream.hear().WhichOneof("message") == "ended"
    assert stream.hear_end() is grpc.StatusCode.OK
    return held


def resident_bytes(process_id: int) -> int:
    status = Path(f"/proc/{process_id}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def test_what_a_text_found_is_removed_and_no_text_is_looked_for_any_more(channel, pictures):
    stream = Stream(channel)
    opened(stream)
    data = [encoded(one) for one in pictures]
    first = shown(stream, 0, data[0], text("red disc"))
    (mask,) = first.frame_result.masks
    assert mask.mask.text == "red disc"
    stream.say(
        sequence=50,
        control=realtime_pb2.SessionControl(
            remove_objects=realtime_pb2.RemoveObjects(object_ids=[mask.mask.object_id])
        ),
    )
    answers = [shown(stream, 1, data[1]) for _ in range(1)]
    assert not answers[0].frame_result.masks, "it is not found anew"
    stream.cancel()


def test_a_resumed_session_looks_for_its_texts_again(channel, pictures, clip, newcomer):
    stream = Stream(channel)
    options = mask_pb2.MaskOptions(include_scores=True, include_boxes=True)
    stream.ask(sequence=1, config=realtime_pb2.SessionConfig(model=SHAPES, mask_options=options))
    data = [encoded(one) for one in pictures]
    shown(stream, 0, data[0], text("red disc", object_id=7))
    (before,) = shown(stream, 1, data[1]).frame_result.masks
    exported = stream.ask(
        sequence=50, control=realtime_pb2.SessionControl(export_seed=realtime_pb2.ExportSeed())
    )
    stream.cancel()

    resumed = Stream(channel)
    config = realtime_pb2.SessionConfig(resume_seed=exported.seed.seed)
    started = resumed.ask(sequence=1, config=config).started
    assert list(started.resumed_object_ids) == [7]
    (same,) = shown(resumed, ENTERS - 1, data[ENTERS - 1]).frame_result.masks
    assert same.mask.object_id == 7
    assert same.mask.text == "red disc"
    assert same.mask.score == before.mask.score > 0.5
    assert same.mask.score_kind == mask_pb2.SCORE_KIND_CONCEPT_CONFIDENCE
    assert not same.is_new
    assert iou(same, clip[0].shapes[0].mask) > LEAST_IOU
    masks = shown(resumed, ENTERS, data[ENTERS]).frame_result.masks
    (entered,) = (one for one in masks if one.is_new)
    assert entered.mask.object_id == 8
    assert entered.mask.text == "red disc"
    assert iou(entered, newcomer) > LEAST_IOU
    resumed.cancel()


def test_a_session_looks_for_a_bounded_number_of_texts(channel, pictures):
    stream = Stream(channel)
    opened(stream)
    data = encoded(pictures[0])
    many = [text(f"green disc {number}") for number in range(MOST_TEXTS)]
    assert shown(stream, 0, data, *many).WhichOneof("message") == "frame_result"
    assert shown(stream, 1, data, many[3]).WhichOneof("message") == "frame_result", "it is known"
    answer = shown(stream, 2, data, text("blue disc"))
    assert answer.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert str(MOST_TEXTS) in answer.error.message
    stream.cancel()


def test_a_session_with_a_model_that_takes_no_text(channel, pictures):
    stream = Stream(channel)
    opened(stream, NANO)
    answer = shown(stream, 0, encoded(pictures[0]), text("red disc"))
    assert answer.WhichOneof("message") == "error"
    assert answer.error.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert SHAPES in answer.error.message
    stream.cancel()
