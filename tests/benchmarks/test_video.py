"""What tracking a stored video costs beside the bare tracker, and what decoding costs each way.

The bare tracker runs in this process on decoded frames, the service in one of its own, in turn;
no time is ever a pass or a failure.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch

from maskwire.v1 import video_pb2, video_pb2_grpc
from maskwire_server.domain.engine import ModelSpecification
from maskwire_server.domain.file_decoder import InProcessDecoder
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.grouping import group_prompts
from maskwire_server.domain.prompts import BoxPrompt, Prompt
from maskwire_server.domain.tracking import TrackingEngine, TrackingLimits
from maskwire_server.domain.video.reader import VideoLimits, VideoPicture, VideoReader
from maskwire_server.engines.registry import load_engine
from tests.benchmarks.measuring import Percentiles, measure_in_turn, report
from tests.support.clips import make_clip, write_mp4
from tests.support.server_process import server_process

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(900)]

FRAMES = 48
ROUNDS = 3
SIZES = [ImageSize(640, 480), ImageSize(1280, 720)]
LIMITS = VideoLimits(1 << 28, 1 << 24, 8192, 1000, 600.0, reverse_buffer_bytes=64 << 20)

BARE = "bare tracker"
SERVICE = "TrackVideo"
OVERLAY = "TrackVideo, overlay video"
DECODE = "decoding forward"
DECODE_BACK = "decoding backward"


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size.width_px}x{size.height_px}")
def test_tracking_a_video_beside_the_bare_tracker(size: ImageSize, tmp_path: Path) -> None:
    clip = make_clip(3, FRAMES, size)
    video = write_mp4(clip, tmp_path / "clip.mp4").read_bytes()
    rows, columns = np.nonzero(clip.masks[0][1])
    box = Box(*(float(edge) for edge in (columns.min(), rows.min(), columns.max(), rows.max())))
    torch.set_num_threads(1)
    engine = load_engine(ModelSpecification("maskwire-nano", "nano", device="cpu"))
    assert isinstance(engine, TrackingEngine)
    pictures = _decoded(video, range(FRAMES))
    settings = {"models": {"device": "cpu", "cpu_threads": 1}}
    with server_process(tmp_path, **settings) as server:
        options = [("grpc.max_receive_message_length", -1)]
        with grpc.insecure_channel(server.address, options=options) as channel:
            stub = video_pb2_grpc.VideoServiceStub(channel)
            calls: dict[str, Callable[[int], object]] = {
                BARE: lambda _: _track_bare(engine, pictures, size, box),
                SERVICE: lambda _: _track(stub, video, box, overlay=False),
                OVERLAY: lambda _: _track(stub, video, box, overlay=True),
                DECODE: lambda _: _decoded(video, range(FRAMES)),
                DECODE_BACK: lambda _: _decoded(video, range(FRAMES - 1, -1, -1)),
            }
            measured = measure_in_turn(calls, rounds=ROUNDS, warm_up=1)
    each = {name: _by_frame(series) for name, series in measured.items()}
    beyond = each[SERVICE].p50_ms - each[BARE].p50_ms
    notes = {
        "frames per second": f"{1000 / each[SERVICE].p50_ms:.1f}",
        "the service beyond the bare tracker": f"{beyond:+.2f} ms a frame",
    }
    report(f"{FRAMES} frames of {size.width_px} x {size.height_px}, by frame", each, notes)


def _by_frame(series: Percentiles) -> Percentiles:
    return Percentiles(series.p50_ms / FRAMES, series.p99_ms / FRAMES, series.count)


def _decoded(video: bytes, order: range) -> list[VideoPicture]:
    reader = VideoReader(io.BytesIO(video), LIMITS)
    stream = reader.pictures(order)
    pictures = []
    while not stream.is_at_end:
        picture = stream.read(patience_s=1.0)
        if picture is not None:
            pictures.append(picture)
    reader.close()
    assert len(pictures) == FRAMES
    return pictures


def _track_bare(
    engine: TrackingEngine, pictures: list[VideoPicture], size: ImageSize, box: Box
) -> None:
    tracker = engine.new_tracker(size, TrackingLimits(max_objects=1, held_frames=0))
    objects = group_prompts([Prompt(BoxPrompt(box), 1, "prompts[0]")], size, InProcessDecoder())
    for number, picture in enumerate(pictures):
        tracker.advance(number, engine.encode(picture.pixels))
        if number == 0:
            tracker.prompt(number, objects, multimask=False)
    tracker.close()


def _track(stub: Any, video: bytes, box: Box, *, overlay: bool) -> None:
    request = video_pb2.TrackVideoRequest(render_overlay=overlay)
    request.video.data = video
    corners = request.prompts.add().box.box
    corners.x_min, corners.y_min = box.x_min, box.y_min
    corners.x_max, corners.y_max = box.x_max, box.y_max
    responses = list(stub.TrackVideo(request))
    assert sum(response.HasField("frame") for response in responses) == FRAMES
