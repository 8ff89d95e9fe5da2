"""Plots of latencies, drawn with Pillow alone: over percentiles and over time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from ..load import LatencyHistogram
from .drawing import PALETTE, font

__all__ = ["latency_over_time", "percentile_plot"]

_SIZE_PX = (900, 520)
_LEFT, _TOP, _RIGHT, _BOTTOM = 76, 48, 170, 56  # names of the curves: right
_PAPER = (255, 255, 255)
_INK = (30, 30, 30)
_GRID = (222, 222, 222)
_TEXT_PX, _TITLE_PX, _LINE_PX = 14, 18, 22
_WIDTH_PX, _DOT_PX = 2, 2
_NINES = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99)
_TIMES = 8  # labels of the time axis, about


@dataclass(frozen=True, slots=True)
class _Curve:
    """Points of a curve: its place from 0 to 1 and a latency in seconds; dotted, or a line."""

    name: str
    points: Sequence[tuple[float, float]]
    is_dotted: bool = False


def percentile_plot(latencies: Mapping[str, LatencyHistogram]) -> Image.Image:
    """Return latency over percentile, each nine as wide as the one before.

    Args:
        latencies: Those of each kind by its name; none is empty.
    """
    most = max(histogram.count for histogram in latencies.values())
    # Beyond one call in as many as there were, a percentile is the maximum.
    end = max(1.0, math.log10(most))
    places = [end * step / 200 for step in range(201)]
    curves = []
    for name, histogram in latencies.items():
        values = [histogram.percentile_s(100.0 * (1.0 - 10.0**-place)) for place in places]
        points = [
            (place / end, value)
            for place, value in zip(places, values, strict=True)
            if value is not None
        ]
        curves.append(_Curve(name, points))
    ticks = [
        (place / end, f"{percent:g}")
        for percent in _NINES
        if (place := -math.log10(1.0 - percent / 100.0)) <= end
    ]
    return _plot(curves, "latency of calls that succeeded, ms", "percentile", ticks)


def latency_over_time(
    bins: Mapping[str, Mapping[int, LatencyHistogram]], bin_s: float, duration_s: float
) -> Image.Image:
    """Return median and maximum over the time at which calls were due.

    Args:
        bins: Of each kind, number of the interval to its latencies.
        bin_s: Length of an interval.
        duration_s: Length of all.
    """
    curves = []
    for name, intervals in bins.items():
        for label, percent, is_dotted in (("p50", 50.0, False), ("max", 100.0, True)):
            points = [
                ((number + 0.5) * bin_s / duration_s, value)
                for number, histogram in sorted(intervals.items())
                if (value := histogram.percentile_s(percent)) is not None
            ]
            curves.append(_Curve(f"{name} {label}", points, is_dotted))
    spacing_s = _round_up(duration_s / _TIMES)
    count = int(duration_s / spacing_s)
    ticks = [
        (number * spacing_s / duration_s, f"{number * spacing_s:g}") for number in range(count + 1)
    ]
    title = f"latency by when calls were due, ms (intervals of {bin_s:g} s)"
    return _plot(curves, title, "seconds after the warm-up", ticks)


def _plot(
    curves: Sequence[_Curve], title: str, x_title: str, ticks: Sequence[tuple[float, str]]
) -> Image.Image:
    """Draw curves over a logarithmic scale of whole decades of milliseconds."""
    picture = Image.new("RGB", _SIZE_PX, _PAPER)
    draw = ImageDraw.Draw(picture)
    values_ms = [value * 1e3 for curve in curves for _, value in curve.points]
    least = math.floor(math.log10(max(min(values_ms), 1e-3)))
    most = max(least + 1, math.ceil(math.log10(max(max(values_ms), 1e-3))))
    right, bottom = _SIZE_PX[0] - _RIGHT, _SIZE_PX[1] - _BOTTOM

    def x(share: float) -> float:
        return _LEFT + min(share, 1.0) * (right - _LEFT)

    def y(value_ms: float) -> float:
        decades = (math.log10(max(value_ms, 1e-3)) - least) / (most - least)
        return bottom - decades * (bottom - _TOP)

    letters = font(_TEXT_PX)
    for decade in range(least, most + 1):
        height = y(10.0**decade)
        draw.line([(_LEFT, height), (right, height)], fill=_GRID)
        text = f"{10.0**decade:g}"
        draw.text((_LEFT - 8 - letters.getlength(text), height - 9), text, _INK, letters)
    for share, text in ticks:
        draw.line([(x(share), _TOP), (x(share), bottom)], fill=_GRID)
        draw.text((x(share) - letters.getlength(text) / 2, bottom + 6), text, _INK, letters)
    names = list(dict.fromkeys(curve.name.split()[0] for curve in curves))
    for number, curve in enumerate(curves):
        colour = PALETTE[names.index(curve.name.split()[0]) % len(PALETTE)]
        places = [(x(share), y(value * 1e3)) for share, value in curve.points]
        _draw_curve(draw, places, colour, is_dotted=curve.is_dotted)
        _draw_name(draw, number, curve, colour)
    draw.text((_LEFT, 14), title, _INK, font(_TITLE_PX))
    draw.text((_LEFT, _SIZE_PX[1] - 26), x_title, _INK, letters)
    return picture


def _draw_curve(
    draw: ImageDraw.ImageDraw,
    places: Sequence[tuple[float, float]],
    colour: tuple[int, int, int],
    *,
    is_dotted: bool,
) -> None:
    if not is_dotted and len(places) > 1:
        draw.line(list(places), fill=colour, width=_WIDTH_PX, joint="curve")
        return
    for place in places:
        draw.circle(place, _DOT_PX, fill=colour)


def _draw_name(
    draw: ImageDraw.ImageDraw, number: int, curve: _Curve, colour: tuple[int, int, int]
) -> None:
    left, top = _SIZE_PX[0] - _RIGHT + 14, _TOP + number * _LINE_PX
    ends = [(left, top + 9.0), (left + 10, top + 9.0), (left + 20, top + 9.0)]
    _draw_curve(draw, ends, colour, is_dotted=curve.is_dotted)
    draw.text((left + 28, top), curve.name, _INK, font(_TEXT_PX))


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= value)
