"""Options of `maskwire segment`: what is changed in masks, and which pictures are made of them."""

from __future__ import annotations

from typing import Annotated

import typer

from ..options import PictureFormat, RenderingStyle

__all__ = [
    "CleanUpOption",
    "CoarseOption",
    "FillHolesOption",
    "InferenceSizeOption",
    "InvertOption",
    "MaxOverlapOption",
    "MinScoreOption",
    "OpacityOption",
    "PictureFormatOption",
    "PictureOptions",
    "QualityOption",
    "RefineOption",
    "RemoveIslandsOption",
    "SmoothOption",
]

PictureOptions = Annotated[
    list[RenderingStyle] | None,
    typer.Option("--picture", help="Picture to make, again for more; overlay where none is named."),
]
PictureFormatOption = Annotated[
    PictureFormat, typer.Option("--picture-format", help="File format of pictures.")
]
QualityOption = Annotated[
    int | None,
    typer.Option("--quality", min=1, max=100, help="Of JPEG and WebP; default 90."),
]
OpacityOption = Annotated[
    float | None,
    typer.Option("--opacity", min=0, max=1, help="Of the overlay's colours; default 0.5."),
]
InvertOption = Annotated[
    bool, typer.Option("--invert", help="Swap object and background in pictures.")
]
CleanUpOption = Annotated[
    bool, typer.Option("--clean-up", help="Open, then close masks (SAM 1's better_quality).")
]
FillHolesOption = Annotated[
    int, typer.Option("--fill-holes", metavar="PX", min=0, help="Fill holes of fewer pixels.")
]
RemoveIslandsOption = Annotated[
    int, typer.Option("--remove-islands", metavar="PX", min=0, help="Remove smaller islands.")
]
SmoothOption = Annotated[
    float, typer.Option("--smooth", metavar="PX", min=0, max=32, help="Smooth outlines.")
]
RefineOption = Annotated[
    bool,
    typer.Option("--refine", help="Draw small masks again from a window around each (slower)."),
]
MinScoreOption = Annotated[
    float | None, typer.Option("--min-score", min=0, max=1, help="Drop masks that score less.")
]
MaxOverlapOption = Annotated[
    float | None,
    typer.Option(
        "--max-overlap", min=0, max=1, help="Drop the worse of objects that overlap by more (IoU)."
    ),
]
CoarseOption = Annotated[
    bool, typer.Option("--coarse", help="Enlarge bitmaps instead of logits: faster and coarser.")
]
InferenceSizeOption = Annotated[
    int | None,
    typer.Option(
        "--inference-size",
        metavar="PX",
        min=64,
        max=8192,
        help="Longest side that the model sees (SAM 1's size).",
    ),
]
