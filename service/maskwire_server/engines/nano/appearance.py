"""What an object looks like, as colours: how like it a region is, and which pixels are its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_LIGHT_BINS = 8
_COLOUR_BINS = 16
_COLOUR_STEP = 6
_BINS = _LIGHT_BINS * _COLOUR_BINS**2
_LEAST = 1e-4
"""Share of a colour that was never seen, so that nothing is impossible."""


@dataclass(frozen=True, slots=True, eq=False)
class Appearance:
    """Colours of an object and of what lies around it.

    Attributes:
        inside: Shape (bins,), float32, sums to 1: shares of colours in the object.
        around: The same of its surroundings.
    """

    inside: NDArray[np.float32]
    around: NDArray[np.float32]

    @classmethod
    def of(cls, bins: NDArray[np.int32], mask: NDArray[np.bool_]) -> Appearance:
        """Look at a window's colours (`colour_bins`) and the object's mask in it."""
        return cls(_histogram(bins[mask]), _histogram(bins[~mask]))

    def arrays(self) -> Iterator[NDArray[np.generic]]:
        """What it holds in memory."""
        yield self.inside
        yield self.around

    def blended(self, later: Appearance, inside: float, around: float) -> Appearance:
        """This appearance with shares of a later one mixed in."""
        return Appearance(
            self.inside * np.float32(1 - inside) + later.inside * np.float32(inside),
            self.around * np.float32(1 - around) + later.around * np.float32(around),
        )

    def evidence(self, bins: NDArray[np.int32]) -> NDArray[np.float32]:
        """Logarithm of how much likelier each pixel is object than surroundings."""
        table = np.log((self.inside + _LEAST) / (self.around + _LEAST))
        return np.asarray(table[bins], np.float32)

    @property
    def distinctness(self) -> float:
        """How little the object's colours have in common with those around it, 0 to 1."""
        return 1 - float(np.sqrt(self.inside * self.around).sum())

    def likeness(self, inside: NDArray[np.float32]) -> float:
        """Bhattacharyya coefficient with the colours of a region, 0 to 1."""
        return float(np.sqrt(self.inside * inside).sum())


def colour_bins(colours: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Index of each pixel's colour: lightness coarsely, hue and saturation finely."""
    lab = cv2.cvtColor(np.ascontiguousarray(colours), cv2.COLOR_RGB2LAB).astype(np.int32)
    light = lab[..., 0] * _LIGHT_BINS // 256
    middle = _COLOUR_BINS // 2
    tint = np.clip((lab[..., 1:] - 128) // _COLOUR_STEP + middle, 0, _COLOUR_BINS - 1)
    return np.asarray((light * _COLOUR_BINS + tint[..., 0]) * _COLOUR_BINS + tint[..., 1])


def region_histogram(bins: NDArray[np.int32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Shares of the colours inside a mask."""
    return _histogram(bins[mask])


def _histogram(bins: NDArray[np.int32]) -> NDArray[np.float32]:
    counts = np.bincount(bins.ravel(), minlength=_BINS).astype(np.float32)
    counts = counts.reshape(_LIGHT_BINS, _COLOUR_BINS, _COLOUR_BINS)
    # Neighbouring colours share: noise and light move a colour by a bin.
    for axis in range(3):
        counts = 0.5 * counts + 0.25 * (_shifted(counts, 1, axis) + _shifted(counts, -1, axis))
    return np.asarray((counts / max(1.0, float(counts.sum()))).ravel(), np.float32)


def _shifted(counts: NDArray[np.float32], by: int, axis: int) -> NDArray[np.float32]:
    rolled = np.roll(counts, by, axis)
    edge = [slice(None)] * 3
    edge[axis] = slice(0, 1) if by > 0 else slice(-1, None)
    rolled[tuple(edge)] = counts[tuple(edge)]
    return rolled
