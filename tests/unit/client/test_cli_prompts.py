"""The prompts of the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from maskwire_client import Box, BoxLabel, Point, PointLabel, Text
from maskwire_client.cli.prompts import (
    parse_box,
    parse_exclusion,
    parse_mask,
    parse_point,
    parse_text,
)

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


def test_exclusions_are_negative_boxes() -> None:
    assert parse_exclusion("1,2,3,4@9") == Box(1, 2, 3, 4, BoxLabel.NEGATIVE, 9)
    with pytest.raises(typer.BadParameter, match="--exclude X0,Y0,X1,Y1"):
        parse_exclusion("1,2,3")


@pytest.mark.parametrize(
    ("text", "threshold", "read"),
    [
        ("yellow school bus", None, Text("yellow school bus")),
        ("wheel@3", 0.3, Text("wheel", 0.3, 3)),
        ("mail@home", None, Text("mail@home")),
        ("caf\u00e9, 2 cups", None, Text("caf\u00e9, 2 cups")),
    ],
)
def test_texts(text: str, threshold: float | None, read: Text) -> None:
    assert parse_text(text, threshold) == read


def test_numbers_that_no_message_holds_are_refused(tmp_path: Path) -> None:
    large = 2**32
    for typed in (f"3,4@{large}", f"3,4#{large}"):
        with pytest.raises(typer.BadParameter, match=f"{large} is too large"):
            parse_point(typed, frame=0)
    with pytest.raises(typer.BadParameter, match=f"{large} is too large"):
        parse_text(f"wheel@{large}")
    with pytest.raises(typer.BadParameter, match=f"{large} is too large"):
        parse_mask(f"{tmp_path}/mask.png@{large}")
    assert parse_text("wheel@2147483647").object_id == 2**31 - 1


@pytest.mark.parametrize("text", ["", "  ", "@4"])
def test_texts_without_words_are_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="TEXT"):
        parse_text(text)


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


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("3,4", Point(3, 4, frame_index=7)),
        ("3,4#0", Point(3, 4, frame_index=0)),
        ("3,4,bg@2#48", Point(3, 4, BACKGROUND, 2, frame_index=48)),
    ],
)
def test_points_of_video(text: str, point: Point) -> None:
    assert parse_point(text, frame=7) == point


def test_boxes_of_video() -> None:
    assert parse_box("1,2,3,4", frame=5) == Box(1, 2, 3, 4, frame_index=5)
    assert parse_box("1,2,3,4@9#12", frame=5) == Box(1, 2, 3, 4, object_id=9, frame_index=12)


@pytest.mark.parametrize("text", ["3,4#", "3,4#x", "3,4#-1", "3,4#1@2"])
def test_frames_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="#FRAME"):
        parse_point(text, frame=0)


def test_images_have_no_frames() -> None:
    with pytest.raises(typer.BadParameter):
        parse_point("3,4#1")
    with pytest.raises(typer.BadParameter):
        parse_box("1,2,3,4#1")


@pytest.mark.parametrize(
    ("name", "suffix", "object_id", "frame"),
    [
        ("mask.png", "", None, 5),
        ("mask.png", "@3#8", 3, 8),
        ("mask#2", "", None, 5),
        ("mask@2", "#8", None, 8),
        ("mask#2", "@3#8", 3, 8),
    ],
)
def test_masks_of_video(
    tmp_path: Path, name: str, suffix: str, object_id: int | None, frame: int
) -> None:
    Image.fromarray(np.eye(5, dtype=np.bool_)).save(tmp_path / name, "PNG")
    prompt = parse_mask(f"{tmp_path / name}{suffix}", frame=5)
    assert prompt.object_id == object_id
    assert prompt.frame_index == frame
