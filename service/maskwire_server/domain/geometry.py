"""Sizes, boxes and points in the image frame.

The frame of everything here: pixels of the image as sent, after its EXIF orientation is applied;
origin at the outer top-left corner, x right, y down; floats allowed, a pixel's centre is at +0.5.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageSize:
    """Width and height of an image in pixels."""

    width_px: int
    height_px: int

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.width_px * self.height_px


@dataclass(frozen=True, slots=True)
class Box:
    """Half-open axis-aligned rectangle [x_min, x_max) × [y_min, y_max) in the image frame."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float

    @property
    def width(self) -> float:
        """Extent along x in pixels."""
        return self.x_max - self.x_min

    @property
    def height(self) -> float:
        """Extent along y in pixels."""
        return self.y_max - self.y_min

    @classmethod
    def covering(cls, size: ImageSize) -> Box:
        """Return the box that covers a whole image."""
        return cls(0.0, 0.0, float(size.width_px), float(size.height_px))


@dataclass(frozen=True, slots=True)
class Point:
    """A position in the image frame."""

    x: float
    y: float
