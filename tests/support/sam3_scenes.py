"""Scenes of coloured shapes with the truth about them: what the SAM 3 test checkpoint knows.

A scene holds discs, squares and triangles in four colours on a noisy background, none overlapping
another. Squares and triangles are striped, along and across, so that a network of this size learns
forms in minutes. A concept is what a caller may write: `red disc`, `disc` or `red shape`. What is
asked of unseen scenes is in `sam3_questions` and, drawn by chance, in `sam3_drawn_questions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from maskwire_server.domain.geometry import Box

COLOURS = {
    "red": (215, 45, 40),
    "green": (45, 170, 65),
    "blue": (45, 80, 215),
    "yellow": (230, 205, 45),
}
FORMS = ("disc", "square", "triangle")
CONCEPTS = (
    *(f"{colour} {form}" for colour in COLOURS for form in FORMS),
    *FORMS,
    *(f"{colour} shape" for colour in COLOURS),
)
_MARGIN = 1.2
"""Distance between centres in units of the sum of the two radii, at least."""
_ATTEMPTS = 60
_STRIPES_PX, _STRIPES_BRIGHTNESS = 8.0, 0.55


@dataclass(frozen=True)
class Shape:
    """One shape of a scene.

    Attributes:
        colour: A key of `COLOURS`.
        form: One of `FORMS`.
        mask: What is seen of it, shape (height, width), bool; empty in a clip's frames that it has
            left or not yet entered.
    """

    colour: str
    form: str
    mask: NDArray[np.bool_]

    @property
    def kind(self) -> tuple[str, str]:
        return self.colour, self.form

    @property
    def box(self) -> Box:
        columns, rows = np.flatnonzero(self.mask.any(0)), np.flatnonzero(self.mask.any(1))
        return Box(float(columns[0]), float(rows[0]), columns[-1] + 1.0, rows[-1] + 1.0)

    @property
    def is_visible(self) -> bool:
        return bool(self.mask.any())

    def is_a(self, concept: str) -> bool:
        colour, _, form = concept.rpartition(" ")
        return colour in ("", self.colour) and form in (self.form, "shape")


@dataclass(frozen=True)
class Scene:
    """An image, shape (height, width, 3), uint8, RGB, and the shapes in it."""

    pixels: NDArray[np.uint8]
    shapes: tuple[Shape, ...]

    def matching(self, concept: str) -> tuple[Shape, ...]:
        return tuple(s for s in self.shapes if s.is_a(concept) and s.is_visible)


@dataclass(frozen=True)
class _Figure:
    """A shape before it is drawn: its place (x, y, radius), turn, tint and speed (x, y) a frame."""

    colour: str
    form: str
    place: tuple[float, float, float]
    angle: float
    tint: NDArray[np.float64]
    speed: tuple[float, float]

    def at(self, frame: int) -> tuple[float, float, float]:
        x, y, radius = self.place
        return x + frame * self.speed[0], y + frame * self.speed[1], radius


def draw_scene(
    random: np.random.Generator,
    *,
    width: int | None = None,
    height: int | None = None,
    kinds: Sequence[tuple[str, str]] | None = None,
) -> Scene:
    """Draw a scene.

    Args:
        random: Where chance comes from.
        width: In pixels; 180 to 220 by chance where None.
        height: In pixels; 144 to 176 by chance where None.
        kinds: Colour and form of each shape, in order; up to five of at most three kinds by chance
            where None. A shape that finds no free place is left out.
    """
    return draw_clip(random, 1, width=width, height=height, kinds=kinds)[0]


def draw_clip(
    random: np.random.Generator,
    frames: int,
    *,
    width: int | None = None,
    height: int | None = None,
    kinds: Sequence[tuple[str, str]] | None = None,
    speed: float = 0.0,
) -> list[Scene]:
    """Draw a clip: every frame has the same shapes in the same order, moving evenly.

    Args:
        random: Where chance comes from.
        frames: How many.
        width: As in `draw_scene`.
        height: As in `draw_scene`.
        kinds: As in `draw_scene`.
        speed: Most pixels that a shape moves along either axis from frame to frame.
    """
    width = width or int(random.integers(180, 221))
    height = height or int(random.integers(144, 177))
    background = _background(random, width, height)
    placed: list[tuple[float, float, float]] = []
    figures: list[_Figure] = []
    for colour, form in some_kinds(random) if kinds is None else kinds:
        place = _free_place(random, width, height, placed)
        if place is not None:
            placed.append(place)
            tint = np.array(COLOURS[colour]) + random.integers(-22, 23, 3).astype(np.float64)
            motion = (float(random.uniform(-speed, speed)), float(random.uniform(-speed, speed)))
            turn = float(random.uniform(-0.2, 0.2))
            figures.append(_Figure(colour, form, place, turn, tint, motion))
    return [_painted(random, background, figures, frame) for frame in range(frames)]


def _painted(
    random: np.random.Generator,
    background: NDArray[np.float32],
    figures: Sequence[_Figure],
    frame: int,
) -> Scene:
    height, width = background.shape[:2]
    owner = np.full((height, width), -1)
    canvas = background.copy()
    for number, figure in enumerate(figures):
        mask = _filled(figure.form, figure.at(frame), width, height, angle=figure.angle)
        owner[mask] = number
        canvas[mask] = figure.tint * _pattern(figure, frame, mask)[:, None]
        canvas[mask] += 6.0 * random.standard_normal((int(mask.sum()), 3), np.float32)
    pixels = np.clip(cv2.GaussianBlur(canvas, (3, 3), 0.6), 0, 255).astype(np.uint8)
    shapes = (
        Shape(figure.colour, figure.form, np.asarray(owner == number))
        for number, figure in enumerate(figures)
    )
    return Scene(pixels, tuple(shapes))


def _pattern(figure: _Figure, frame: int, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return how bright a figure is at each of its pixels: squares lie striped, triangles stand."""
    x, y, _ = figure.at(frame)
    rows, columns = np.nonzero(mask)
    if figure.form == "disc":
        return np.ones(len(rows))
    along = rows - y if figure.form == "square" else columns - x
    return np.where(np.mod(along, _STRIPES_PX) < _STRIPES_PX / 2, 1.0, _STRIPES_BRIGHTNESS)


