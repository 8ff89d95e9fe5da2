"""`maskwire bench load` as users run it, on the embedded default."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

Run = Callable[..., tuple[int, str, str]]

SMALL = ("--size", "64x48", "--pictures", "2", "--warmup", "0")
CAMERA_FRAMES = 12


def test_a_mix_is_measured_and_left_behind(run: Run, server: str, tmp_path: Path) -> None:
    code, output, messages = run(
        *("bench", "load", "--server", server, *SMALL, "--rate", "6", "--duration", "3"),
        *("--mix", "segment=8,auto=1,job=1", "--repeat-share", "0.8", "--connections", "2"),
        *("--cameras", "1", "--fps", "4", "--deadline", "120", "--seed", "11"),
        # A frame that passes by while the device is busy with others is no failure here.
        *("--max-failures", str(CAMERA_FRAMES), "--json", "--out", tmp_path),
    )
    assert code == 0, messages
    shown = json.loads(output)
    for kind in ("segment", "auto", "job"):
        figures = shown["kinds"][kind]
        assert figures["ok"] == figures["sent"] > 0
        assert figures["codes"] == {"OK": figures["sent"]}
        assert 0 < figures["latency_ms"]["p50"] <= figures["latency_ms"]["p99.9"]
    sessions = shown["sessions"]
    assert sessions["opened"] == 1
    assert sessions["offered"] == sessions["sent"] + sessions["shed"] > 0
    assert sessions["sent"] == sessions["answered"] + sessions["dropped"]
    assert sessions["unaccounted"] == 0
    assert shown["generator"]["loop_lag_ms"]["p99"] >= 0
    assert shown["generator"]["cpu_share"] > 0
    names = ["report.json", "latency-percentiles.png", "latency-over-time.png", "latencies.hlog"]
    assert [Path(file).name for file in shown["files"]] == names
    for name in names[1:3]:
        with Image.open(tmp_path / name) as picture:
            assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 3
    assert "Tag=segment," in (tmp_path / "latencies.hlog").read_text()
    assert json.loads((tmp_path / "report.json").read_text())["kinds"] == shown["kinds"]


def test_figures_are_shown_as_a_table(run: Run, server: str) -> None:
    code, output, _ = run(
        *("bench", "load", "--server", server, *SMALL, "--rate", "4", "--duration", "1")
    )
    assert code == 0
    for text in ("segment", "p99.9 ms", "loop lag p99", "of a core"):
        assert text in output


def test_more_failures_than_are_accepted_fail_the_command(run: Run, server: str) -> None:
    arguments = ("bench", "load", "--server", server, *SMALL, "--rate", "8", "--duration", "1")
    code, output, messages = run(*arguments, "--model", "absent", "--json")
    figures = json.loads(output)["kinds"]["segment"]
    assert code == 1
    assert figures["codes"] == {"NOT_FOUND": figures["sent"]}
    assert "0 are accepted" in messages
    assert "absent" in messages
    code, _, _ = run(*arguments, "--model", "absent", "--max-failures", "1000")
    assert code == 0


def test_a_goal_that_no_rate_keeps(run: Run, server: str, tmp_path: Path) -> None:
    code, output, messages = run(
        *("bench", "load", "--server", server, *SMALL, "--rate", "8", "--duration", "1"),
        *("--find-capacity", "--goal-p99", "0.001", "--json", "--out", tmp_path),
    )
    assert code == 7
    shown = json.loads(output)
    assert shown["capacity_per_s"] == 0
    assert [step["rate_per_s"] for step in shown["steps"]] == [8, 4, 2]
    assert all(step["verdict"].startswith("p99") for step in shown["steps"])
    assert "trying 4.00 a second" in messages
    assert (tmp_path / "latency-percentiles.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--server HOST:PORT"),
        (["--server", "x:1", "--mix", "frame=1"], "none of segment, auto, job"),
        (["--server", "x:1", "--mix", "job=much"], "no number"),
        (["--server", "x:1", "--mix", "segment=0"], "nothing is to be done"),
        (["--server", "x:1", "--prompts", "wish"], "none of point, box, text"),
        (["--server", "x:1", "--prompts", ""], "at least one form"),
        (["--server", "x:1", "--size", "big"], "is not WxH"),
        (["--server", "x:1", "--size", "1x1"], "16 to 8192"),
        (["--server", "x:1", "--images", "absent"], "no such folder"),
    ],
)
def test_options_that_make_no_plan(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.delenv("MASKWIRE_SERVER", raising=False)
    code, _, messages = run("bench", "load", *arguments)
    assert code == 2
    assert message in messages
