"""The prompts of the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from maskwire_client import Box, Point, PointLabel
from maskwire_client.cli.prompts import parse_box, parse_mask, parse_point

BACKGROUND = PointLabel.BACKGROUND


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("3,4", Point(3, 4)),
        ("3.5, 4e1", Point(3.5, 40)),
        ("3,4,1", Point(3, 4)),
        ("3,4,fg", Point(3, 4)),
        ("3,4,+", Point(3, 4)),
        ("3,4,0", Point(3, 4, BACKGROUND)),
        ("3,4,BG", Point(3, 4, BACKGROUND)),
        ("3,4,-@12", Point(3, 4, BACKGROUND, 12)),
        ("3,4@2", Point(3, 4, object_id=2)),
    ],
)
def test_points(text: str, point: Point) -> None:
    assert parse_point(text) == point


@pytest.mark.parametrize("text", ["", "3", "3,4,7", "3,4,1,5", "a,b", "3,4@", "3,4@x", "@1"])
def test_points_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_point(text)


def test_boxes() -> None:
    assert parse_box("1,2,3.5,4") == Box(1, 2, 3.5, 4)
    assert parse_box("1,2,3,4@9") == Box(1, 2, 3, 4, object_id=9)


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "1,2,3,x", "1,2,3,4@x"])
def test_boxes_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_box(text)


@pytest.mark.parametrize(
    ("name", "suffix", "object_id"),
    [("mask.png", "", None), ("mask.png", "@3", 3), ("mask@2", "", None), ("mask@2", "@3", 3)],
)
def test_masks(tmp_path: Path, name: str, suffix: str, object_id: int | None) -> None:
    bitmap = np.eye(5, dtype=np.bool_)
    Image.fromarray(bitmap).save(tmp_path / name, "PNG")
    prompt = parse_mask(f"{tmp_path / name}{suffix}")
    assert isinstance(prompt.mask, np.ndarray)
    assert np.array_equal(prompt.mask, bitmap)
    assert prompt.object_id == object_id


def test_masks_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="absent"):
        parse_mask(str(tmp_path / "absent.png"))
