"""`maskwire eval` as users run it, on the embedded default."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskwire_client import Client, PointLabel, PromptKind
from maskwire_client.cli.evaluate_photographs import PhotographJudge
from maskwire_client.evaluation import find_photographs
from maskwire_server.domain.geometry import ImageSize
from tests.support.clips import make_clip
from tests.support.sam2_checkpoints import Sam2Files
from tests.support.server_process import server_process

Run = Callable[..., tuple[int, str, str]]

SCENES = {"garden": ((20, 10, 70, 50), (80, 12, 120, 52)), "attic": ((30, 20, 100, 70),)}
COLOURS = ((230, 180, 60), (60, 140, 230))


def write_photographs(folder: Path) -> Path:
    """Coloured rectangles on dark ground, and their masks."""
    for scene, boxes in SCENES.items():
        pixels = np.full((80, 130, 3), 40, dtype=np.uint8)
        (folder / scene).mkdir(parents=True)
        for number, (left, top, right, bottom) in enumerate(boxes):
            pixels[top:bottom, left:right] = COLOURS[number]
            mask = np.zeros(pixels.shape[:2], dtype=np.uint8)
            mask[top:bottom, left:right] = 255
            Image.fromarray(mask).save(folder / scene / f"{number}.png")
        Image.fromarray(pixels).save(folder / scene / "image.jpg", quality=95)
    return folder


def iou_by_score_py(truth_file: Path, answer: np.ndarray) -> float:
    """As the script that the figures are judged by computes it."""
    truth = np.asarray(Image.open(truth_file).convert("L")) > 127
    return float((truth & answer).sum() / (truth | answer).sum())


def test_photographs_are_scored(run: Run, server: str, tmp_path: Path) -> None:
    folder, out = write_photographs(tmp_path / "pictures"), tmp_path / "out"
    options = ["--clicks", "6", "--server", server, "--out", out]
    code, output, _ = run("eval", folder, *options, "--json")
    assert code == 0
    document = json.loads(output)
    assert document["objects"] == 3
    for key in ("box", "click_1", "click_1_single", "click_3", "click_5"):
        assert 0 <= document[key] <= 1
    assert 1 <= document["noc_80"] <= 6
    assert len(document["curve"]) == 6
    assert {name: means["objects"] for name, means in document["scenes"].items()} == {
        "attic": 1,
        "garden": 2,
    }
    files = document.pop("files")
    assert sorted(Path(file).name for file in files) == [
        "cases-box.png",
        "cases-clicks.png",
        "clicks.png",
        "results.json",
    ]
    assert json.loads((out / "results.json").read_text()) == document
    for name in ("cases-box.png", "cases-clicks.png", "clicks.png"):
        with Image.open(out / name) as picture:
            assert picture.width > 300

    expected = []
    with Client(server) as client:
        for scene, boxes in SCENES.items():
            for number, box in enumerate(boxes):
                answer = client.segment(folder / scene / "image.jpg", boxes=[box]).masks[0].bitmap
                expected.append(iou_by_score_py(folder / scene / f"{number}.png", answer))
    assert document["box"] == pytest.approx(np.mean(expected), abs=1e-5)


def test_the_table_names_scenes_and_model(run: Run, server: str, tmp_path: Path) -> None:
    folder = write_photographs(tmp_path)
    empty = np.zeros((80, 130), dtype=np.uint8)
    Image.fromarray(empty).save(folder / "attic" / "9.png")
    code, output, messages = run("eval", folder, "--clicks", "5", "--server", server)
    assert code == 0
    assert [word in output for word in ("garden", "attic", "all", "maskwire-nano")] == [True] * 4
    assert "attic/9 is left out: its mask is empty" in messages


class RecordingClient(Client):
    """A client that remembers what it was asked to segment."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.asked: list[dict[str, Any]] = []
        self.answers: list[Any] = []

    def segment(self, image: Any, **arguments: Any) -> Any:
        self.asked.append(arguments)
        self.answers.append(super().segment(image, **arguments))
        return self.answers[-1]


def test_each_click_corrects_the_answer_before(server: str, tmp_path: Path) -> None:
    (photograph,) = find_photographs(write_photographs(tmp_path))[:1]
    with RecordingClient(server) as client:
        (judged,) = PhotographJudge(client, client.model(), 5, 60.0).judge([photograph], print)
        boxed, *clicked, alternatives = client.asked
        box = boxed["boxes"][0]
        assert (box.x_min, box.y_min, box.x_max, box.y_max) == SCENES["attic"][0]
        assert alternatives["return_multiple_masks"]
        assert alternatives["points"] == clicked[0]["points"]
        assert len(client.answers[-1].masks) == 3
        assert clicked[0]["masks"] == []
        assert all(asked["include_logits"] for asked in clicked)
        truth = photograph.objects[0].read()
        following = zip(client.answers[1:-1], clicked, clicked[1:], strict=False)
        for answer, before, asked in following:
            (earlier,) = answer.masks
            assert earlier.logits is not None
            assert [prompt.mask for prompt in asked["masks"]] == [earlier]
            *same, click = asked["points"]
            assert same == before["points"]
            row, column = int(click.y), int(click.x)
            assert earlier.bitmap[row, column] != truth[row, column]
            assert (click.label is PointLabel.FOREGROUND) == truth[row, column]
        scored = [
            iou_by_score_py(photograph.objects[0].file, answer.masks[0].bitmap)
            for answer in client.answers[1:-1]
        ]
        assert judged.scores.curve[: len(scored)] == pytest.approx(scored)
        assert client.answers[-1].info.embedding_cached


