"""Reads the prompts of the command line: `10,20,bg@2`, `4,4,90,60@2`, `guess.png@2`, `wheel@2`.

For video, `#N` at the end says which frame a prompt is about: `10,20@2#48`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import typer
from PIL import Image

from ..geometry import Box, BoxLabel, Point, PointLabel
from ..prompts import MaskPrompt, Text

__all__ = [
    "EXAMPLES",
    "LIVE_EXAMPLES",
    "VIDEO_EXAMPLES",
    "parse_box",
    "parse_exclusion",
    "parse_mask",
    "parse_point",
    "parse_text",
]

EXAMPLES = """\
  maskwire segment photo.jpg --point 320,240
  maskwire segment photo.jpg --point 320,240 --point 50,60,bg
  maskwire segment photo.jpg --box 100,80,420,390@1 --point 300,200,bg@1
  maskwire segment photo.jpg --mask guess.png
  maskwire segment photo.jpg --text "yellow school bus"
  maskwire segment photo.jpg --text wheel --text window --text-threshold 0.3
  maskwire segment photo.jpg --text wheel --exclude 40,200,120,280 --point 300,240

Coordinates are pixels from the top-left corner; @N says which object a prompt refines. Text needs
a server that serves a model for it, such as SAM 3."""

VIDEO_EXAMPLES = """\
  maskwire track clip.mp4 --point 320,240
  maskwire track clip.mp4 --box 100,80,420,390@1 --point 60,50@2 --frame 12
  maskwire track clip.mp4 --point 320,240@1 --point 300,200,bg@1#48
  maskwire track clip.mp4 --point 320,240 --frame 90 --direction both --stride 2 --gif

Coordinates are pixels of the video from its top-left corner. @N says which object a prompt is
about, #N on which frame, counted from 0; prompts without #N are on the frame of --frame."""

LIVE_EXAMPLES = """\
  maskwire live --camera 0 --point 320,240
  maskwire live --camera 0 --fps 15 --box 100,80,420,390 --latest-only --seconds 60
  maskwire live --video clip.mp4 --point 320,240@1 --point 60,50@2 --server robot:50051 --json

Coordinates are pixels of the first frame from its top-left corner; @N says which object a prompt
is about. Ctrl-C ends the session in good order."""

_LABELS = {
    "1": PointLabel.FOREGROUND,
    "fg": PointLabel.FOREGROUND,
    "+": PointLabel.FOREGROUND,
    "0": PointLabel.BACKGROUND,
    "bg": PointLabel.BACKGROUND,
    "-": PointLabel.BACKGROUND,
}
_LARGEST_NUMBER = 2**31 - 1
_OBJECT = re.compile(r"(?P<rest>.*)@(?P<number>[0-9]+)", re.DOTALL)
_FRAME = re.compile(r"(?P<rest>.*)#(?P<number>[0-9]+)", re.DOTALL)


def parse_point(text: str, frame: int | None = None) -> Point:
    """Read `X,Y[,LABEL][@OBJECT]`; the label is 1, fg or + for on the object, 0, bg or - for off.

    Args:
        text: What was typed.
        frame: For video, the frame that a prompt without `#FRAME` is about; None for images.

    Raises:
        typer.BadParameter: The text is of another form.
    """
    placed, frame = _split_frame(text, frame)
    rest, object_id = _split(_OBJECT, placed)
    fields = [field.strip() for field in rest.split(",")]
    label = PointLabel.FOREGROUND
    if len(fields) == 3:
        name = fields.pop().lower()
        if name not in _LABELS:
            raise typer.BadParameter(f"{name!r} is no label: it is one of {', '.join(_LABELS)}")
        label = _LABELS[name]
    form = "--point X,Y[,LABEL][@OBJECT]" + _frame_form(frame)
    x, y = _numbers(fields, 2, form, text)
    return Point(x, y, label, object_id, frame_index=frame)


def parse_box(text: str, frame: int | None = None) -> Box:
    """Read `X0,Y0,X1,Y1[@OBJECT]`; `frame` is as for `parse_point`.

    Raises:
        typer.BadParameter: The text is of another form.
    """
    return _box(text, frame, "--box", BoxLabel.POSITIVE)


def parse_exclusion(text: str, frame: int | None = None) -> Box:
    """Read `X0,Y0,X1,Y1[@OBJECT]` of what is not wanted; `frame` is as for `parse_point`.

    Raises:
        typer.BadParameter: The text is of another form.
    """
    return _box(text, frame, "--exclude", BoxLabel.NEGATIVE)


def parse_text(text: str, threshold: float | None = None) -> Text:
    """Read `TEXT[@OBJECT]`.

    Args:
        text: What was typed.
        threshold: Least confidence of an instance; None is the model's own default.

    Raises:
        typer.BadParameter: No text is there.
    """
    rest, object_id = _split(_OBJECT, text)
    if not rest.strip():
        raise typer.BadParameter(f"{text!r} is not of the form --text TEXT[@OBJECT]")
    return Text(rest, threshold, object_id)


def parse_mask(text: str, frame: int | None = None) -> MaskPrompt:
    """Read `FILE[@OBJECT]`; the file is a picture of the image's size, bright on the object.

    A file whose name itself ends like that is found too. `frame` is as for `parse_point`.

    Raises:
        typer.BadParameter: The file cannot be read.
    """
    if Path(text).is_file():
        rest, object_id = text, None
    else:
        placed, frame = _split_frame(text, frame)
        rest, object_id = (placed, None) if Path(placed).is_file() else _split(_OBJECT, placed)
    try:
        with Image.open(rest) as picture:
            bitmap = np.asarray(picture.convert("L")) > 127
    except OSError as error:
        raise typer.BadParameter(f"the mask {rest} cannot be read: {error}") from error
    return MaskPrompt(bitmap, object_id, frame_index=frame)


def _box(text: str, frame: int | None, option: str, label: BoxLabel) -> Box:
    placed, frame = _split_frame(text, frame)
    rest, object_id = _split(_OBJECT, placed)
    form = f"{option} X0,Y0,X1,Y1[@OBJECT]" + _frame_form(frame)
    x_min, y_min, x_max, y_max = _numbers(rest.split(","), 4, form, text)
    return Box(x_min, y_min, x_max, y_max, label, object_id, frame)


def _split(suffix: re.Pattern[str], text: str) -> tuple[str, int | None]:
    match = suffix.fullmatch(text)
    if match is None:
        return text, None
    number = int(match["number"])
    if number > _LARGEST_NUMBER:
        raise typer.BadParameter(f"{number} is too large: it is at most {_LARGEST_NUMBER}")
    return match["rest"], number


def _split_frame(text: str, frame: int | None) -> tuple[str, int | None]:
    """Return what is before `#FRAME`, and the frame; for images that form means nothing."""
    if frame is None:
        return text, None
    rest, given = _split(_FRAME, text)
    return rest, frame if given is None else given


def _frame_form(frame: int | None) -> str:
    return "" if frame is None else "[#FRAME]"


def _numbers(fields: Sequence[str], count: int, form: str, text: str) -> list[float]:
    try:
        numbers = [float(field) for field in fields]
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not of the form {form}") from error
    if len(numbers) != count:
        raise typer.BadParameter(f"{text!r} is not of the form {form}")
    return numbers
