"""Draws masks and prompts over pictures with numpy and Pillow alone, in the server's colours.

What is drawn from answers alone, without another call: frames of a video that this machine has
anyway, thumbnails, prompts. Pictures that the server makes on request come with its answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..geometry import Box, Point, PointLabel

__all__ = [
    "INK",
    "PALETTE",
    "draw_box",
    "draw_point",
    "draw_prompts",
    "font",
    "object_colour",
    "overlay",
]

INK = (235, 235, 235)
"""Colour of text on the dark ground of contact sheets."""

PALETTE = (
    (86, 180, 233),
    (230, 159, 0),
    (204, 121, 167),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (0, 114, 178),
    (135, 0, 240),
    (195, 240, 195),
    (120, 60, 30),
    (105, 255, 135),
    (150, 120, 255),
    (150, 0, 90),
    (255, 0, 90),
    (75, 60, 180),
    (255, 180, 210),
)
"""Colours of objects in the order of their ids: the server's (`domain/palette.py`)."""

_OPACITY = 0.5
_OUTLINE_TOWARDS_WHITE = 0.25
_MIN_OUTLINE_PX = 3
_IMAGE_SIDES_PER_OUTLINE = 320  # the line is this fraction of the shorter side wide
_PROMPT = (255, 255, 255)
_SHADOW = (0, 0, 0)
_ON_OBJECT = (30, 170, 60)
_OFF_OBJECT = (210, 40, 40)


def object_colour(object_id: int) -> tuple[int, int, int]:
    """Return the RGB colour of an object: always the same for one id, repeating after sixteen."""
    return PALETTE[(object_id - 1) % len(PALETTE)]


def overlay(
    pixels: NDArray[np.uint8], bitmaps_by_object: Mapping[int, NDArray[np.bool_]]
) -> NDArray[np.uint8]:
    """Lay masks over a picture as the server does: half covering, each with a lighter line around.

    Args:
        pixels: Shape (height, width, 3), uint8, RGB; not changed.
        bitmaps_by_object: Object id to bitmap of shape (height, width); later ones lie on top, and
            all lines above all fills. Each costs time by its bounding box, not by the picture.

    Returns:
        A new picture of the shape of `pixels`.
    """
    picture = pixels.copy()
    width_px = max(_MIN_OUTLINE_PX, round(min(picture.shape[:2]) / _IMAGE_SIDES_PER_OUTLINE))
    windows = {
        object_id: window
        for object_id, bitmap in bitmaps_by_object.items()
        if (window := _window(bitmap, width_px // 2)) is not None
    }
    for object_id, window in windows.items():
        colour = object_colour(object_id)
        _paint(picture[window], bitmaps_by_object[object_id][window], colour, _OPACITY)
    for object_id, window in windows.items():
        light = [
            round(channel + (255 - channel) * _OUTLINE_TOWARDS_WHITE)
            for channel in object_colour(object_id)
        ]
        edge = _edge(bitmaps_by_object[object_id][window], width_px)
        _paint(picture[window], edge, light, 1.0)
    return picture


def draw_point(draw: ImageDraw.ImageDraw, point: Point, scale: float = 1.0) -> None:
    """Draw a click, green for on the object and red for off it; `scale` applies to its place."""
    center = (point.x * scale, point.y * scale)
    draw.circle(center, 7, fill=_PROMPT, outline=_SHADOW, width=2)
    is_foreground = point.label is PointLabel.FOREGROUND
    draw.circle(center, 3, fill=_ON_OBJECT if is_foreground else _OFF_OBJECT)


def draw_box(draw: ImageDraw.ImageDraw, box: Box, scale: float = 1.0) -> None:
    """Draw a box, white with a black edge; `scale` applies to its place."""
    corners = tuple(edge * scale for edge in (box.x_min, box.y_min, box.x_max, box.y_max))
    draw.rectangle(corners, outline=_SHADOW, width=4)
    draw.rectangle(corners, outline=_PROMPT, width=2)


def draw_prompts(picture: Image.Image, prompts: Iterable[Point | Box], scale: float) -> None:
    """Draw prompts into a picture that shows their image at a scale."""
    draw = ImageDraw.Draw(picture)
    for prompt in prompts:
        if isinstance(prompt, Point):
            draw_point(draw, prompt, scale)
        else:
            draw_box(draw, prompt, scale)


def font(size_px: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Return Pillow's own font at a size."""
    return ImageFont.load_default(size_px)


def _window(bitmap: NDArray[np.bool_], margin_px: int) -> tuple[slice, slice] | None:
    """Return the rows and columns of a bitmap's bounding box with a margin; None where it is empty.

    The margin ends where the picture does.
    """
    rows = np.flatnonzero(bitmap.any(axis=1))
    if rows.size == 0:
        return None
    columns = np.flatnonzero(bitmap[rows[0] : rows[-1] + 1].any(axis=0))
    return (
        slice(max(0, rows[0] - margin_px), rows[-1] + 1 + margin_px),
        slice(max(0, columns[0] - margin_px), columns[-1] + 1 + margin_px),
    )


def _paint(
    picture: NDArray[np.uint8], bitmap: NDArray[np.bool_], colour: Iterable[int], opacity: float
) -> None:
    covered = picture[bitmap].astype(np.float32)
    covered += (np.array(list(colour), dtype=np.float32) - covered) * opacity
    picture[bitmap] = np.rint(covered).astype(np.uint8)


def _edge(bitmap: NDArray[np.bool_], width_px: int) -> NDArray[np.bool_]:
    """Return a line of a width along the object's outermost pixels."""
    outer = np.pad(bitmap, 1)
    inner = ~outer
    for _ in range((width_px - 1) // 2):
        outer = _grown(outer)
    for _ in range(1 + (width_px - 1) // 2):
        inner = _grown(inner)
    edge: NDArray[np.bool_] = (outer & inner)[1:-1, 1:-1]
    return edge


def _grown(bitmap: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a bitmap with the pixels above, below, left and right of its own."""
    grown = bitmap.copy()
    grown[1:] |= bitmap[:-1]
    grown[:-1] |= bitmap[1:]
    grown[:, 1:] |= bitmap[:, :-1]
    grown[:, :-1] |= bitmap[:, 1:]
    return grown