def test_a_model_that_takes_no_masks_is_sent_none(server: str, tmp_path: Path) -> None:
    photographs = find_photographs(write_photographs(tmp_path))[:1]
    with RecordingClient(server) as client:
        model = replace(client.model(), prompt_kinds=frozenset({PromptKind.POINT, PromptKind.BOX}))
        list(PhotographJudge(client, model, 5, 60.0).judge(photographs, print))
        assert not any(asked.get("masks") for asked in client.asked)


def write_clips(folder: Path, *, as_davis: bool) -> Path:
    """A clip of six frames with two objects."""
    clip = make_clip(5, 6, ImageSize(160, 120), objects=2)
    frames = folder / "JPEGImages" / "480p" / "walk" if as_davis else folder / "walk"
    maps = folder / "Annotations" / "480p" / "walk" if as_davis else frames / "masks"
    for made in (frames, maps):
        made.mkdir(parents=True)
    for number, (pixels, masks) in enumerate(zip(clip.frames, clip.masks, strict=True)):
        Image.fromarray(pixels).save(frames / f"{number:05d}.jpg", quality=95)
        labels = np.zeros(pixels.shape[:2], dtype=np.uint8)
        for object_id, mask in masks.items():
            labels[mask] = object_id
        Image.fromarray(labels).save(maps / f"{number:05d}.png")
    return folder


@pytest.mark.parametrize("start", ["mask", "box", "click"])
def test_clips_are_scored(run: Run, server: str, tmp_path: Path, start: str) -> None:
    folder, out = write_clips(tmp_path / "clips", as_davis=start == "box"), tmp_path / "out"
    options = ["--start", start, "--server", server, "--out", out]
    code, output, _ = run("eval", folder, *options, "--json")
    assert code == 0
    document = json.loads(output)
    assert (document["objects"], document["start"]) == (2, start)
    assert document["j_and_f"] == pytest.approx((document["j"] + document["f"]) / 2, abs=1e-5)
    assert document["clips"]["walk"]["j"] == document["j"]
    assert [entry["frames"] for entry in document["per_object"]] == [4, 4]
    with Image.open(out / "cases-video.png") as sheet:  # two objects with four frames each
        assert sheet.width > 1000
    if start == "mask":
        # Small steps between frames: whoever follows at all scores more than this.
        assert document["j"] > 0.4


def test_clips_have_a_table_too(run: Run, server: str, tmp_path: Path) -> None:
    code, output, _ = run("eval", write_clips(tmp_path, as_davis=False), "--server", server)
    assert code == 0
    assert "J&F" in output
    assert "walk" in output


def test_any_engine_can_be_measured(run: Run, quick_sam2: Sam2Files, tmp_path: Path) -> None:
    photographs = write_photographs(tmp_path / "pictures")
    clips = write_clips(tmp_path / "clips", as_davis=True)
    sam2 = {
        "name": "small",
        "engine": "sam2",
        "config": str(quick_sam2.config),
        "checkpoint": str(quick_sam2.checkpoint),
    }
    with server_process(tmp_path, models={"serve": [{"name": "maskwire-nano"}, sam2]}) as server:
        options = ["--model", "small", "--server", server.address, "--json"]
        code, output, messages = run("eval", photographs, "--clicks", "5", *options)
        assert code == 0, messages
        assert (json.loads(output)["model"], json.loads(output)["objects"]) == ("small", 3)
        code, output, messages = run("eval", clips, "--start", "click", *options)
        assert code == 0, messages
        assert (json.loads(output)["model"], json.loads(output)["objects"]) == ("small", 2)


def test_folders_that_cannot_be_measured(run: Run, tmp_path: Path) -> None:
    code, _, messages = run("eval", tmp_path / "absent")
    assert code == 2
    assert "no labelled photographs or clips" in messages
    assert "image.jpg" in messages
    write_photographs(tmp_path)
    Image.new("L", (5, 5), 255).save(tmp_path / "attic" / "8.png")
    code, _, messages = run("eval", tmp_path)
    assert code == 2
    assert "8.png is 5 x 5 px" in messages
    (tmp_path / "attic" / "8.png").unlink()
    write_clips(tmp_path, as_davis=False)
    code, _, messages = run("eval", tmp_path)
    assert code == 2
    assert "both photographs and clips" in messages


def test_failures_have_their_exit_codes(run: Run, server: str, tmp_path: Path) -> None:
    folder = write_photographs(tmp_path / "pictures")
    code, output, messages = run("eval", folder, "--server", server, "--model", "absent", "--json")
    assert (code, output) == (4, "")
    assert "absent" in messages
    assert run("eval", folder, "--server", "127.0.0.1:1")[0] == 5
    (tmp_path / "file").write_text("")
    code, _, messages = run("eval", folder, "--server", server, "--out", tmp_path / "file")
    assert code == 2
    assert "cannot be written to" in messages
    (folder / "attic" / "image.jpg").write_bytes(b"no image")
    code, _, messages = run("eval", folder, "--server", server)
    assert code == 2
    assert "image.jpg" in messages


# All that a client-only install does not have, made impossible to import.
CLIENT_ONLY = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"cv2", "matplotlib", "scipy", "skimage", "torch"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from maskwire_client.cli import main
main(sys.argv[1:])
"""


def test_a_client_only_install_measures_a_server(server: str, tmp_path: Path) -> None:
    folder = write_photographs(tmp_path / "pictures")
    arguments = ["eval", folder, "--clicks", "5", "--server", server, "--json"]
    result = subprocess.run(
        [sys.executable, "-c", CLIENT_ONLY, *map(str, arguments), "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["objects"] == 3
