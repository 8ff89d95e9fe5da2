"""Painting one object: its parts, textures, shading, strokes and transparency, as a layer.

A layer covers only the object's rectangle of the canvas. Laying layers over each other, shadows
and labels are the business of `scenes`.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training import shapes
from training.plans import ObjectPlan, Part
from training.textures import TextureBank, random_colour, surface

Generator = np.random.Generator
Colour = NDArray[np.float32]
Pixels = NDArray[np.float32]

DRAWN_STYLES = ("line_art", "cartoon")
"""Styles with flat colours, without light."""


@dataclass(frozen=True, slots=True)
class Look:
    """What all objects of a scene share: style, light, palette and, for drawings, ink and paper."""

    style: str
    light: tuple[float, float]
    shading: float
    shadow: float
    palette: tuple[Colour, ...]
    ink: Colour
    paper: Colour
    stroke: int


@dataclass(frozen=True, slots=True)
class Layer:
    """A painted object, at (`left`, `top`) of the canvas, laid with `opacity` 0..1.

    `colour` is h x w x 3 float32, `alpha` h x w uint8, `part` (h x w uint16) the number of the
    part seen.
    """

    left: int
    top: int
    colour: NDArray[np.float32]
    alpha: NDArray[np.uint8]
    part: NDArray[np.uint16]
    opacity: float


@dataclass(frozen=True, slots=True)
class _Frame:
    """The object's rectangle of the canvas and the mean colour that lies beneath it."""

    left: int
    top: int
    columns: int
    rows: int
    beneath: Colour


@dataclass(frozen=True, slots=True)
class _Skin:
    """Colours of an object by slot."""

    base: dict[int, Colour]
    contrast: dict[int, float]


def _choose_skin(rng: Generator, look: Look, plan: ObjectPlan, beneath: Colour) -> _Skin:
    slots = sorted({part.slot for part in plan.parts})
    first = look.palette[int(rng.integers(len(look.palette)))]
    if rng.random() < 0.35:
        first = random_colour(rng)
    if rng.random() < 0.1:  # camouflaged: weak boundaries
        first = np.clip(beneath + rng.normal(0, 0.07, 3), 0, 1).astype(np.float32)
    uniform = rng.random() < 0.3
    base: dict[int, Colour] = {}
    contrast: dict[int, float] = {}
    flat = look.style in DRAWN_STYLES
    for slot in slots:
        colour = first if slot == slots[0] or uniform else random_colour(rng)
        if uniform:
            colour = np.clip(colour * rng.uniform(0.75, 1.25), 0, 1)
        if look.style == "line_art":
            colour = look.paper if rng.random() < 0.85 else look.paper * rng.uniform(0.5, 1)
        base[slot] = colour.astype(np.float32)
        contrast[slot] = (
            0.0 if flat else float(rng.choice([0.0, 0.15, 0.4, 0.8], p=[0.25, 0.3, 0.25, 0.2]))
        )
    return _Skin(base, contrast)


def _rounded(
    mask: NDArray[np.uint8], light: tuple[float, float], strength: float
) -> NDArray[np.float32]:
    """Shading factor of a cushion-like surface over a mask (1 = unchanged)."""
    extent = int(np.sqrt(float(cv2.countNonZero(mask)))) // 3
    size = max(3, extent | 1)
    height = cv2.blur(cv2.blur(mask, (size, size)), (size, size)).astype(np.float32) / 255
    slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3)
    slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3)
    lambert = -(light[0] * slope_x + light[1] * slope_y) * size / 6
    return np.asarray(np.clip(1 - strength * lambert, 0.15, 2.0), np.float32)


def _hatch(
    rng: Generator, colour: NDArray[np.float32], mask: NDArray[np.uint8], ink: Colour
) -> None:
    """Draws inner strokes on a part (in place): seams, wrinkles, hatching."""
    height, width = mask.shape
    strokes = np.zeros_like(mask)
    angle, spread = rng.uniform(0, np.pi), rng.choice([0.1, 0.5, 3.0])
    middle = rng.uniform(0.2, 0.8, 2) * [width, height]
    reach = max(height, width) * rng.uniform(0.1, 0.6)
    for _ in range(int(rng.integers(1, 16))):
        start = middle + rng.normal(0, 0.5, 2) * reach
        turn = angle + rng.normal(0, spread)
        end = start + reach * rng.uniform(0.2, 1) * np.array([np.cos(turn), np.sin(turn)])
        cv2.line(
            strokes, (int(start[0]), int(start[1])), (int(end[0]), int(end[1])), 255, 1, cv2.LINE_AA
        )
    cover = (cv2.min(strokes, mask).astype(np.float32) / 255)[..., None]
    colour += cover * (ink - colour)


