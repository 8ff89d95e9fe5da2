"""Where a lost object may be: its template is laid over a small picture of the frame."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from .motion import Move, SmallPicture
from .template import Template

_LONGEST_PX = 24
"""Longer side of the template as it is searched with."""

_SCALES = (0.8, 1.0, 1.25)
"""How much larger the object may be than it was."""

_MOST = 2
"""Places that are worth a look of the network."""

_LEAST_PIXELS = 4
_TAKEN = 1e9


def placements(template: Template, small: SmallPicture) -> list[Move]:
    """Where an object may have gone from its template's frame, likeliest first."""
    rows, columns = template.inside.shape
    factor = min(1.0, _LONGEST_PX / max(rows, columns))
    picture = _resized(small.colours, factor, factor)
    found: list[tuple[float, float, float, float]] = []
    for scale in _SCALES:
        found += _best_places(template, picture, factor * scale, scale)
    box = template.box
    before = np.array([(box.x_min + box.x_max) / 2, (box.y_min + box.y_max) / 2])
    apart = max(rows, columns) * factor / 3
    chosen: list[NDArray[np.float64]] = []
    moves = []
    for _, x, y, scale in sorted(found):
        centre = np.array([x, y])
        if any(float(np.abs(centre - other).max()) < apart for other in chosen):
            continue
        chosen.append(centre)
        shift = centre / factor / small.scale - scale * before
        moves.append(Move(np.column_stack([np.eye(2) * scale, shift]), 0.0))
        if len(moves) == _MOST:
            break
    return moves


def _best_places(
    template: Template, picture: NDArray[np.float32], factor: float, scale: float
) -> list[tuple[float, float, float, float]]:
    """The places that differ least: mean squared difference, centre x and y, and the scale."""
    patch = _resized(template.colours, factor, factor)
    inside = cv2.resize(template.inside * 255, patch.shape[1::-1], interpolation=cv2.INTER_AREA)
    mask = (inside > 127).astype(np.float32)
    height, width = mask.shape
    fits = height <= picture.shape[0] and width <= picture.shape[1]
    if not fits or mask.sum() < _LEAST_PIXELS:
        return []
    weights = np.repeat(mask[..., None], 3, 2)
    difference = cv2.matchTemplate(picture, patch, cv2.TM_SQDIFF, mask=weights) / weights.sum()
    found = []
    for _ in range(_MOST):
        least, _, (left, top), _ = cv2.minMaxLoc(difference)
        found.append((float(least), left + width / 2, top + height / 2, scale))
        around = (left - width // 3, top - height // 3, 2 * width // 3 + 1, 2 * height // 3 + 1)
        cv2.rectangle(difference, around, _TAKEN, -1)
    return found


def _resized(colours: NDArray[np.uint8], across: float, down: float) -> NDArray[np.float32]:
    size = (max(3, round(colours.shape[1] * across)), max(3, round(colours.shape[0] * down)))
    return np.asarray(cv2.resize(colours, size, interpolation=cv2.INTER_AREA), np.float32)
