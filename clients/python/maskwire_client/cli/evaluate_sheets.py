"""Contact sheets of the best, the median and the worst answers of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ..geometry import Box, Point
from ..masks import EncodedMask
from .contact_sheet import Note, Panel, contact_sheet, thumbnail
from .drawing import PALETTE, draw_prompts, overlay

__all__ = ["EACH", "View", "best_median_worst", "sheet"]

EACH = 4
"""How many of the best, of the median and of the worst a sheet of single answers shows."""

_ANSWER = PALETTE[0]
_TRUTH = (255, 255, 255)
_SURROUNDINGS = 0.35  # of the object's larger side, on every side
_LEAST_SURROUNDINGS_PX = 24

_ItemT = TypeVar("_ItemT")


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """An answer to look at; picture and truth are read when it is drawn.

    Attributes:
        caption: What it is, and its score.
        picture: File of the photograph or frame.
        truth: Reads the object's mask, shape (height, width).
        answer: The answer's mask; None for an empty one.
        prompts: What was asked.
        is_cropped: Whether only the object and its surroundings are shown.
    """

    caption: str
    picture: Path
    truth: Callable[[], NDArray[np.bool_]]
    answer: EncodedMask | None
    prompts: tuple[Point | Box, ...] = ()
    is_cropped: bool = True


def best_median_worst(
    items: Sequence[_ItemT], score: Callable[[_ItemT], float], each: int
) -> list[_ItemT]:
    """Return so many of the best, of the middle and of the worst, best first; all of few."""
    ranked = sorted(items, key=score, reverse=True)
    if len(ranked) <= 3 * each:
        return ranked
    middle = min(max((len(ranked) - each) // 2, each), len(ranked) - 2 * each)
    return [*ranked[:each], *ranked[middle : middle + each], *ranked[-each:]]


def sheet(views: Sequence[View]) -> Image.Image:
    """Return at least one answer drawn over its picture: the truth as a line, prompts on top.

    Raises:
        OSError: A picture or mask cannot be read.
        ValueError: An answer does not decode.
    """
    return contact_sheet([_panel(view) for view in views])


def _panel(view: View) -> Panel:
    with Image.open(view.picture) as opened:
        pixels = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    truth = view.truth()
    answer = np.zeros_like(truth) if view.answer is None else view.answer.decode()
    window = _window(truth | answer) if view.is_cropped else Box(0, 0, *truth.shape[::-1])
    left, top = int(window.x_min), int(window.y_min)
    part = (slice(top, int(window.y_max)), slice(left, int(window.x_max)))
    painted = Image.fromarray(overlay(pixels[part], {1: answer[part]}))
    picture, scale = thumbnail(painted)
    _draw_outline(picture, truth[part])
    draw_prompts(picture, [_moved(prompt, left, top) for prompt in view.prompts], scale)
    return Panel(picture, view.caption, (Note("truth", _TRUTH), Note("answer", _ANSWER)))


def _window(mask: NDArray[np.bool_]) -> Box:
    """Return what to show of a picture around a mask, in whole pixels."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return Box(0, 0, width, height)
    side = max(int(rows[-1] - rows[0]), int(columns[-1] - columns[0]))
    room = max(_LEAST_SURROUNDINGS_PX, round(_SURROUNDINGS * side))
    return Box(
        x_min=max(0, int(columns[0]) - room),
        y_min=max(0, int(rows[0]) - room),
        x_max=min(width, int(columns[-1]) + 1 + room),
        y_max=min(height, int(rows[-1]) + 1 + room),
    )


def _draw_outline(picture: Image.Image, truth: NDArray[np.bool_]) -> None:
    """Draw a line around the truth, white between black, two pixels of the panel wide."""
    mask = Image.fromarray(truth).convert("L").resize(picture.size, Image.Resampling.BILINEAR)
    inside = np.pad(np.asarray(mask) > 127, 2, mode="edge")
    wide, narrow = _edge(inside, 2), _edge(inside, 1)
    pixels = np.array(picture)
    pixels[wide[2:-2, 2:-2]] = 0
    pixels[narrow[2:-2, 2:-2]] = _TRUTH
    picture.paste(Image.fromarray(pixels))


def _edge(inside: NDArray[np.bool_], width_px: int) -> NDArray[np.bool_]:
    """Return the pixels within a distance of a mask's edge, on both sides of it."""
    grown, shrunk = inside.copy(), inside.copy()
    for _ in range(width_px):
        grown, shrunk = _spread(grown), ~_spread(~shrunk)
    return grown & ~shrunk


def _spread(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask grown by one pixel to all four sides."""
    spread = mask.copy()
    spread[1:] |= mask[:-1]
    spread[:-1] |= mask[1:]
    spread[:, 1:] |= mask[:, :-1]
    spread[:, :-1] |= mask[:, 1:]
    return spread


def _moved(prompt: Point | Box, left: int, top: int) -> Point | Box:
    """Return a prompt in the frame of a part of the picture."""
    if isinstance(prompt, Point):
        return replace(prompt, x=prompt.x - left, y=prompt.y - top)
    return replace(
        prompt,
        x_min=prompt.x_min - left,
        y_min=prompt.y_min - top,
        x_max=prompt.x_max - left,
        y_max=prompt.y_max - top,
    )
