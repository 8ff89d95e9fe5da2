"""Scenes: a background, then objects painted back to front, with ids of objects and parts.

`make_scene(seed, index, bank)` is a pure function of its arguments, so that a scene never has to
be stored to be had again. Windows, prompts and augmentation are made from scenes in `dataset`.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training import photo, shapes
from training.figures import figure
from training.layers import DRAWN_STYLES, Layer, Look, paint_object
from training.objects import random_object
from training.plans import ObjectPlan
from training.textures import TextureBank, random_colour, surface

Generator = np.random.Generator
Image = NDArray[np.float32]

STYLES = ("photo", "low_key", "studio", "cartoon", "line_art")
STYLE_WEIGHTS = (0.68, 0.1, 0.06, 0.06, 0.1)


@dataclass(frozen=True, slots=True)
class Scene:
    """A finished picture with its labels.

    `image` is height x width x 3 uint8 RGB; `objects` (uint16) holds the number of the visible
    object per pixel, 0 for none; `parts` (uint16) likewise indexes `part_table`, whose rows are
    (object number, group number) and whose row 0 is the background. `areas` counts the pixels
    that each object would show if nothing lay before it, by object number.
    """

    image: NDArray[np.uint8]
    objects: NDArray[np.uint16]
    parts: NDArray[np.uint16]
    part_table: NDArray[np.int32]
    areas: NDArray[np.int64]


def _look(rng: Generator) -> Look:
    style = str(rng.choice(STYLES, p=STYLE_WEIGHTS))
    angle = rng.uniform(0, 2 * np.pi)
    return Look(
        style=style,
        light=(float(np.cos(angle)), float(np.sin(angle))),
        shading=float(rng.uniform(0.1, 0.9)),
        shadow=float(rng.choice([0.0, rng.uniform(0.2, 0.7)])),
        palette=tuple(random_colour(rng) for _ in range(int(rng.integers(3, 8)))),
        ink=(rng.uniform(0, 0.25, 3) if rng.random() < 0.9 else rng.uniform(0.6, 1, 3)).astype(
            np.float32
        ),
        paper=rng.uniform(0.88, 1.0, 3).astype(np.float32),
        stroke=int(rng.choice([1, 1, 2])),
    )


def _plane(rng: Generator, bank: TextureBank, look: Look, height: int, width: int) -> Image:
    """A textured plane, sometimes seen at an angle."""
    base = look.palette[int(rng.integers(len(look.palette)))]
    texture = surface(rng, bank, height, width, base, rng.choice([0.0, 0.3, 0.6, 1.0]))
    if rng.random() < 0.5:
        squeeze = rng.uniform(0.1, 0.45) * width
        source = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
        target = source.copy()
        source[0, 0], source[1, 0] = squeeze, width - squeeze
        matrix = cv2.getPerspectiveTransform(source, target)
        turned = cv2.warpPerspective(
            np.ascontiguousarray(texture), matrix, (width, height), borderMode=cv2.BORDER_REFLECT
        )
        return np.asarray(turned, np.float32)
    return texture


def _background(rng: Generator, bank: TextureBank, look: Look, height: int, width: int) -> Image:
    if look.style == "line_art":
        canvas = np.tile(look.paper, (height, width, 1))
        _draw_lines(rng, canvas, look)
        return canvas
    if look.style == "studio":
        shade = rng.choice([rng.uniform(0, 0.06), rng.uniform(0.85, 1.0), rng.uniform(0.2, 0.7)])
        canvas = np.full((height, width, 3), shade, np.float32)
        if rng.random() < 0.5:
            canvas[int(height * rng.uniform(0.6, 0.9)) :] += rng.uniform(-0.1, 0.15)
        return canvas
    canvas = _plane(rng, bank, look, height, width)
    if rng.random() < 0.7:  # floor, table top or ground, with or without a second wall
        horizon = int(height * rng.uniform(0.25, 0.85))
        canvas[horizon:] = _plane(rng, bank, look, height - horizon, width)
        if rng.random() < 0.3:
            corner = int(width * rng.uniform(0.2, 0.8))
            canvas[:horizon, corner:] *= rng.uniform(0.5, 1.4)
    if rng.random() < 0.5:
        step = rng.normal(0, 0.25)
        canvas += np.linspace(-step, step, height, dtype=np.float32)[:, None, None]
    if rng.random() < 0.35:
        _draw_lines(rng, canvas, look)
    if rng.random() < 0.25:
        return np.asarray(cv2.GaussianBlur(canvas, (0, 0), rng.uniform(1, 5)), np.float32)
    return canvas


def _draw_lines(rng: Generator, canvas: Image, look: Look) -> None:
    """Lines of the background that bound no object: room corners, planks, cables, cracks."""
    height, width = canvas.shape[:2]
    for _ in range(int(rng.integers(1, 25))):
        start = rng.uniform(-0.1, 1.1, 2) * [width, height]
        reach = rng.uniform(-1, 1, 2) * [width, height] * rng.choice([0.1, 0.3, 1.0])
        colour = look.ink if look.style == "line_art" else rng.uniform(0, 1, 3)
        end = start + reach
        cv2.line(
            canvas,
            (int(start[0]), int(start[1])),
            (int(end[0]), int(end[1])),
            tuple(float(c) for c in colour),
            int(rng.integers(1, 3)),
            cv2.LINE_AA,
        )


@dataclass(frozen=True, slots=True)
class _Placed:
    plan: ObjectPlan
    size: float
    centre: tuple[float, float]


def _arrange(rng: Generator, height: int, width: int) -> list[_Placed]:
    """Chooses objects, sizes (pixels, half extent) and places, back to front."""
    span = max(height, width)
    placed: list[_Placed] = []
    for _ in range(int(rng.integers(3, 15))):
        size = span * np.exp(rng.uniform(np.log(0.04), np.log(0.45)))
        centre = rng.uniform(0, 1, 2) * [width, height]
        placed.append(
            _Placed(random_object(rng), float(size), (float(centre[0]), float(centre[1])))
        )
    placed.sort(key=lambda item: -item.size * float(np.exp(rng.normal(0, 0.5))))
    if rng.random() < 0.3:  # a row or crowd of people
        size, base = span * rng.uniform(0.1, 0.4), height * rng.uniform(0.35, 0.7)
        for _ in range(int(rng.integers(2, 8))):
            place = (float(rng.uniform(0, width)), float(base + rng.normal(0, 0.1) * size))
            placed.append(_Placed(figure(rng), float(size * rng.uniform(0.8, 1.2)), place))
    if rng.random() < 0.3:  # copies of one object: books, chairs, tiles
        model = random_object(rng)
        size = span * rng.uniform(0.04, 0.2)
        start, step = rng.uniform(0, 1, 2) * [width, height], rng.normal(0, 2, 2) * size
        for index in range(int(rng.integers(2, 6))):
            spot = start + index * step
            placed.append(_Placed(model, float(size), (float(spot[0]), float(spot[1]))))
    if rng.random() < 0.25:  # a main subject before everything else
        size = span * rng.uniform(0.3, 0.6)
        spot = rng.uniform(0.3, 0.7, 2) * [width, height]
        placed.append(_Placed(random_object(rng), float(size), (float(spot[0]), float(spot[1]))))
    if placed and rng.random() < 0.4:  # small things that lie on a large one
        host = placed[int(rng.integers(len(placed)))]
        for _ in range(int(rng.integers(1, 4))):
            spot = np.asarray(host.centre) + rng.normal(0, 0.4, 2) * host.size
            size = host.size * rng.uniform(0.1, 0.4)
            placed.append(_Placed(random_object(rng), size, (float(spot[0]), float(spot[1]))))
    return placed


def _to_pixels(rng: Generator, item: _Placed) -> list[list[shapes.Outline]]:
    stretch = float(np.exp(rng.normal(0, 0.15)))
    angle = rng.normal(0, 0.12) if item.plan.upright else rng.uniform(0, 2 * np.pi)
    mirror = rng.choice([-1.0, 1.0])
    everything = np.concatenate([o for part in item.plan.parts for o in part.outlines])
    middle = (everything.max(0) + everything.min(0)) / 2
    extent = max(float(np.abs(everything - middle).max()), 1e-3)
    scale = item.size / extent
    return [
        [
            shapes.transform(
                (outline - middle).astype(np.float32),
                (mirror * scale * stretch, scale / stretch),
                angle,
                item.centre,
            )
            for outline in part.outlines
        ]
        for part in item.plan.parts
    ]


def _compose(canvas: Image, layer: Layer, rng: Generator, look: Look) -> None:
    """Casts the layer's shadow onto the canvas and lays the layer over it (in place)."""
    if look.shadow > 0 and look.style not in DRAWN_STYLES:
        height, width = canvas.shape[:2]
        length = max(layer.alpha.shape) * rng.uniform(0.02, 0.2)
        shift = np.array(
            [
                [1, 0, layer.left - look.light[0] * length],
                [0, 1, layer.top - look.light[1] * length],
            ],
            np.float32,
        )
        shadow = cv2.warpAffine(layer.alpha, shift, (width, height))
        softness = int(rng.integers(1, 4 + int(length / 2)))
        dark = cv2.blur(shadow, (softness, softness)).astype(np.float32) / 255
        canvas *= 1 - look.shadow * dark[..., None]
    rows = slice(layer.top, layer.top + layer.alpha.shape[0])
    columns = slice(layer.left, layer.left + layer.alpha.shape[1])
    alpha = layer.alpha
    if rng.random() < 0.4:
        alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), rng.uniform(0.3, 1.0)), np.uint8)
    cover = (alpha.astype(np.float32) * (layer.opacity / 255))[..., None]
    canvas[rows, columns] += cover * (layer.colour - canvas[rows, columns])


