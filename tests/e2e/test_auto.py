"""`maskwire auto` as users run it, on the embedded default."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

Run = Callable[..., tuple[int, str, str]]

FEW = ["--points-per-side", "2", "--pred-iou-thresh", "0.1", "--stability-score-thresh", "0.1"]


def write_picture(file: Path, width: int = 96) -> Path:
    """A light rectangle on dark ground."""
    pixels = np.full((64, width, 3), 40, dtype=np.uint8)
    pixels[8:40, 10:60] = (230, 180, 60)
    Image.fromarray(pixels).save(file)
    return file


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_folder_and_a_file_become_one_document(run: Run, server: str, tmp_path: Path) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "out"
    folder.mkdir()
    write_picture(folder / "b.png")
    write_picture(folder / "a.png", width=80)
    (folder / "notes.txt").write_text("no picture")
    single = write_picture(tmp_path / "c.png")
    code, output, _ = run(
        "auto", folder, single, *FEW, "--label-map", "--server", server, "--out", out
    )
    assert code == 0
    assert "a.png" in output
    document = COCO(str(out / "masks.json"))
    images = document.loadImgs(document.getImgIds())
    assert [image["file_name"] for image in images] == ["a.png", "b.png", "c.png"]
    for image in images:
        annotations = document.loadAnns(document.getAnnIds(imgIds=[image["id"]]))
        assert annotations
        for entry in annotations:
            bitmap = document.annToMask(entry)
            assert bitmap.shape == (image["height"], image["width"])
            assert int(bitmap.sum()) == entry["area"] > 0
        stem = Path(image["file_name"]).stem
        with Image.open(out / f"{stem}-overlay.png") as overlay:
            assert overlay.size == (image["width"], image["height"])
        with Image.open(out / f"{stem}-labels.png") as labels:
            assert set(np.unique(np.asarray(labels)).tolist()) <= {
                0,
                *(entry["object_id"] for entry in annotations),
            }
    assert (out / "contact-sheet.png").is_file()


def test_an_image_that_cannot_be_read_does_not_stop_the_others(
    run: Run, server: str, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    write_picture(tmp_path / "b.png")
    code, output, messages = run("auto", tmp_path, *FEW, "--server", server, "--json")
    assert code == 3
    assert "a.png" in messages
    assert "1 of 2 images" in messages
    assert [image["file_name"] for image in json.loads(output)["images"]] == ["b.png"]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        ([], 2, "IMAGE"),
        (["absent.png"], 2, "absent.png"),
        (["EMPTY"], 2, "no images in the folder"),
        (["IMAGE", "--points-per-side", "0"], 2, "points-per-side"),
        (["IMAGE", "--model", "absent"], 4, "absent"),
    ],
)
def test_failures_have_their_exit_codes(
    run: Run, server: str, tmp_path: Path, arguments: list[str], exit_code: int, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"EMPTY": tmp_path / "empty", "IMAGE": write_picture(tmp_path / "a.png")}
    given = [places.get(argument, argument) for argument in arguments]
    out = tmp_path / "out"
    code, output, messages = run("auto", *given, "--server", server, "--json", "--out", out)
    assert code == exit_code
    assert message in messages
    assert output == ""
    assert not out.exists()
