"""Sessions and stored video of both clients against the real server with the embedded default."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from maskwire_client import (
    Box,
    DropPolicy,
    DropReason,
    Frame,
    MaskEncoding,
    ObjectState,
    Point,
    Reconnect,
    TrackDirection,
    encode_image,
    errors,
)
from tests.support.both_clients import Connect, connect
from tests.support.server_process import server_process

__all__ = ["connect"]

WIDTH, HEIGHT = 160, 120
CLICK = Point(60, 55, object_id=3)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Several servers share the machine's few cores: teams of spinning threads would stop them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Iterator[str]:
    with server_process(tmp_path_factory.mktemp("server")) as process:
        yield process.address


def disk(shift_px: float = 0, *, width: int = WIDTH) -> np.ndarray:
    """A light disk on dark, noisy ground, moved to the right."""
    rows, columns = np.mgrid[:HEIGHT, :width]
    inside = ((columns - 60 - shift_px) / 30) ** 2 + ((rows - 55) / 26) ** 2 < 1
    noise = np.random.default_rng(0).integers(0, 24, (HEIGHT, width, 3))
    return (np.where(inside[..., None], 200, 30) + noise).astype(np.uint8)


def iou(first: np.ndarray, second: np.ndarray) -> float:
    return float((first & second).sum() / (first | second).sum())


def disk_bitmap(shift_px: float) -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return ((columns - 60 - shift_px) / 30) ** 2 + ((rows - 55) / 26) ** 2 < 1


async def test_an_object_is_followed(address: str, connect: Connect) -> None:
    async with (
        connect(address) as client,
        client.open_session(include_boxes=True) as session,
    ):
        assert session.model.model == "maskwire-nano"
        first = await session.track(Frame(disk(), 10, NOON), points=[CLICK])
        assert (first.frame_id, first.capture_time) == (10, NOON)
        assert first.mask(3).is_new
        frames = [Frame(disk(3 * step), 10 + step, NOON) for step in range(1, 7)]
        results = [first, *[one async for one in session.stream(frames)]]
        summary = await session.end()
    for step, result in enumerate(results):
        assert result.frame_id == 10 + step
        mask = result.mask(3)
        assert iou(mask.bitmap, disk_bitmap(3 * step)) > 0.85
        assert mask.state is ObjectState.TRACKED
        assert mask.area_px == mask.bitmap.sum()
        assert mask.normalized_box is not None
        assert result.info.models[0].model == "maskwire-nano"
    assert not results[1].mask(3).is_new
    assert (summary.frames_sent, summary.frames_answered) == (7, 7)


@pytest.mark.parametrize("encoding", [MaskEncoding.COCO_RLE, MaskEncoding.PNG_1BIT])
async def test_masks_sent_in_short_are_the_same_masks(
    address: str, connect: Connect, encoding: MaskEncoding
) -> None:
    pictures = [encode_image(disk(shift)) for shift in (0, 4, 4, 4, 8)]
    async with connect(address) as client:
        results = []
        for options in ({}, {"mark_unchanged": True, "crop_to_box": True}):
            async with client.open_session(encoding=encoding, **options) as session:
                stream = session.stream(pictures, points=[CLICK])
                results.append([one async for one in stream])
    for whole, short in zip(*results, strict=True):
        assert np.array_equal(whole.mask(3).bitmap, short.mask(3).bitmap)
        assert short.mask(3).bitmap.shape == (HEIGHT, WIDTH)


async def test_requests_about_objects(address: str, connect: Connect) -> None:
    async with connect(address) as client, client.open_session() as session:
        await session.track(disk(), points=[CLICK])
        added = await session.prompt(boxes=[Box(100, 80, 150, 110)])
        (new_id,) = [mask.object_id for mask in added]
        assert session.object_ids == {3, new_id}
        both = await session.track(disk(1))
        assert {mask.object_id for mask in both} == {3, new_id}
        assert await session.remove([new_id]) == {3}
        assert await session.clear_prompts([3]) == {3}
        await session.pause()
        assert (await session.track(disk(2))).masks == ()
        await session.resume()
        assert {mask.object_id for mask in await session.track(disk(2))} == {3}
        await session.reset()
        assert (await session.track(disk(width=200), points=[CLICK])).mask(3).bitmap.shape == (
            HEIGHT,
            200,
        )


async def test_errors_are_raised_where_they_belong(address: str, connect: Connect) -> None:
    async with connect(address) as client, client.open_session() as session:
        with pytest.raises(errors.MaskwireError):
            await session.prompt(points=[CLICK])
        await session.track(disk(), points=[CLICK])
        with pytest.raises(errors.InvalidArgument) as raised:
            await session.track(disk(width=200))
        assert raised.value.frame_id == 1
        with pytest.raises(errors.MaskwireError):
            await session.remove([77])
        with pytest.raises(errors.InvalidArgument):
            await session.track(b"no picture")
        with pytest.raises(errors.InvalidArgument):
            await session.prompt(points=[Point(5000, 1)])
        assert (await session.track(disk())).mask(3).area_px > 0
    async with connect(address) as client:
        with pytest.raises(errors.ModelNotFound):
            await client.open_session(model="absent")


async def test_every_frame_is_accounted_for(address: str, connect: Connect) -> None:
    picture = encode_image(disk())
    async with connect(address) as client:
        for options in (
            {"drop_policy": DropPolicy.LATEST_ONLY},
            {"every_nth_frame": 4},
            {"on_change_only": True},
        ):
            async with client.open_session(window=6, **options) as session:
                stream = session.stream((picture for _ in range(10)), points=[CLICK])
                results = [one async for one in stream]
                summary = await session.end()
            dropped = [drop for one in results for drop in one.dropped_frames]
            dropped += summary.dropped_frames
            seen = [one.frame_id for one in results] + [drop.frame_id for drop in dropped]
            assert sorted(seen) == list(range(10)), options
            assert summary.frames_answered == len(results)
            assert (summary.frames_dropped, summary.frames_lost) == (len(dropped), 0)
            reasons = {drop.reason for drop in dropped}
            is_latest = "drop_policy" in options
            assert reasons <= {DropReason.STALE if is_latest else DropReason.SAMPLED_OUT}


async def test_a_session_goes_on_from_its_seed(address: str, connect: Connect) -> None:
    async with connect(address) as client:
        async with client.open_session() as session:
            await session.track(disk(), points=[CLICK])
            seed = await session.export_seed()
        async with client.open_session(resume_from=seed) as resumed:
            assert resumed.resumed_object_ids == (3,)
            result = await resumed.track(disk(3))
            assert iou(result.mask(3).bitmap, disk_bitmap(3)) > 0.85
        with pytest.raises(errors.MaskwireError):
            await client.open_session(resume_from=type(seed)(b"not a seed", 0))


async def test_a_killed_server_costs_unanswered_frames_only(
    tmp_path: Path, address: str, connect: Connect
) -> None:
    pictures = [encode_image(disk(shift), "jpeg") for shift in range(16)]
    frozen = threading.Event()

    def filmed() -> Iterator[bytes]:
        """Freeze the server once the 13th is sent: however late the kill, it has no answer."""
        yield from pictures[:13]
        first.signal(signal.SIGSTOP)
        frozen.set()
        yield from pictures[13:]

    with server_process(tmp_path) as first:
        policy = Reconnect(targets=(address,), seed_interval_s=0.0)
        async with (
            connect(first.address) as client,
            client.open_session(reconnect=policy, window=6) as session,
        ):
            stream = session.stream(filmed(), points=[CLICK])
            # The window then has room for the 13th.
            results = [await anext(stream) for _ in range(7)]
            assert await asyncio.to_thread(frozen.wait, 60)
            first.signal(signal.SIGKILL)
            results += [one async for one in stream]
            assert session.resumed_object_ids == (3,)
            summary = await session.end()
    lost = [frame.frame_id for one in results for frame in one.lost_frames]
    answered = [one.frame_id for one in results]
    assert sorted(answered + lost) == list(range(16))
    assert 0 < len(lost) <= 6
    assert [frame.frame_id for frame in summary.lost_frames] == lost
    assert summary.reconnects == 1
    for result in results:
        assert [mask.object_id for mask in result] == [3]
        assert iou(result.mask(3).bitmap, disk_bitmap(result.frame_id)) > 0.8
    sequences = [one.sequence for one in results]
    assert sequences == sorted(sequences)


async def test_a_server_that_drains_costs_nothing(
    tmp_path: Path, address: str, connect: Connect
) -> None:
    pictures = [encode_image(disk(shift), "jpeg") for shift in range(16)]
    patient: dict[str, dict[str, Any]] = {
        "grpc": {"shutdown_grace_s": 120.0},
        "sessions": {"drain_grace_s": 120.0},
    }
    with server_process(tmp_path, **patient) as first:
        policy = Reconnect(targets=(address,))
        async with (
            connect(first.address) as client,
            client.open_session(reconnect=policy, window=6) as session,
        ):
            stream = session.stream(pictures, points=[CLICK])
            results = [await anext(stream) for _ in range(5)]
            first.signal(signal.SIGTERM)
            results += [one async for one in stream]
            summary = await session.end()
    assert [one.frame_id for one in results] == list(range(16))
    assert all([mask.object_id for mask in one] == [3] for one in results)
    assert (summary.frames_lost, summary.reconnects) == (0, 1)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of the moving disk, MP4."""
    path = tmp_path_factory.mktemp("video") / "disk.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for shift in range(12):
            picture = av.VideoFrame.from_ndarray(disk(2 * shift), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


async def test_a_stored_video(address: str, connect: Connect, video: Path) -> None:
    async with connect(address) as client:
        track = client.track_video(video, points=[CLICK], render_overlay=True)
        frames = [frame async for frame in track]
    assert (track.info.size.width_px, track.info.size.height_px) == (WIDTH, HEIGHT)
    assert [frame.frame_index for frame in frames] == list(range(12))
    assert frames[5].time_s == pytest.approx(0.5)
    for frame in frames:
        assert iou(frame.masks[0].bitmap, disk_bitmap(2 * frame.frame_index)) > 0.8
        assert [mask.object_id for mask in frame] == [3]
    assert frames[-1].progress.frames_done == 12
    assert track.summary.decode_error is None
    with av.open(io.BytesIO(track.summary.overlay.data), "r") as overlay:
        assert len(list(overlay.decode(video=0))) == 12


async def test_a_range_of_a_video_in_both_directions(
    address: str, connect: Connect, video: Path
) -> None:
    click = Point(60 + 12, 55, object_id=3, frame_index=6)
    async with connect(address) as client:
        track = client.track_video(
            os.fspath(video),
            points=[click],
            direction=TrackDirection.BOTH,
            start_frame=2,
            end_frame=11,
            stride=2,
        )
        frames = [frame async for frame in track]
        assert sorted({frame.frame_index for frame in frames}) == [2, 4, 6, 8, 10]
        with pytest.raises(errors.InvalidArgument):
            _ = [
                one async for one in client.track_video(video, points=[Point(1, 1, frame_index=99)])
            ]


async def test_a_video_that_is_left_early(address: str, connect: Connect, video: Path) -> None:
    async with connect(address) as client:
        async with client.track_video(video, points=[CLICK]) as track:
            assert track.info.frame_count == 12
            assert (await anext(track)).frame_index == 0
        with pytest.raises(errors.Cancelled):
            _ = [frame async for frame in track]
        assert (await client.model()).is_default
