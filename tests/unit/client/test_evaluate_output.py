"""What `maskwire eval` draws and writes of scores."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from maskwire_client import (
    Box,
    CocoRleCounts,
    ImageInfo,
    ImageSize,
    ModelReference,
    Point,
    ProcessingInfo,
    Timings,
)
from maskwire_client.cli.drawing import PALETTE
from maskwire_client.cli.evaluate_curves import plot
from maskwire_client.cli.evaluate_photographs import JudgedObject
from maskwire_client.cli.evaluate_report import (
    photographs_document,
    photographs_table,
    tracks_document,
    tracks_table,
    write_photographs,
    write_results,
    write_tracks,
)
from maskwire_client.cli.evaluate_sheets import View, best_median_worst, sheet
from maskwire_client.cli.evaluate_videos import JudgedTrack, Start
from maskwire_client.evaluation import PromptedScores, TrackedScores

SIZE = (200, 100)
GROUND = (20, 90, 20)


@pytest.mark.parametrize(
    ("count", "each", "chosen"),
    [
        (2, 1, [1, 0]),
        (3, 1, [2, 1, 0]),
        (9, 1, [8, 4, 0]),
        (7, 2, [6, 5, 4, 3, 1, 0]),
        (45, 4, [44, 43, 42, 41, 24, 23, 22, 21, 3, 2, 1, 0]),
    ],
)
def test_best_median_and_worst(count: int, each: int, chosen: list[int]) -> None:
    assert best_median_worst(range(count), float, each) == chosen


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    file = tmp_path / "image.jpg"
    Image.new("RGB", SIZE, GROUND).save(file, quality=100)
    return file


def rectangle(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros(SIZE[::-1], dtype=np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def view(picture: Path, **changes: object) -> View:
    values: dict[str, object] = {
        "caption": "cup, IoU 0.5",
        "picture": picture,
        "truth": partial(rectangle, 60, 20, 140, 80),
        "answer": CocoRleCounts.encode(rectangle(60, 20, 100, 80)),
        "is_cropped": False,
    }
    return View(**{**values, **changes})  # type: ignore[arg-type]


def near(pixels: np.ndarray, colour: tuple[int, ...]) -> np.ndarray:
    return np.abs(pixels.astype(int) - colour).max(axis=-1) < 30


def test_a_sheet_shows_the_truth_as_a_line_and_the_answer_filled(picture: Path) -> None:
    # 200 x 100 px become a panel of 360 x 180 px, 12 px from the corner.
    pixels = np.asarray(sheet([view(picture)]))[12:192, 12:372]
    half = tuple((a + b) // 2 for a, b in zip(PALETTE[0], GROUND, strict=True))
    assert near(pixels[40:140, 120:170], half).all()
    assert near(pixels[40:140, 190:240], GROUND).all()
    assert near(pixels[40:140, 250:254], (255, 255, 255)).any(axis=1).all()
    assert not near(pixels[40:140, 185:240], (255, 255, 255)).any()


def test_a_sheet_of_an_empty_answer_and_of_an_object_at_the_edge(picture: Path) -> None:
    pixels = np.asarray(sheet([view(picture, answer=None)]))[12:192, 12:372]
    assert near(pixels[50:130, 120:240], GROUND).all()
    sheet([view(picture, truth=partial(rectangle, 0, 0, *SIZE), is_cropped=True)])
    nothing = {"truth": partial(rectangle, 0, 0, 0, 0), "answer": None, "is_cropped": True}
    sheet([view(picture, **nothing)])


def test_a_cropped_view_shows_the_surroundings_and_the_prompts_in_place(picture: Path) -> None:
    small = {
        "truth": partial(rectangle, 100, 40, 120, 60),
        "answer": None,
        "is_cropped": True,
    }
    plain = np.asarray(sheet([view(picture, **small)]))
    # 24 px of surroundings: 68 x 68 px become 300 x 300 px, so that the middle stays the middle.
    point = np.asarray(sheet([view(picture, **small, prompts=(Point(110, 50),))]))
    changed = np.argwhere((point != plain).any(axis=2))
    assert changed.mean(axis=0) == pytest.approx([12 + 150, 12 + 150], abs=2)
    box = np.asarray(sheet([view(picture, **small, prompts=(Box(100, 40, 120, 60),))]))
    assert (box != plain).any()


def test_a_plot_draws_each_curve(picture: Path) -> None:
    low, high = (0.25,) * 20, (0.75,) * 20
    pixels = np.asarray(plot({"all": low, "a": high}, "IoU", "clicks", 0.8))
    first = np.argwhere(near(pixels[:, 70:640], (30, 30, 30)).all(axis=1))
    second = np.argwhere((pixels[:, 70:640] == PALETTE[0]).all(axis=(1, 2)))
    assert len(first) == 4
    assert len(second) == 2
    # From the line at 0.25 to that at 0.75 it is half the height of the plot.
    assert first.mean() - second.mean() == pytest.approx(0.5 * (560 - 56 - 48), abs=2)


def test_a_plot_of_one_value() -> None:
    pixels = np.asarray(plot({"all": [0.5]}, "IoU", "clicks", 0.8))
    assert near(pixels[200:400, 55:80], (30, 30, 30)).any()


def info() -> ProcessingInfo:
    return ProcessingInfo(
        models=(ModelReference("maskwire-nano", "sha256:1234"),),
        image=ImageInfo("sha256:0", ImageSize(*SIZE), "image/jpeg"),
        embedding_cached=False,
        timings=Timings(),
        request_id="",
    )


def judged_object(picture: Path, scene: str, name: str, score: float) -> JudgedObject:
    curve = tuple(score * clicks / 6 for clicks in range(1, 7))
    scores = PromptedScores(scene, name, box=score, click_1=score, curve=curve)
    return JudgedObject(scores, view(picture), view(picture), info())


def text_of(table: object) -> str:
    console = Console(width=160)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def test_photographs_are_reported(picture: Path, tmp_path: Path) -> None:
    objects = [
        judged_object(picture, scene, str(number), score)
        for scene, scores in {"street": (0.6, 0.9), "room": (0.3,)}.items()
        for number, score in enumerate(scores)
    ]
    document = photographs_document(objects, ["room/7"], 6)
    assert (document["box"], document["objects"]) == (pytest.approx(0.6), 3)
    assert document["scenes"]["street"]["box"] == pytest.approx(0.75)
    assert document["model"] == "maskwire-nano"
    assert document["skipped"] == ["room/7"]
    assert [entry["scene"] for entry in document["per_object"]] == ["street", "street", "room"]
    assert json.loads(write_results(tmp_path, document).read_text()) == document
    table = text_of(photographs_table(objects))
    assert [line.split()[1] for line in table.splitlines() if "0." in line][1:] == ["room", "all"]
    assert "0.600" in table.splitlines()[-2]
    assert {file.name for file in write_photographs(tmp_path, objects)} == {
        "clicks.png",
        "cases-box.png",
        "cases-clicks.png",
    }


def test_clips_are_reported(picture: Path, tmp_path: Path) -> None:
    tracks = [
        JudgedTrack(
            TrackedScores("walk", str(number), (1, 2), (score, score), (score, 0.5)),
            (view(picture),) * 2,
            info(),
        )
        for number, score in enumerate((0.2, 0.5, 0.8, 0.9))
    ]
    document = tracks_document(tracks, Start.CLICK)
    assert document["j"] == pytest.approx(0.6)
    assert document["j_and_f"] == pytest.approx((document["j"] + document["f"]) / 2)
    assert document["start"] == "click"
    assert document["clips"]["walk"]["objects"] == 4
    assert "0.600" in text_of(tracks_table(tracks))
    (written,) = write_tracks(tmp_path, tracks)
    with Image.open(written) as drawn:  # three objects with two frames each
        assert drawn.height > 2 * 150
