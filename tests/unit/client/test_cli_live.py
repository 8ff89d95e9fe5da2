"""The frames and the figures of `maskwire live`, without a server."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from maskwire_client import (
    CocoRleCounts,
    DroppedFrame,
    DropReason,
    Frame,
    FrameResult,
    ImageFolder,
    ImageInfo,
    ImageSize,
    ObjectState,
    ProcessingInfo,
    SessionSummary,
    Timings,
    TrackedMask,
    VideoFile,
)
from maskwire_client.cli.exit_codes import ExitCode
from maskwire_client.cli.failures import CommandFailure
from maskwire_client.cli.live_figures import LiveFigures
from maskwire_client.cli.live_frames import LiveFrames, open_source
from maskwire_client.cli.video_output import Mp4Writer

START = datetime(2026, 1, 1, tzinfo=UTC)
INFO = ProcessingInfo(
    models=(),
    image=ImageInfo("", ImageSize(8, 8), ""),
    embedding_cached=False,
    timings=Timings(encode=timedelta(milliseconds=30), total=timedelta(milliseconds=40)),
    request_id="r",
)


def source(count: int) -> Iterator[Frame]:
    for number in range(count):
        pixels = np.full((8, 8, 3), number, dtype=np.uint8)
        yield Frame(pixels, 100 + number, START + timedelta(seconds=number))


def live_frames(frames: Iterable[Frame], keeps: bool = True) -> LiveFrames:
    return LiveFrames(frames, None, None, keeps=keeps)


def test_frames_are_numbered_from_0_and_kept_until_they_are_taken() -> None:
    frames = live_frames(source(4))
    given = [frame for frame in frames if isinstance(frame, Frame)]
    assert [frame.frame_id for frame in given] == [0, 1, 2, 3]
    frames.forget([0, 2])
    assert frames.take(0) is None
    taken = frames.take(3)
    assert taken is not None
    assert taken[0][0, 0].tolist() == [3, 3, 3]
    assert taken[1] == 3.0
    assert frames.take(3) is None


def test_nothing_is_kept_unless_wanted() -> None:
    frames = live_frames(source(2), keeps=False)
    assert len(list(frames)) == 2
    assert frames.take(1) is None


def test_no_frames_come_after_stop() -> None:
    frames = live_frames(source(10))
    given = iter(frames)
    next(given)
    next(given)
    frames.stop()
    assert list(given) == []


def test_pauses_between_frames_end_at_stop() -> None:
    frames = LiveFrames(source(3), 0.001, None, keeps=False)
    given = iter(frames)
    next(given)
    frames.stop()
    # At 0.001 frames a second the next one would come after a quarter of an hour.
    assert list(given) == []


def test_frames_end_after_the_time_given() -> None:
    endless = (Frame(np.zeros((8, 8, 3), dtype=np.uint8)) for _ in iter(int, 1))
    frames = LiveFrames(endless, 200.0, 0.1, keeps=False)
    assert 1 <= len(list(frames)) <= 21


def test_files_of_a_folder_are_decoded_when_they_are_drawn_on(tmp_path: Path) -> None:
    for number in range(2):
        Image.new("L", (9, 7), 50 * number).save(tmp_path / f"{number}.png")
    opened, rate = open_source(None, tmp_path, None)
    assert isinstance(opened, ImageFolder)
    assert rate == 30
    frames = LiveFrames(opened, 1000.0, None, keeps=True)
    assert len(list(frames)) == 2
    taken = frames.take(1)
    assert taken is not None
    assert taken[0].shape == (7, 9, 3)
    assert taken[1] == pytest.approx(0.001)


def test_a_video_comes_at_its_own_rate_or_the_one_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    with Mp4Writer(file) as video:
        for number in range(5):
            video.add(np.zeros((16, 16, 3), dtype=np.uint8), number / 5)
    opened, rate = open_source(None, file, None)
    assert isinstance(opened, VideoFile)
    assert rate == pytest.approx(5, rel=0.3)
    assert open_source(None, file, 17.0)[1] == 17.0


@pytest.mark.parametrize(
    ("camera", "name"), [(None, None), (0, "a.mp4"), (None, "absent.mp4"), (None, "text.mp4")]
)
def test_sources_that_give_no_frames_are_refused(
    tmp_path: Path, camera: int | None, name: str | None
) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(CommandFailure) as raised:
        open_source(camera, tmp_path / name if name else None, None)
    assert raised.value.exit_code is ExitCode.USAGE


def mask(object_id: int, state: ObjectState) -> TrackedMask:
    bitmap = np.eye(8, dtype=np.bool_)
    return TrackedMask(
        index=0,
        object_id=object_id,
        area_px=8,
        score=0.75,
        encoded=CocoRleCounts.encode(bitmap),
        state=state,
    )


def answer(
    frame_id: int, latency_s: float, *masks: TrackedMask, dropped: tuple[int, ...] = ()
) -> FrameResult:
    return FrameResult(
        frame_id=frame_id,
        sequence=frame_id + 2,
        masks=masks,
        info=INFO,
        dropped_frames=tuple(
            DroppedFrame(number + 2, number, DropReason.STALE) for number in dropped
        ),
        latency_s=latency_s,
    )


def some_figures() -> LiveFigures:
    figures = LiveFigures("maskwire-nano", "sessions/1")
    figures.add(answer(0, 0.1, mask(1, ObjectState.TRACKED), mask(2, ObjectState.TRACKED)))
    figures.add(answer(3, 0.3, mask(1, ObjectState.LOST), dropped=(1, 2)))
    figures.add_failure()
    return figures


def test_figures_count_what_became_of_frames_and_objects() -> None:
    values = some_figures().to_json([Path("overlay.mp4")])
    assert values["frames"] == {"answered": 2, "dropped": 2, "failed": 1}
    assert values["dropped"] == {"stale": 2}
    assert values["latency_ms"]["p50"] == pytest.approx(100, rel=0.01)
    assert values["latency_ms"]["p99"] == pytest.approx(300, rel=0.01)
    assert values["latency_ms"]["max"] == pytest.approx(300)
    assert values["server_ms"]["encode"]["mean"] == pytest.approx(30)
    assert values["server_ms"].keys() == {"encode", "total"}
    assert values["objects"] == [
        {"object_id": 1, "state": "lost", "frames": {"tracked": 1, "lost": 1}},
        {"object_id": 2, "state": "gone", "frames": {"tracked": 1}},
    ]
    assert values["files"] == ["overlay.mp4"]
    assert json.loads(json.dumps(values)) == values


def test_the_sessions_own_counts_are_the_final_ones() -> None:
    figures = some_figures()
    figures.finish(
        SessionSummary(frames_sent=8, frames_answered=2, frames_dropped=5, frames_failed=1)
    )
    assert figures.to_json()["frames"] == {
        "sent": 8,
        "answered": 2,
        "dropped": 5,
        "failed": 1,
        "lost": 0,
    }


def test_figures_are_shown_as_tables() -> None:
    console = Console(width=120, record=True, quiet=True)
    console.quiet = False
    with console.capture() as captured:
        console.print(LiveFigures("maskwire-nano", "s").render())
        console.print(some_figures().render())
    text = captured.get()
    assert "2 answered, 2 dropped, 1 failed" in text
    assert "p50 100" in text
    assert "gone" in text
