"""Clothed people in random poses: standing, walking, sitting, bending, reaching.

A pose is a set of joints; limbs are tapered capsules between them, the trunk and clothes are
outlines around them. Sizes are in figure units: the trunk is about 0.55 long.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training import shapes
from training.plans import ObjectPlan, Part
from training.shapes import Generator

Vector = NDArray[np.float64]

SKIN, HAIR, TOP, TROUSERS, SHOES, COAT = range(6)
HEAD_GROUP, TOP_GROUP, LEG_GROUP, FOOT_GROUP, HAND_GROUP = range(5)


def direction(angle: float, length: float) -> Vector:
    """A vector of `length` that points down at angle 0 and turns towards x."""
    return np.array([np.sin(angle), np.cos(angle)]) * length


@dataclass(frozen=True, slots=True)
class _Build:
    """What all limbs of a figure share.

    `lean` is the trunk's angle in radians, `across` points along the shoulders; the slots say
    which colour covers forearms and shins.
    """

    lean: float
    stout: float
    hip: Vector
    neck: Vector
    across: Vector
    sleeve: int
    trousers: int


def _build(rng: Generator) -> _Build:
    lean = float(rng.normal(0, 0.25) if rng.random() < 0.7 else rng.uniform(-1.3, 1.3))
    hip = np.zeros(2)
    return _Build(
        lean=lean,
        stout=float(rng.uniform(0.8, 1.5)),
        hip=hip,
        neck=hip - direction(lean, 0.55),
        across=np.array([np.cos(lean), -np.sin(lean)]) * rng.uniform(0.3, 1.0),
        sleeve=TOP if rng.random() < 0.65 else SKIN,
        trousers=TROUSERS if rng.random() < 0.7 else SKIN,
    )


def _leg(rng: Generator, build: _Build, side: int) -> list[Part]:
    joint = build.hip + side * 0.1 * build.stout * build.across
    swing = rng.normal(0, 0.35) if rng.random() < 0.65 else rng.uniform(-1.6, 1.6)
    knee = joint + direction(swing, 0.45)
    bend = swing + rng.normal(0, 0.3) if rng.random() < 0.7 else rng.uniform(-1.5, 1.0)
    ankle = knee + direction(bend, 0.43)
    toe = ankle + np.array([0.12 * rng.choice([-1, 1]), 0.03])
    width = 0.085 * build.stout
    return [
        Part((shapes.capsule(ankle, toe, 0.04, 0.035),), SHOES, FOOT_GROUP),
        Part((shapes.capsule(knee, ankle, 0.8 * width, 0.55 * width),), build.trousers, LEG_GROUP),
        Part((shapes.capsule(joint, knee, width, 0.8 * width),), TROUSERS, LEG_GROUP),
    ]


def _arm(rng: Generator, build: _Build, side: int) -> list[Part]:
    shoulder = build.neck + side * 0.17 * build.stout * build.across + direction(build.lean, 0.05)
    raised = rng.normal(0, 0.5) if rng.random() < 0.5 else rng.uniform(-3.1, 3.1)
    elbow = shoulder + direction(raised, 0.28)
    wrist = elbow + direction(raised + rng.normal(0, 0.9), 0.26)
    fingers = wrist + direction(raised, 0.05)
    width = 0.055 * build.stout
    loose = width * (rng.uniform(1.3, 2.2) if rng.random() < 0.2 else 0.85)
    return [
        Part((shapes.capsule(wrist, fingers, 0.035, 0.03),), SKIN, HAND_GROUP),
        Part((shapes.capsule(elbow, wrist, loose, 0.6 * width),), build.sleeve, TOP_GROUP),
        Part((shapes.capsule(shoulder, elbow, width, 0.85 * width),), TOP, TOP_GROUP),
    ]


def _trunk(build: _Build) -> Part:
    shoulder = 0.17 * build.stout * build.across
    waist = build.hip + direction(build.lean, 0.04)
    chest = build.hip + 0.75 * build.stout * shoulder - direction(build.lean, 0.25)
    back = build.hip - 0.75 * build.stout * shoulder - direction(build.lean, 0.25)
    flank = (0.1 + 0.07) * build.stout * build.across
    top = build.neck - direction(build.lean, 0.01)
    outline = np.array([top - shoulder, top + shoulder, chest, waist + flank, waist - flank, back])
    return Part((shapes.smooth(outline.astype(np.float32), 2),), TOP, TOP_GROUP)


def _drapery(rng: Generator, build: _Build) -> Part:
    """A skirt, robe or coat: from the waist or the shoulders down to a wavy hem."""
    from_shoulders = rng.random() < 0.4
    start = build.neck + direction(build.lean, 0.1) if from_shoulders else build.hip.copy()
    length = rng.uniform(0.25, 0.85) + (0.45 if from_shoulders else 0.0)
    flare = rng.uniform(0.15, 0.45)
    hem = start + direction(0.5 * build.lean + rng.normal(0, 0.3), length)
    edge = np.linspace(-1, 1, 6)[:, None] * np.array([flare, 0.0])
    wavy = hem + edge + rng.normal(0, 0.04, (6, 2))
    band = 0.17 * build.stout * build.across
    upper = np.array([start + band, start - band]) - direction(build.lean, 0.1)
    outline = shapes.smooth(np.concatenate([upper, wavy]).astype(np.float32), 1)
    return Part((outline,), COAT, LEG_GROUP)


def _head(rng: Generator, build: _Build) -> list[Part]:
    centre = build.neck - direction(build.lean + rng.normal(0, 0.3), 0.17)
    size = rng.uniform(0.085, 0.115)
    place = (float(centre[0]), float(centre[1]))
    crown = (float(centre[0] + rng.normal(0, 0.03)), float(centre[1] - 0.35 * size))
    face = shapes.transform(shapes.superellipse(size, 1.3 * size), (1, 1), -0.5 * build.lean, place)
    hair = shapes.transform(shapes.blob(rng, 0.3), (1.15 * size, 1.1 * size), -build.lean, crown)
    order = [Part((hair,), HAIR, HEAD_GROUP), Part((face,), SKIN, HEAD_GROUP)]
    throat = Part((shapes.capsule(build.neck, centre, 0.05, 0.05),), SKIN, HEAD_GROUP)
    return [throat, *(order if rng.random() < 0.5 else order[::-1])]


def figure(rng: Generator) -> ObjectPlan:
    """A person; the groups are head, upper body, lower body, feet and hands."""
    build = _build(rng)
    behind = _leg(rng, build, -1) + _arm(rng, build, -1)
    leg, arm = _leg(rng, build, 1), _arm(rng, build, 1)
    body = [_trunk(build)]
    if rng.random() < 0.45:
        drapery = _drapery(rng, build)
        body = [drapery, *body] if rng.random() < 0.6 else [*body, drapery]
    front = [*leg, *body, *arm] if rng.random() < 0.7 else [*leg, *arm, *body]
    return ObjectPlan((*behind, *front, *_head(rng, build)), upright=rng.random() < 0.85)


def bust(rng: Generator) -> ObjectPlan:
    """A person from the chest up, as portraits show them: head, hair, collar, badges, arms."""
    wide, head = rng.uniform(0.55, 0.95), rng.uniform(0.24, 0.34)
    slope, turn = rng.uniform(0.05, 0.3), rng.normal(0, 0.08)
    shoulders = -0.2
    outline = np.array(
        [
            [-0.14, shoulders - 0.05],
            [0.14, shoulders - 0.05],
            [wide, shoulders + slope],
            [wide * rng.uniform(0.9, 1.2), 1.2],
            [-wide * rng.uniform(0.9, 1.2), 1.2],
            [-wide, shoulders + slope],
        ]
    )
    parts = [Part((shapes.smooth(outline.astype(np.float32), 2),), TOP, TOP_GROUP)]
    for side in (-1, 1):
        elbow = np.array([side * wide * rng.uniform(0.9, 1.2), rng.uniform(0.5, 1.0)])
        start = np.array([side * wide * 0.85, shoulders + slope + 0.15])
        sleeve = TOP if rng.random() < 0.8 else SKIN
        parts.append(Part((shapes.capsule(start, elbow, 0.17, 0.14),), sleeve, TOP_GROUP))
        if rng.random() < 0.5:
            wrist = np.array([rng.uniform(-0.4, 0.4), rng.uniform(0.6, 1.1)])
            parts.append(Part((shapes.capsule(elbow, wrist, 0.14, 0.09),), sleeve, TOP_GROUP))
            hand = shapes.transform(shapes.blob(rng), (0.1, 0.12), 0, tuple(map(float, wrist)))
            parts.append(Part((hand,), SKIN, HAND_GROUP))
    for _ in range(int(rng.integers(0, 5))):  # badges, buttons, straps
        place = (float(rng.uniform(-0.5, 0.5) * wide), float(rng.uniform(0.1, 0.9)))
        size = (float(rng.uniform(0.04, 0.15)), float(rng.uniform(0.04, 0.4)))
        mark = shapes.superellipse(1, 1, float(rng.choice([2, 6])))
        parts.append(Part((shapes.transform(mark, size, turn, place),), COAT, TOP_GROUP))
    if rng.random() < 0.5:
        collar = shapes.superellipse(rng.uniform(0.18, 0.35), rng.uniform(0.06, 0.16))
        parts.append(Part((collar + np.float32([0, shoulders]),), COAT, TOP_GROUP))
    neck = np.array([0.0, shoulders])
    centre = np.array([rng.normal(0, 0.05), shoulders - 1.25 * head])
    place = (float(centre[0]), float(centre[1]))
    hair_size = (head * rng.uniform(0.95, 1.4), head * rng.uniform(1.1, 1.7))
    crown = (place[0], place[1] - 0.25 * head)
    behind = shapes.transform(shapes.blob(rng, 0.3), hair_size, turn, crown)
    fringe = shapes.transform(
        shapes.superellipse(1, 0.5),
        (0.85 * head, 0.7 * head),
        turn,
        (place[0], place[1] - 0.8 * head),
    )
    face = shapes.transform(shapes.superellipse(0.78 * head, head, 2.3), (1, 1), turn, place)
    parts += [
        Part((behind,), HAIR, HEAD_GROUP),
        Part((shapes.capsule(neck, centre, 0.12, 0.12),), SKIN, HEAD_GROUP),
        Part((face,), SKIN, HEAD_GROUP),
    ]
    if rng.random() < 0.7:
        parts.append(Part((fringe,), HAIR, HEAD_GROUP))
    return ObjectPlan(tuple(parts), upright=True)
