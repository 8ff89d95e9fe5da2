"""Reads the prompts of the command line: `10,20,bg@2`, `4,4,90,60@2`, `guess.png@2`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import typer
from PIL import Image

from ..geometry import Box, Point, PointLabel
from ..prompts import MaskPrompt

__all__ = ["EXAMPLES", "parse_box", "parse_mask", "parse_point"]

EXAMPLES = """\
  maskwire segment photo.jpg --point 320,240
  maskwire segment photo.jpg --point 320,240 --point 50,60,bg
  maskwire segment photo.jpg --box 100,80,420,390@1 --point 300,200,bg@1
  maskwire segment photo.jpg --mask guess.png
  maskwire segment photo.jpg --text "yellow school bus"

Coordinates are pixels from the top-left corner; @N says which object a prompt refines."""

_LABELS = {
    "1": PointLabel.FOREGROUND,
    "fg": PointLabel.FOREGROUND,
    "+": PointLabel.FOREGROUND,
    "0": PointLabel.BACKGROUND,
    "bg": PointLabel.BACKGROUND,
    "-": PointLabel.BACKGROUND,
}
_OBJECT = re.compile(r"(?P<rest>.*)@(?P<object_id>[0-9]+)", re.DOTALL)


def parse_point(text: str) -> Point:
    """Read `X,Y[,LABEL][@OBJECT]`; the label is 1, fg or + for on the object, 0, bg or - for off.

    Raises:
        typer.BadParameter: The text is of another form.
    """
    rest, object_id = _split_object(text)
    fields = [field.strip() for field in rest.split(",")]
    label = PointLabel.FOREGROUND
    if len(fields) == 3:
        name = fields.pop().lower()
        if name not in _LABELS:
            raise typer.BadParameter(f"{name!r} is no label: it is one of {', '.join(_LABELS)}")
        label = _LABELS[name]
    x, y = _numbers(fields, 2, "--point X,Y[,LABEL][@OBJECT]", text)
    return Point(x, y, label, object_id)


def parse_box(text: str) -> Box:
    """Read `X0,Y0,X1,Y1[@OBJECT]`.

    Raises:
        typer.BadParameter: The text is of another form.
    """
    rest, object_id = _split_object(text)
    x_min, y_min, x_max, y_max = _numbers(rest.split(","), 4, "--box X0,Y0,X1,Y1[@OBJECT]", text)
    return Box(x_min, y_min, x_max, y_max, object_id=object_id)


def parse_mask(text: str) -> MaskPrompt:
    """Read `FILE[@OBJECT]`; the file is a picture of the image's size, bright on the object.

    Raises:
        typer.BadParameter: The file cannot be read.
    """
    rest, object_id = _split_object(text)
    if object_id is not None and not Path(rest).is_file() and Path(text).is_file():
        rest, object_id = text, None
    try:
        with Image.open(rest) as picture:
            bitmap = np.asarray(picture.convert("L")) > 127
    except OSError as error:
        raise typer.BadParameter(f"the mask {rest} cannot be read: {error}") from error
    return MaskPrompt(bitmap, object_id)


def _split_object(text: str) -> tuple[str, int | None]:
    match = _OBJECT.fullmatch(text)
    return (match["rest"], int(match["object_id"])) if match else (text, None)


def _numbers(fields: Sequence[str], count: int, form: str, text: str) -> list[float]:
    try:
        numbers = [float(field) for field in fields]
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not of the form {form}") from error
    if len(numbers) != count:
        raise typer.BadParameter(f"{text!r} is not of the form {form}")
    return numbers
