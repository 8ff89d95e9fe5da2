"""Plane shapes: closed outlines as N x 2 float arrays in object units (x right, y down).

An object spans roughly -1..1. What the outlines are painted with, and how they combine into
objects with parts, is decided in `objects`.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Outline = NDArray[np.float32]
Generator = np.random.Generator


def smooth(outline: Outline, rounds: int = 2) -> Outline:
    """Rounds the corners of a closed outline (Chaikin's corner cutting)."""
    points = outline
    for _ in range(rounds):
        following = np.roll(points, -1, axis=0)
        cut = np.stack([0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following], 1)
        points = cut.reshape(-1, 2)
    return np.asarray(points, np.float32)


def blob(rng: Generator, roughness: float = 0.35, harmonics: int = 6) -> Outline:
    """A star-shaped smooth closed curve of random Fourier radius, about 1 in size."""
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    radius = np.ones_like(angles)
    for order in range(2, harmonics + 2):
        weight = roughness * rng.normal() / order
        radius += weight * np.cos(order * angles + rng.uniform(0, 2 * np.pi))
    radius = np.clip(radius, 0.15, None)
    outline = np.stack([np.cos(angles), np.sin(angles)], 1) * radius[:, None]
    return np.asarray(outline / np.abs(outline).max(), np.float32)


def polygon(rng: Generator) -> Outline:
    """An irregular polygon of 3 to 8 corners, sometimes rounded."""
    count = int(rng.integers(3, 9))
    angles = np.sort(rng.uniform(0, 2 * np.pi, count))
    radius = rng.uniform(0.5, 1.0, count)
    outline = np.stack([np.cos(angles), np.sin(angles)], 1) * radius[:, None]
    outline -= outline.mean(0)
    outline /= max(float(np.abs(outline).max()), 1e-3)
    return smooth(outline.astype(np.float32), int(rng.integers(0, 3)))


def star(rng: Generator) -> Outline:
    """A star, flower or gear."""
    count = int(rng.integers(4, 14))
    angles = np.linspace(0, 2 * np.pi, 2 * count, endpoint=False) + rng.uniform(0, 6)
    radius = np.where(np.arange(2 * count) % 2 == 0, 1.0, rng.uniform(0.35, 0.8))
    outline = np.stack([np.cos(angles), np.sin(angles)], 1) * radius[:, None]
    return smooth(outline.astype(np.float32), int(rng.integers(0, 3)))


def superellipse(width: float, height: float, exponent: float = 2.0) -> Outline:
    """A superellipse with half axes `width` and `height`; exponent 2 is an ellipse."""
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    cosine, sine = np.cos(angles), np.sin(angles)
    power = 2.0 / exponent
    x = width * np.sign(cosine) * np.abs(cosine) ** power
    y = height * np.sign(sine) * np.abs(sine) ** power
    return np.stack([x, y], 1).astype(np.float32)


def rectangle(left: float, top: float, right: float, bottom: float) -> Outline:
    """An upright rectangle."""
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


def capsule(
    start: NDArray[np.floating], end: NDArray[np.floating], r0: float, r1: float
) -> Outline:
    """The hull of two circles: a limb that tapers from radius `r0` to `r1`."""
    axis = np.asarray(end, float) - np.asarray(start, float)
    angle = np.arctan2(axis[1], axis[0])
    first = np.linspace(angle + np.pi / 2, angle + 3 * np.pi / 2, 9)
    second = np.linspace(angle - np.pi / 2, angle + np.pi / 2, 9)
    left = np.asarray(start) + r0 * np.stack([np.cos(first), np.sin(first)], 1)
    right = np.asarray(end) + r1 * np.stack([np.cos(second), np.sin(second)], 1)
    return np.concatenate([left, right]).astype(np.float32)


def lathe(rng: Generator) -> Outline:
    """A symmetric silhouette from a random profile: vases, bottles, cups, lamps, pawns."""
    count = int(rng.integers(3, 8))
    heights = np.linspace(-1, 1, count)
    profile = rng.uniform(0.12, 0.75, count)
    if rng.random() < 0.4:  # bottle: narrow neck, wide body
        profile = np.interp(heights, [-1, -0.4, 0.0, 1], [0.15, 0.18, 0.5, rng.uniform(0.3, 0.55)])
    right = np.stack([profile, heights], 1)
    left = right[::-1] * np.array([-1.0, 1.0])
    outline = np.concatenate([right, left]).astype(np.float32)
    return smooth(outline, int(rng.integers(0, 4)))


def ribbon(points: NDArray[np.floating], width: NDArray[np.floating] | float) -> Outline:
    """A band of the given half width (scalar or one per point) along a polyline."""
    line = np.asarray(points, float)
    direction = np.gradient(line, axis=0)
    normal = np.stack([-direction[:, 1], direction[:, 0]], 1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    offset = normal * np.broadcast_to(width, len(line))[:, None]
    return np.concatenate([line + offset, (line - offset)[::-1]]).astype(np.float32)


def wander(rng: Generator, count: int = 24, turn: float = 0.25) -> NDArray[np.float32]:
    """A random smooth open curve that fits -1..1: ropes, cables, branches."""
    heading = np.cumsum(rng.normal(0, turn, count)) + rng.uniform(0, 2 * np.pi)
    steps = np.stack([np.cos(heading), np.sin(heading)], 1)
    line = np.cumsum(steps, axis=0)
    line -= (line.max(0) + line.min(0)) / 2
    return (line / max(float(np.abs(line).max()), 1e-3)).astype(np.float32)


def transform(
    outline: Outline, scale: tuple[float, float], angle: float, shift: tuple[float, float]
) -> Outline:
    """Scales, turns by `angle` (radians) and shifts an outline."""
    cosine, sine = np.cos(angle), np.sin(angle)
    scaled = outline * np.asarray(scale)
    turned = scaled @ np.array([[cosine, sine], [-sine, cosine]])
    return np.asarray(turned + np.asarray(shift), np.float32)


def fill(outlines: list[Outline], height: int, width: int) -> NDArray[np.uint8]:
    """Rasterises outlines in pixel units, each filled on its own, antialiased (uint8, 0..255)."""
    canvas = np.zeros((height, width), np.uint8)
    for outline in outlines:
        points = np.round(outline * 16).astype(np.int32)
        cv2.fillPoly(canvas, [points], 255, cv2.LINE_AA, 4)
    return canvas
