"""A plot of scores from 0 to 1 over whole numbers, drawn with Pillow alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw

from .drawing import PALETTE, font

__all__ = ["plot"]

_SIZE_PX = (900, 560)
_LEFT, _TOP, _RIGHT, _BOTTOM = 64, 48, 250, 56  # names of the curves: right
_PAPER = (255, 255, 255)
_INK = (30, 30, 30)
_GRID = (222, 222, 222)
_TARGET = (150, 150, 150)
_THICK_PX, _THIN_PX = 4, 2
_TEXT_PX, _TITLE_PX, _LINE_PX = 14, 18, 22
_LABELS = 12  # at most, below the plot


def plot(
    curves: Mapping[str, Sequence[float]], title: str, x_title: str, target: float, first: int = 1
) -> Image.Image:
    """Return a plot of curves, the first of them thick.

    Args:
        curves: Values from 0 to 1 of each curve by its name; at least one value.
        title: What the values are.
        x_title: What the numbers are.
        target: Where to draw a line across.
        first: The number of the first value.
    """
    picture = Image.new("RGB", _SIZE_PX, _PAPER)
    draw = ImageDraw.Draw(picture)
    length = max(len(values) for values in curves.values())
    frame = _Frame(length)
    _draw_grid(draw, frame, first, target)
    colours = [_INK, *PALETTE]
    for number, (name, values) in reversed(list(enumerate(curves.items()))):
        colour = colours[number % len(colours)]
        width = _THIN_PX if number else _THICK_PX
        places = [(frame.x(place), frame.y(value)) for place, value in enumerate(values)]
        if len(places) > 1:
            draw.line(places, fill=colour, width=width, joint="curve")
        else:
            draw.circle(places[0], 2 * width, fill=colour)
        _draw_name(draw, number, f"{name}: {values[-1]:.3f}", colour, width)
    draw.text((_LEFT, 14), title, _INK, font(_TITLE_PX))
    draw.text((_LEFT, _SIZE_PX[1] - 26), x_title, _INK, font(_TEXT_PX))
    return picture


class _Frame:
    """Where values lie in the picture."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.right = _SIZE_PX[0] - _RIGHT
        self.bottom = _SIZE_PX[1] - _BOTTOM

    def x(self, place: int) -> float:
        return _LEFT + place * (self.right - _LEFT) / max(1, self.length - 1)

    def y(self, value: float) -> float:
        return self.bottom - value * (self.bottom - _TOP)


def _draw_grid(draw: ImageDraw.ImageDraw, frame: _Frame, first: int, target: float) -> None:
    letters = font(_TEXT_PX)
    for tenths in range(0, 11, 2):
        height = frame.y(tenths / 10)
        draw.line([(_LEFT, height), (frame.right, height)], fill=_GRID)
        draw.text((_LEFT - 34, height - 9), f"{tenths / 10:.1f}", _INK, letters)
    height = frame.y(target)
    for dash in range(_LEFT, frame.right, 12):
        draw.line([(dash, height), (min(dash + 6, frame.right), height)], fill=_TARGET, width=2)
    for place in range(0, frame.length, -(-frame.length // _LABELS)):
        text = str(first + place)
        left = frame.x(place) - letters.getlength(text) / 2
        draw.text((left, frame.bottom + 6), text, _INK, letters)


def _draw_name(
    draw: ImageDraw.ImageDraw, number: int, text: str, colour: tuple[int, int, int], width: int
) -> None:
    left, top = _SIZE_PX[0] - _RIGHT + 14, _TOP + number * _LINE_PX
    if top + _LINE_PX > _SIZE_PX[1]:
        return
    draw.line([(left, top + 9), (left + 20, top + 9)], fill=colour, width=width)
    draw.text((left + 28, top), text, _INK, font(_TEXT_PX))
