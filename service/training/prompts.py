"""Simulated prompts: jittered boxes, clicks as a person sets them, worn masks of the past.

Everything works on boolean masks of any size in their own pixels; `dataset` brings the results
into a window's frame.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Generator = np.random.Generator


def _depth(mask: Mask) -> NDArray[np.float32]:
    """Distance of each pixel to the outside of the mask; the border of the array is outside."""
    padded = np.pad(mask, 1).astype(np.uint8)
    return np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1], np.float32)


def random_click(rng: Generator, mask: Mask) -> tuple[float, float]:
    """A click somewhere in the mask, more likely well inside it than at its rim (x, y)."""
    depth = _depth(mask)
    if rng.random() < 0.3:
        inside = np.flatnonzero(depth >= 0.6 * depth.max())
    else:
        inside = np.flatnonzero(depth > min(1.5, 0.5 * float(depth.max())))
    row, column = np.unravel_index(int(rng.choice(inside)), mask.shape)
    return float(column) + 0.5, float(row) + 0.5


STRAY_SHARE = 0.25
"""Share of corrective clicks that are set as people do: well inside an error, not in its centre."""


def corrective_click(
    truth: Mask, answer: Mask, rng: Generator | None = None
) -> tuple[float, float, int] | None:
    """The next click of the standard simulation: the centre of the largest error region.

    With a generator, some clicks stray from the centre.

    Returns x, y and the label (1 where object was missed, 0 where background was taken); None
    where the answer is right.
    """
    missed, taken = _depth(truth & ~answer), _depth(answer & ~truth)
    if max(missed.max(), taken.max()) <= 0:
        return None
    depth, label = (missed, 1) if missed.max() >= taken.max() else (taken, 0)
    place = int(depth.argmax())
    if rng is not None and rng.random() < STRAY_SHARE:
        place = int(rng.choice(np.flatnonzero(depth >= 0.5 * depth.max())))
    row, column = np.unravel_index(place, depth.shape)
    return float(column) + 0.5, float(row) + 0.5, label


def jittered_box(
    rng: Generator, box: tuple[float, float, float, float]
) -> tuple[float, float, float, float]:
    """The box as drawn by a person: often tight, else a few per cent off on each side."""
    x_min, y_min, x_max, y_max = box
    if rng.random() < 0.5:
        return box
    spread_x, spread_y = 0.04 * (x_max - x_min) + 0.3, 0.04 * (y_max - y_min) + 0.3
    moves = rng.normal(0, 1, 4) * [spread_x, spread_y, spread_x, spread_y]
    moved = np.array([x_min, y_min, x_max, y_max]) + moves
    if moved[2] - moved[0] < 2 or moved[3] - moved[1] < 2:
        return box
    return float(moved[0]), float(moved[1]), float(moved[2]), float(moved[3])


def worn_mask(rng: Generator, mask: NDArray[np.float32]) -> NDArray[np.float32]:
    """A previous mask as an earlier answer or an earlier frame would leave it.

    `mask` is the truth (float32, 0..1, square); the result has the same form: moved, scaled,
    eroded or dilated with a wavy rim, with pieces lost or added, hard or soft.
    """
    size = mask.shape[0]
    angle, scale = rng.normal(0, 6), np.exp(rng.normal(0, 0.08))
    matrix = cv2.getRotationMatrix2D((size / 2, size / 2), float(angle), float(scale))
    extent = np.sqrt(max(float(mask.sum()), 1.0))
    matrix[:, 2] += rng.normal(0, 0.08 if rng.random() < 0.7 else 0.2, 2) * extent
    moved = cv2.warpAffine(mask, matrix, (size, size))
    coarse = rng.normal(0, 1, (int(rng.integers(4, 17)),) * 2).astype(np.float32)
    waves = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    softness = max(0.6, extent * rng.uniform(0.01, 0.12))
    soft = cv2.GaussianBlur(moved, (0, 0), softness)
    ripple = rng.uniform(0, 0.35) * waves * (soft > 0.02)
    level = np.asarray(soft + ripple - rng.normal(0.5, 0.12), np.float32)
    if rng.random() < 0.25:
        _bite(rng, level, extent, lost=True)
    if rng.random() < 0.25:
        _bite(rng, level, extent, lost=False)
    steepness = rng.choice([4.0, 12.0, 1000.0])
    worn = 1 / (1 + np.exp(-np.clip(steepness * level, -30, 30)))
    return np.asarray(worn, np.float32)


def _bite(rng: Generator, level: NDArray[np.float32], extent: float, lost: bool) -> None:
    """Takes a blot out of a level set or adds one (in place)."""
    candidates = np.flatnonzero(level > 0)
    if not len(candidates):
        return
    row, column = np.unravel_index(int(rng.choice(candidates)), level.shape)
    radius = max(1, int(extent * rng.uniform(0.1, 0.45)))
    shift = 0 if lost else radius
    centre = (int(column) + shift, int(row) + int(rng.integers(-radius, radius + 1)))
    cv2.circle(level, centre, radius, -0.6 if lost else 0.6, -1)
