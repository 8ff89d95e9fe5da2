"""Points, boxes and sizes in the image frame, as prompts give them and answers return them.

The frame: pixels of the image as sent, after its EXIF orientation is applied; origin at the outer
top-left corner, x right, y down; fractions allowed, the centre of the first pixel is (0.5, 0.5).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["Box", "BoxLabel", "ImageSize", "NormalizedBox", "Point", "PointLabel"]


@dataclass(frozen=True, slots=True)
class ImageSize:
    """Size of an image in pixels."""

    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True)
class NormalizedBox:
    """A box by its centre and size, in fractions of the image's width and height, 0 to 1."""

    center_x: float
    center_y: float
    width: float
    height: float


class PointLabel(enum.Enum):
    """Whether a point lies on the object."""

    FOREGROUND = "foreground"
    BACKGROUND = "background"


class BoxLabel(enum.Enum):
    """Whether a box shows what is wanted."""

    POSITIVE = "positive"
    NEGATIVE = "negative"


@dataclass(frozen=True, slots=True)
class Point:
    """A click on, or off, an object.

    Attributes:
        x: Pixels from the left edge of the image.
        y: Pixels from its top edge.
        label: Whether the pixel belongs to the object.
        object_id: The object that it refines, from 1; points without one are one object together.
        frame_index: The frame of a stored video that it is about, from 0; only for `track_video`,
            where None means the first.
    """

    x: float
    y: float
    label: PointLabel = PointLabel.FOREGROUND
    object_id: int | None = None
    frame_index: int | None = None


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open box around an object, or an exemplar of a concept.

    The boxes of answers are of this class too, so that they can be prompts again.

    Attributes:
        x_min: Left edge in pixels.
        y_min: Top edge in pixels.
        x_max: Right edge in pixels, exclusive.
        y_max: Bottom edge in pixels, exclusive.
        label: Wanted, or an exemplar of what is not wanted (only models with exemplars take that).
        object_id: The object that it refines, from 1; boxes without one are separate objects, or,
            beside texts or a negative box, exemplars.
        frame_index: As of `Point`.
    """

    x_min: float
    y_min: float
    x_max: float
    y_max: float
    label: BoxLabel = BoxLabel.POSITIVE
    object_id: int | None = None
    frame_index: int | None = None