def some_kinds(random: np.random.Generator) -> list[tuple[str, str]]:
    """Return colour and form of one to five shapes, of at most three kinds."""
    colours = list(COLOURS)
    pool = [
        (colours[random.integers(len(colours))], FORMS[random.integers(len(FORMS))])
        for _ in range(random.integers(1, 4))
    ]
    return [pool[random.integers(len(pool))] for _ in range(random.integers(1, 6))]


def _background(random: np.random.Generator, width: int, height: int) -> NDArray[np.float32]:
    corners = random.uniform(70, 205) + random.uniform(-25, 25, (2, 2, 1)).astype(np.float32)
    grey = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    cast = random.uniform(-8, 8, 3)
    return (grey + cast + 6.0 * random.standard_normal((height, width, 3), np.float32)).astype(
        np.float32
    )


def _free_place(
    random: np.random.Generator,
    width: int,
    height: int,
    placed: Sequence[tuple[float, float, float]],
) -> tuple[float, float, float] | None:
    """Return centre x, centre y and radius, or None where chance finds no room."""
    for _ in range(_ATTEMPTS):
        radius = min(width, height) * random.uniform(0.13, 0.18)
        x = random.uniform(radius + 2, width - radius - 2)
        y = random.uniform(radius + 2, height - radius - 2)
        if all(
            np.hypot(x - other_x, y - other_y) > _MARGIN * (radius + other_radius)
            for other_x, other_y, other_radius in placed
        ):
            return x, y, radius
    return None


def _filled(
    form: str, place: tuple[float, float, float], width: int, height: int, *, angle: float
) -> NDArray[np.bool_]:
    x, y, radius = place
    if form == "disc":
        rows, columns = np.ogrid[:height, :width]
        return np.asarray((columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 < (0.9 * radius) ** 2)
    corners = 4 if form == "square" else 3
    start = angle + (np.pi / 4 if form == "square" else -np.pi / 2)
    turns = start + np.arange(corners) * 2 * np.pi / corners
    outline = np.stack([x + radius * np.cos(turns), y + radius * np.sin(turns)], axis=-1)
    canvas = np.zeros((height, width), np.uint8)
    cv2.fillPoly(canvas, [np.round(outline * 16 - 8).astype(np.int32)], 1, shift=4)
    return canvas.astype(bool)


@dataclass(frozen=True)
class Question:
    """A concept asked of a scene, and the right answer.

    Attributes:
        seed: Of the scene.
        kinds: Colour and form of its shapes.
        text: What is asked for; empty where the exemplar alone says it.
        positive: Number of the shape whose box is an exemplar, or None.
        negative: Number of the shape whose box is an exemplar of what is not wanted, or None.
        expected: Numbers of the shapes that answer it.
    """

    seed: int
    kinds: tuple[tuple[str, str], ...]
    text: str
    expected: frozenset[int]
    positive: int | None = None
    negative: int | None = None

    def scene(self) -> Scene:
        scene = self._drawn()
        assert len(scene.shapes) == len(self.kinds), "every shape must find its place"
        return scene

    def is_complete(self) -> bool:
        """Whether every shape finds its place."""
        return len(self._drawn().shapes) == len(self.kinds)

    def _drawn(self) -> Scene:
        random = np.random.default_rng(self.seed)
        return draw_scene(random, width=200, height=160, kinds=self.kinds)


def answers(scene: Scene, masks: Sequence[NDArray[np.bool_]]) -> list[int | None]:
    """Return for each mask the number of the shape that it covers (IoU above 0.5), or None."""
    found: list[int | None] = []
    for mask in masks:
        ious = [
            float((mask & shape.mask).sum() / max(1, (mask | shape.mask).sum()))
            for shape in scene.shapes
        ]
        best = int(np.argmax(ious))
        found.append(best if ious[best] > 0.5 else None)
    return found
