"""Objects of a scene: outlines combined into parts and parts into groups.

Every builder returns an `ObjectPlan` in object units (about -1..1). A click may mean the object,
a group of it (the head of a figure) or a single part (the hair); the plan keeps all three apart.
Colours, shading and placement are the scene's business.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from training import shapes
from training.figures import bust, direction, figure
from training.plans import ObjectPlan, Part
from training.shapes import Generator, Outline


def _decorated(rng: Generator, outline: Outline, group: int = 0) -> list[Part]:
    """A body with markings inside it: strong inner edges that are no object boundary."""
    parts = [Part((outline,), 0, group)]
    low, high = outline.min(0), outline.max(0)
    for index in range(int(rng.integers(0, 4))):
        centre = rng.uniform(low + 0.2 * (high - low), high - 0.2 * (high - low))
        size = rng.uniform(0.08, 0.35)
        mark = rng.choice(3)
        if mark == 0:
            shape = shapes.transform(shapes.blob(rng), (size, size), 0.0, tuple(centre))
        elif mark == 1:
            stretch = (size * rng.uniform(0.5, 3), size * 0.5)
            box = shapes.rectangle(-1, -1, 1, 1)
            shape = shapes.transform(box, stretch, rng.uniform(0, 3), tuple(centre))
        else:
            shape = shapes.transform(
                shapes.superellipse(1, 1), (size, size), 0.0, (float(centre[0]), float(centre[1]))
            )
        parts.append(Part((shape,), 1 + index, group))
    return parts


def simple(rng: Generator) -> ObjectPlan:
    """One closed shape, plain or with markings, a band across it or a hole."""
    kind = rng.choice(6, p=[0.3, 0.2, 0.08, 0.22, 0.12, 0.08])
    if kind == 0:
        outline = shapes.blob(rng, rng.uniform(0.1, 0.9), int(rng.integers(2, 10)))
    elif kind == 1:
        outline = shapes.polygon(rng)
    elif kind == 2:
        outline = shapes.star(rng)
    elif kind == 3:
        outline = shapes.superellipse(1, rng.uniform(0.3, 1), rng.choice([2, 2, 4, 8]))
    elif kind == 4:
        outline = shapes.lathe(rng)
    else:
        outline = shapes.rectangle(-1, -rng.uniform(0.3, 1), 1, rng.uniform(0.3, 1))
    parts = _decorated(rng, outline)
    if rng.random() < 0.12:
        size = rng.uniform(0.2, 0.55)
        hole = shapes.transform(outline, (size, size), 0.0, (0.0, 0.0))
        parts.append(Part((hole,), 0, 0, hole=True))
    return ObjectPlan(tuple(parts), flat=rng.random() < 0.35)


def vessel(rng: Generator) -> ObjectPlan:
    """A turned body with lid, foot, handle or lampshade, or flowers in it."""
    body = shapes.lathe(rng)
    parts = []
    if rng.random() < 0.3:  # handle
        ring = shapes.transform(
            shapes.superellipse(0.35, 0.5), (1, 1), 0.0, (float(body[:, 0].max()), 0.0)
        )
        inner = shapes.transform(
            shapes.superellipse(0.2, 0.34), (1, 1), 0.0, (float(body[:, 0].max()), 0.0)
        )
        parts += [Part((ring,), 0, 2), Part((inner,), 0, 2, hole=True)]
    if rng.random() < 0.3:  # plant
        leaves = tuple(
            shapes.transform(
                shapes.blob(rng, 0.4),
                (rng.uniform(0.15, 0.4), rng.uniform(0.15, 0.3)),
                rng.uniform(0, 6),
                (rng.normal(0, 0.4), -1.1 + rng.normal(0, 0.3)),
            )
            for _ in range(int(rng.integers(4, 12)))
        )
        parts.append(Part(leaves, 3, 1))
    parts += _decorated(rng, body)
    if rng.random() < 0.3:  # shade or lid
        top = float(body[:, 1].min())
        wide, narrow = rng.uniform(0.5, 1.0), rng.uniform(0.1, 0.6)
        height = rng.uniform(0.2, 0.8)
        shade = np.array(
            [[-narrow, top - height], [narrow, top - height], [wide, top + 0.1], [-wide, top + 0.1]]
        )
        parts.append(Part((shade.astype(np.float32),), 4, 1))
    return ObjectPlan(tuple(parts), upright=True)


def box(rng: Generator) -> ObjectPlan:
    """A box in oblique view: front, top and side; maybe drawers, a cover picture, a screen."""
    width, height = rng.uniform(0.3, 1.0), rng.uniform(0.15, 1.0)
    depth = rng.uniform(0.05, 0.8) * rng.choice([-1, 1])
    rise = rng.uniform(0.05, 0.6)
    front = shapes.rectangle(-width, -height, width, height)
    skew = np.array([depth, -rise])
    corner_left, corner_right = np.array([-width, -height]), np.array([width, -height])
    top = np.stack([corner_left, corner_right, corner_right + skew, corner_left + skew])
    edge = width if depth > 0 else -width
    upper, lower = np.array([edge, -height]), np.array([edge, height])
    side = np.stack([upper, upper + skew, lower + skew, lower])
    parts = [
        Part((top.astype(np.float32),), 1),
        Part((side.astype(np.float32),), 2),
        Part((front,), 0),
    ]
    rows, columns = int(rng.integers(0, 4)), int(rng.integers(1, 4))
    margin = rng.uniform(0.02, 0.1)
    for row in range(rows):
        for column in range(columns):
            left = -width + 2 * width * column / columns + margin
            right = -width + 2 * width * (column + 1) / columns - margin
            upper_edge = -height + 2 * height * row / rows + margin
            lower_edge = -height + 2 * height * (row + 1) / rows - margin
            if right - left > 0.05 and lower_edge - upper_edge > 0.05:
                panel = shapes.rectangle(left, upper_edge, right, lower_edge)
                parts.append(Part((panel,), 3, 0))
    return ObjectPlan(tuple(parts), flat=True, upright=True)


def furniture(rng: Generator) -> ObjectPlan:
    """Tables, chairs, shelves, beds and sofas built of bars and cushions."""
    kind = rng.choice(["table", "chair", "sofa", "shelf"])
    width, height = rng.uniform(0.5, 1.0), rng.uniform(0.3, 1.0)
    bar = rng.uniform(0.03, 0.12)
    skew = rng.uniform(-0.4, 0.4)
    legs = []
    for x, y in (
        (-width, 0.0),
        (width - 2 * bar, 0.0),
        (-width + skew, -0.25),
        (width + skew, -0.25),
    ):
        legs.append(shapes.rectangle(x, -height + 0.1, x + 2 * bar, height + y))
    deck = np.array(
        [
            [-width, -height],
            [width, -height],
            [width + skew, -height - 0.35],
            [-width + skew, -height - 0.35],
        ]
    ).astype(np.float32)
    edge = shapes.rectangle(-width, -height, width, -height + 1.5 * bar)
    parts = [Part(tuple(legs), 0, 0), Part((deck,), 1, 1), Part((edge,), 0, 1)]
    if kind == "chair":
        back = shapes.rectangle(-width, -height - 1.2, -width + 2 * width, -height - 0.1)
        rails = tuple(
            shapes.rectangle(x, -height - 1.1, x + bar, -height - 0.1)
            for x in np.linspace(-width, width - bar, int(rng.integers(2, 7)))
        )
        parts.append(Part((back,) if rng.random() < 0.5 else rails, 2, 2))
    if kind == "shelf":
        boards = tuple(
            shapes.rectangle(-width, y, width, y + bar) for y in np.linspace(-height, height, 4)
        )
        sides = tuple(shapes.rectangle(x, -height, x + bar, height) for x in (-width, width - bar))
        parts = [Part(boards + sides, 0, 0)]
    if kind == "sofa":
        back = shapes.transform(shapes.superellipse(1, 0.5, 5), (width, height), 0, (0, -0.4))
        seat = shapes.transform(shapes.superellipse(1, 0.35, 6), (width, height), 0, (0, 0.2))
        arms = tuple(
            shapes.transform(shapes.superellipse(0.18, 0.5, 4), (1, height), 0, (x, 0.15))
            for x in (-width, width)
        )
        parts = [Part((back,), 0, 0), Part((seat,), 1, 0), Part(arms, 0, 0)]
    return ObjectPlan(tuple(parts), flat=rng.random() < 0.5, upright=True)


def animal(rng: Generator) -> ObjectPlan:
    """A four-legged animal or a bird: body, legs, neck, head, tail."""
    length, height = rng.uniform(0.45, 0.75), rng.uniform(0.18, 0.4)
    limb, leg = rng.uniform(0.03, 0.09), rng.uniform(0.2, 0.7)
    legs = []
    for x in (-0.8, -0.6, 0.6, 0.8):
        start = np.array([x * length, height * 0.5])
        knee = start + direction(rng.normal(0, 0.3), leg / 2)
        foot = knee + direction(rng.normal(0, 0.3), leg / 2)
        legs += [
            shapes.capsule(start, knee, 1.5 * limb, limb),
            shapes.capsule(knee, foot, limb, 0.8 * limb),
        ]
    body = shapes.transform(shapes.blob(rng, 0.25), (length, height), rng.normal(0, 0.1), (0, 0))
    base = np.array([0.8 * length, -0.3 * height])
    skull = base + direction(rng.uniform(1.8, 2.8), rng.uniform(0.15, 0.6))
    neck = shapes.capsule(base, skull, 0.6 * height, 0.1)
    head = shapes.capsule(skull, skull + np.array([rng.uniform(0.05, 0.3), 0.05]), 0.13, 0.06)
    ears = tuple(
        shapes.capsule(skull, skull + np.array([dx, -rng.uniform(0.12, 0.3)]), 0.05, 0.02)
        for dx in (-0.06, 0.04)
    )
    tail_line = shapes.wander(rng, 8, 0.3) * 0.25 + np.array([-length - 0.15, -0.1])
    tail = shapes.ribbon(tail_line, 0.04)
    spots = _decorated(rng, body)[1:]
    parts = [Part(tuple(legs), 0, 1), Part((tail,), 0, 2), Part((body,), 0, 0), *spots]
    parts += [Part((neck,), 0, 0), Part((*ears, head), int(rng.choice([0, 5])), 3)]
    return ObjectPlan(tuple(parts), upright=True)


def vehicle(rng: Generator) -> ObjectPlan:
    """A car, van or cart from the side."""
    roof = rng.uniform(0.2, 0.6)
    hull = shapes.smooth(np.array([[-1, 0.3], [-1, -0.1], [1, -0.15], [1, 0.3]], np.float32), 2)
    front, back = rng.uniform(0.1, 0.7), rng.uniform(0.4, 0.95)
    cabin = np.array([[-back, -0.1], [-0.7 * back, -roof], [0.6 * front, -roof], [front, -0.1]])
    glass = cabin * 0.82 + np.array([0, -0.03])
    wheels = [(x, 0.32) for x in (-0.6, 0.6)]
    tyres = tuple(shapes.transform(shapes.superellipse(0.2, 0.2), (1, 1), 0, w) for w in wheels)
    rims = tuple(shapes.transform(shapes.superellipse(0.1, 0.1), (1, 1), 0, w) for w in wheels)
    parts = [
        Part((cabin.astype(np.float32),), 0, 0),
        Part((glass.astype(np.float32),), 1, 1),
        Part((hull,), 0, 0),
        Part(tyres, 2, 2),
        Part(rims, 3, 2),
    ]
    return ObjectPlan(tuple(parts), upright=True)


def foliage(rng: Generator) -> ObjectPlan:
    """A tree, bush or bouquet: a stem with clumps."""
    clumps = tuple(
        shapes.transform(
            shapes.blob(rng, 0.5, 10),
            (rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.5)),
            rng.uniform(0, 6),
            (rng.normal(0, 0.35), -0.4 + rng.normal(0, 0.3)),
        )
        for _ in range(int(rng.integers(3, 14)))
    )
    stem = shapes.ribbon(np.array([[0, 1], [rng.normal(0, 0.1), 0.4], [0, -0.4]]), 0.05)
    return ObjectPlan((Part((stem,), 1, 1), Part(clumps, 0, 0)), upright=True)


def thin(rng: Generator) -> ObjectPlan:
    """Rods, swords, ropes, rings, frames and poles with feet or tops."""
    kind = rng.choice(5)
    width = rng.uniform(0.01, 0.06)
    if kind == 0:
        shaft = shapes.capsule(
            np.array([-1, 0]), np.array([1, 0]), width, width * rng.uniform(0.3, 1)
        )
        knob = shapes.transform(shapes.blob(rng), (0.1, 0.08), 0, (rng.uniform(-1, -0.7), 0.0))
        return ObjectPlan((Part((shaft,), 0), Part((knob,), 1)))
    if kind == 1:
        line = shapes.wander(rng, int(rng.integers(12, 40)))
        return ObjectPlan((Part((shapes.ribbon(line, width),), 0),))
    if kind == 2:
        outer = shapes.superellipse(1, rng.uniform(0.5, 1), rng.choice([2, 2, 8]))
        inner = outer * (1 - 3 * width - rng.uniform(0, 0.2))
        return ObjectPlan((Part((outer,), 0), Part((inner.astype(np.float32),), 0, 0, hole=True)))
    if kind == 3:
        pole = shapes.rectangle(-width, -1, width, 1)
        foot = np.array([[-0.3, 1], [0.3, 1], [0.1, 0.85], [-0.1, 0.85]], np.float32)
        head = shapes.transform(shapes.lathe(rng), (0.3, 0.25), 0, (0, -1))
        return ObjectPlan((Part((pole,), 0), Part((foot,), 0), Part((head,), 1)), upright=True)
    bars = tuple(
        shapes.capsule(rng.uniform(-1, 1, 2), rng.uniform(-1, 1, 2), width, width)
        for _ in range(int(rng.integers(2, 7)))
    )
    return ObjectPlan((Part(bars, 0),))


def sheet(rng: Generator) -> ObjectPlan:
    """A picture, book, carpet, window, flag or sign: a quadrilateral with content."""
    half_height = rng.uniform(0.3, 1.0)
    corners = shapes.rectangle(-1, -half_height, 1, half_height)
    corners = corners + rng.uniform(-0.25, 0.25, (4, 2)) * rng.choice([0, 1])
    corners = corners.astype(np.float32)
    if rng.random() < 0.3:
        return ObjectPlan((Part((corners,), 0),), flat=True)
    inner = corners * rng.uniform(0.7, 0.95)
    parts = [Part((corners,), 0), Part((inner.astype(np.float32),), 1)]
    for index in range(int(rng.integers(0, 5))):
        size = rng.uniform(0.1, 0.4)
        mark = shapes.transform(
            shapes.blob(rng, 0.5),
            (size, size * half_height),
            rng.uniform(0, 6),
            (rng.uniform(-0.45, 0.45), rng.uniform(-0.45, 0.45) * half_height),
        )
        parts.append(Part((mark,), 2 + index))
    if rng.random() < 0.25:
        bars = tuple(shapes.rectangle(x, -half_height, x + 0.05, half_height) for x in (-0.4, 0.3))
        parts.append(Part(bars, 0))
    return ObjectPlan(tuple(parts), flat=True)


def gadget(rng: Generator) -> ObjectPlan:
    """Two to five joined shapes of unlike colours: toys, tools, machines, food."""
    parts: list[Part] = []
    centre = np.zeros(2)
    for index in range(int(rng.integers(2, 6))):
        size = rng.uniform(0.2, 0.6)
        maker: Callable[[Generator], Outline] = (shapes.blob, shapes.polygon, shapes.lathe)[
            int(rng.integers(3))
        ]
        stretch = (size, size * rng.uniform(0.3, 1))
        piece = shapes.transform(
            maker(rng), stretch, rng.uniform(0, 6), (float(centre[0]), float(centre[1]))
        )
        parts.append(Part((piece,), int(rng.integers(0, 4)), index))
        centre = piece[int(rng.integers(len(piece)))].astype(float)
    return ObjectPlan(tuple(parts))


BUILDERS: tuple[tuple[Callable[[Generator], ObjectPlan], float], ...] = (
    (simple, 3.0),
    (figure, 4.0),
    (bust, 1.5),
    (vessel, 1.6),
    (box, 1.6),
    (furniture, 1.2),
    (animal, 1.3),
    (vehicle, 0.5),
    (foliage, 0.8),
    (thin, 1.0),
    (sheet, 1.4),
    (gadget, 2.0),
)
_WEIGHTS = np.array([weight for _, weight in BUILDERS])


def random_object(rng: Generator) -> ObjectPlan:
    """An object of a random kind, by the weights of `BUILDERS`."""
    index = int(rng.choice(len(BUILDERS), p=_WEIGHTS / _WEIGHTS.sum()))
    return BUILDERS[index][0](rng)
