"""`maskwire live` as users run it, on the embedded default."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from maskwire_client.cli.live_figures import LiveFigures
from tests.support import videos

Run = Callable[..., tuple[int, str, str]]

SQUARE = f"0,{videos.TOP},{videos.SIDE},{videos.TOP + videos.SIDE}"


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("clip") / "squares.mp4"
    file.write_bytes(videos.squares_video(8))
    return file


def frames_of(file: Path) -> int:
    with av.open(str(file)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_every_frame_is_answered_and_drawn(
    run: Run, server: str, video: Path, tmp_path: Path
) -> None:
    arguments = ["--video", video, "--fps", "100", "--box", f"{SQUARE}@3"]
    code, output, _ = run("live", *arguments, "--server", server, "--json", "--out", tmp_path)
    assert code == 0
    figures = json.loads(output)
    assert figures["model"] == "maskwire-nano"
    assert figures["frames"] == {"sent": 8, "answered": 8, "dropped": 0, "failed": 0, "lost": 0}
    assert 0 < figures["latency_ms"]["p50"] <= figures["latency_ms"]["p99"]
    assert figures["server_ms"]["total"]["p50"] > 0
    (tracked,) = figures["objects"]
    assert tracked["object_id"] == 3
    assert sum(tracked["frames"].values()) == 8
    assert figures["files"] == [str(tmp_path / "overlay.mp4")]
    assert frames_of(tmp_path / "overlay.mp4") == 8


def test_frames_that_are_dropped_are_accounted_for(
    run: Run, server: str, video: Path, tmp_path: Path
) -> None:
    arguments = ["--video", video, "--fps", "1000", "--box", SQUARE, "--latest-only"]
    code, output, _ = run("live", *arguments, "--server", server, "--json", "--out", tmp_path)
    assert code == 0
    frames = json.loads(output)["frames"]
    assert frames["sent"] == 8
    assert frames["answered"] + frames["dropped"] == 8
    assert frames_of(tmp_path / "overlay.mp4") == frames["answered"]


def test_control_c_ends_the_session_in_good_order(
    run: Run, server: str, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = LiveFigures.add

    def add_and_interrupt(figures: LiveFigures, result) -> None:
        add(figures, result)
        if result.frame_id == 1:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(LiveFigures, "add", add_and_interrupt)
    arguments = ["--video", video, "--fps", "50", "--box", SQUARE]
    code, output, _ = run("live", *arguments, "--server", server)
    assert code == 0
    assert "0 failed, 0 lost" in output
    assert "latency ms" in output
    assert "tracked" in output


def test_a_video_that_breaks_off_ends_with_its_figures(
    run: Run, server: str, tmp_path: Path
) -> None:
    file = tmp_path / "cut.mp4"
    whole = videos.index_first(videos.squares_video(24, keyframe_every=4))
    file.write_bytes(videos.cut_in_data(whole, 0.6))
    code, output, messages = run(
        "live", "--video", file, "--fps", "100", "--box", SQUARE, "--server", server, "--json"
    )
    assert code == 8
    assert "broken at frame" in messages
    assert 0 < json.loads(output)["frames"]["answered"] < 24


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["--point", "1,1"], 2, "either a camera or a video"),
        (["--video", "absent.mp4", "--point", "1,1"], 2, "absent.mp4"),
        (["--video", "VIDEO"], 2, "maskwire live --camera 0"),
        (["--video", "VIDEO", "--point", "500,30"], 3, "prompts[0]"),
        (["--video", "VIDEO", "--point", "1,1", "--model", "absent"], 4, "absent"),
    ],
)
def test_failures_have_their_exit_codes(
    run: Run, server: str, video: Path, arguments: list[str], exit_code: int, message: str
) -> None:
    given = [str(video) if argument == "VIDEO" else argument for argument in arguments]
    code, _, messages = run("live", *given, "--server", server)
    assert code == exit_code
    assert message in messages