def make_scene(seed: int, index: int, bank: TextureBank) -> Scene:
    """Draws scene `index` of the endless sequence that `seed` names."""
    rng = np.random.default_rng([seed, 11, index])
    long_side, ratio = int(rng.integers(288, 420)), rng.uniform(0.6, 1.0)
    height, width = (
        (long_side, int(long_side * ratio))
        if rng.random() < 0.35
        else (int(long_side * ratio), long_side)
    )
    look = _look(rng)
    canvas = _background(rng, bank, look, height, width)
    objects = np.zeros((height, width), np.uint16)
    parts = np.zeros((height, width), np.uint16)
    table: list[tuple[int, int]] = [(0, 0)]
    areas = [0]
    for item in _arrange(rng, height, width):
        layer = paint_object(rng, bank, look, item.plan, _to_pixels(rng, item), canvas)
        if layer is None:
            continue
        _compose(canvas, layer, rng, look)
        number, visible = len(areas), layer.alpha > 127
        areas.append(int(visible.sum()))
        rows = slice(layer.top, layer.top + visible.shape[0])
        columns = slice(layer.left, layer.left + visible.shape[1])
        objects[rows, columns][visible] = number
        parts[rows, columns][visible] = layer.part[visible] + len(table)
        table += [(number, part.group) for part in item.plan.parts]
    image = photo.develop(rng, canvas, look.style == "low_key")
    return Scene(image, objects, parts, np.array(table, np.int32), np.array(areas))