def _highlight(rng: Generator, colour: Pixels) -> None:
    """A specular spot (in place)."""
    height, width = colour.shape[:2]
    spot = np.zeros((height, width), np.uint8)
    centre = (int(width * rng.uniform(0.2, 0.8)), int(height * rng.uniform(0.2, 0.8)))
    axes = (
        max(1, int(width * rng.uniform(0.02, 0.2))),
        max(1, int(height * rng.uniform(0.02, 0.2))),
    )
    cv2.ellipse(spot, centre, axes, rng.uniform(0, 180), 0, 360, 255, -1, cv2.LINE_AA)
    size = max(1, min(height, width) // 10)
    cover = (cv2.blur(spot, (size, size)).astype(np.float32) / 255)[..., None]
    colour += cover * rng.uniform(0.3, 1.0) * (1 - colour)


class _Easel:
    """The empty layer of one object and the choices that its parts share."""

    def __init__(
        self, rng: Generator, bank: TextureBank, look: Look, plan: ObjectPlan, frame: _Frame
    ) -> None:
        self._rng = rng
        self._bank = bank
        self._look = look
        self._flat = plan.flat
        self._frame = frame
        self._skin = _choose_skin(rng, look, plan, frame.beneath)
        self._drawn = look.style in DRAWN_STYLES
        self._inked = look.style == "line_art" or (self._drawn and rng.random() < 0.7)
        self._folded = not self._drawn and not plan.flat and rng.random() < 0.5
        self.colour = np.zeros((frame.rows, frame.columns, 3), np.float32)
        self.alpha = np.zeros((frame.rows, frame.columns), np.uint8)
        self.index = np.zeros((frame.rows, frame.columns), np.uint16)

    def add(self, number: int, part: Part, outlines: list[shapes.Outline]) -> None:
        """Paints part `number`, or cuts it out where it is a hole."""
        frame = self._frame
        origin, limit = np.array([frame.left, frame.top]), [frame.columns, frame.rows]
        points = np.concatenate(outlines)
        start = np.clip(np.floor(points.min(0)).astype(int) - origin - 2, 0, limit)
        stop = np.clip(np.ceil(points.max(0)).astype(int) - origin + 3, 0, limit)
        if (stop - start).min() < 2:
            return
        view = (slice(start[1], stop[1]), slice(start[0], stop[0]))
        local = [outline - (origin + start) for outline in outlines]
        mask = shapes.fill(local, int(stop[1] - start[1]), int(stop[0] - start[0]))
        if part.hole:
            self.alpha[view] = cv2.subtract(self.alpha[view], mask)
            return
        paint = self._surface(part, mask)
        if self._inked:
            mask = self._ink(paint, mask, local)
        cover = (mask.astype(np.float32) / 255)[..., None]
        self.colour[view] += cover * (paint - self.colour[view])
        # Without this, the soft rim of a first part would mix with the black of an empty layer.
        fresh = (self.alpha[view] == 0) & (mask > 0)
        self.colour[view][fresh] = paint[fresh]
        self.alpha[view] = cv2.max(self.alpha[view], mask)
        self.index[view][mask > 127] = number

    def _surface(self, part: Part, mask: NDArray[np.uint8]) -> Pixels:
        rng, look, skin = self._rng, self._look, self._skin
        rows, columns = mask.shape
        base, contrast = skin.base[part.slot], skin.contrast[part.slot]
        paint = surface(rng, self._bank, rows, columns, base, contrast)
        if self._drawn:
            return paint
        if not self._flat:
            paint *= _rounded(mask, look.light, look.shading * rng.uniform(0.5, 2.0))[..., None]
        elif rng.random() < 0.5:
            paint *= rng.uniform(0.6, 1.2)
        if self._folded and min(rows, columns) > 6:
            fold = self._bank.cut_folds(rng, rows, columns, rng.uniform(0.2, 0.9))
            paint *= (1 + rng.uniform(0.1, 0.9) * (fold - 0.5))[..., None]
        if rng.random() < 0.1:
            _highlight(rng, paint)
        return paint

    def _ink(
        self, paint: Pixels, mask: NDArray[np.uint8], outlines: list[shapes.Outline]
    ) -> NDArray[np.uint8]:
        """Draws the outline and inner strokes; returns the mask with the outline."""
        strokes = np.zeros_like(mask)
        closed = [np.round(outline * 16).astype(np.int32) for outline in outlines]
        cv2.polylines(strokes, closed, True, 255, self._look.stroke, cv2.LINE_AA, 4)
        paint += (strokes.astype(np.float32) / 255)[..., None] * (self._look.ink - paint)
        mask = np.maximum(mask, strokes)
        if self._rng.random() < 0.4:
            _hatch(self._rng, paint, mask, self._look.ink)
        return mask


def _frame(outlines: list[list[shapes.Outline]], canvas: Pixels) -> _Frame | None:
    height, width = canvas.shape[:2]
    everything = np.concatenate([outline for part in outlines for outline in part])
    low = np.maximum(np.floor(everything.min(0)).astype(int) - 2, 0)
    high = np.minimum(np.ceil(everything.max(0)).astype(int) + 3, [width, height])
    if (high - low).min() < 4:
        return None
    beneath = canvas[low[1] : high[1], low[0] : high[0]].mean((0, 1))
    return _Frame(int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]), beneath)


def paint_object(
    rng: Generator,
    bank: TextureBank,
    look: Look,
    plan: ObjectPlan,
    outlines: list[list[shapes.Outline]],
    canvas: Pixels,
) -> Layer | None:
    """Paints an object whose parts have `outlines` in canvas pixels; None where nothing shows."""
    frame = _frame(outlines, canvas)
    if frame is None:
        return None
    easel = _Easel(rng, bank, look, plan, frame)
    for number, (part, lines) in enumerate(zip(plan.parts, outlines, strict=True)):
        easel.add(number, part, lines)
    opacity = 1.0 if rng.random() < 0.94 else float(rng.uniform(0.4, 0.8))
    if cv2.countNonZero(easel.alpha) < 12:
        return None
    return Layer(frame.left, frame.top, easel.colour, easel.alpha, easel.index, opacity)
