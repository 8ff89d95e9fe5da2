"""Options that several commands share."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from ..options import MaskEncoding

__all__ = [
    "ENCODINGS",
    "FormatOption",
    "JsonOption",
    "MaskFormat",
    "ModelOption",
]


class MaskFormat(enum.Enum):
    """The forms of masks that `--format` offers."""

    RLE = "rle"
    PNG = "png"
    POLYGONS = "polygons"


ENCODINGS = {
    MaskFormat.RLE: MaskEncoding.COCO_RLE,
    MaskFormat.PNG: MaskEncoding.PNG_8BIT,
    MaskFormat.POLYGONS: MaskEncoding.POLYGONS,
}

FormatOption = Annotated[
    MaskFormat, typer.Option("--format", help="Form of the masks; png adds a file for each.")
]
ModelOption = Annotated[str, typer.Option("--model", help="Name; none is the server's default.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
