"""How the picture moved from one frame to the next, and a mask that is moved along.

Optical flow is computed once for a frame on small grey pictures and serves every object: of the
flow inside a mask, the similarity (shift, turn, scale) that most of it agrees with moves the mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits

LONGEST_PX = 320
"""Longer side of the pictures that flow is computed on."""

OUTSIDE = -8.0
"""Logit where a moved mask says nothing."""

_MOST_SAMPLES = 400
_FEWEST_SAMPLES = 8
_TOLERANCE_PX = 1.5
_LARGEST_GROWTH = 1.25


@dataclass(frozen=True, slots=True, eq=False)
class SmallPicture:
    """A frame scaled down.

    Attributes:
        colours: Shape (height, width, 3), uint8, RGB.
        grey: Shape (height, width), uint8.
        image: Size of the frame itself.
    """

    colours: NDArray[np.uint8]
    grey: NDArray[np.uint8]
    image: ImageSize

    @property
    def scale(self) -> NDArray[np.float64]:
        """Pixels of this picture for one of the frame, along x and y."""
        return np.array(
            [
                self.grey.shape[1] / self.image.width_px,
                self.grey.shape[0] / self.image.height_px,
            ]
        )

    def arrays(self) -> Iterator[NDArray[np.generic]]:
        """What it holds in memory; a small frame's colours are the frame itself."""
        yield self.colours
        yield self.grey

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> SmallPicture:
        """Scale a frame (height, width, 3), uint8, down to `LONGEST_PX`; never up."""
        height, width = pixels.shape[:2]
        scale = min(1.0, LONGEST_PX / max(height, width))
        size = (max(16, round(width * scale)), max(16, round(height * scale)))
        colours = pixels
        if size != (width, height):
            colours = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
        grey = np.asarray(cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY), np.uint8)
        return cls(colours, grey, ImageSize(width, height))


@dataclass(frozen=True, slots=True, eq=False)
class Move:
    """Where an object went from one frame to the next.

    Attributes:
        matrix: Shape (2, 3), float64: from a position in the frame before to one in this frame.
        agreement: Share of the flow inside the object that the matrix explains, 0 to 1.
    """

    matrix: NDArray[np.float64]
    agreement: float

    def apply(self, box: Box) -> Box:
        """The box around a box that is moved."""
        corners = np.array(
            [
                [box.x_min, box.y_min],
                [box.x_max, box.y_min],
                [box.x_min, box.y_max],
                [box.x_max, box.y_max],
            ]
        )
        moved = corners @ self.matrix[:, :2].T + self.matrix[:, 2]
        low, high = moved.min(0), moved.max(0)
        return Box(float(low[0]), float(low[1]), float(high[0]), float(high[1]))

    def after(self, earlier: Move) -> Move:
        """The earlier move and then this one, with this one's agreement."""
        turn = self.matrix[:, :2] @ earlier.matrix[:, :2]
        shift = self.matrix[:, :2] @ earlier.matrix[:, 2] + self.matrix[:, 2]
        return Move(np.column_stack([turn, shift]), self.agreement)


STILL = Move(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), 0.0)
"""No move, and nothing that says so."""


class Motion:
    """The flow between two frames."""

    def __init__(self, before: SmallPicture, now: SmallPicture) -> None:
        flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._now = now
        # OpenCV takes None for "no flow to begin with", which its types do not say.
        self._flow = np.asarray(flow.calc(before.grey, now.grey, None), np.float32)  # type: ignore[call-overload]

    def of(self, logits: MaskLogits) -> Move:
        """The move of what a mask of the frame before shows."""
        scale = self._now.scale
        window = logits.window
        rows, columns = self._flow.shape[:2]
        smaller = Box(
            window.x_min * scale[0],
            window.y_min * scale[1],
            window.x_max * scale[0],
            window.y_max * scale[1],
        )
        inside = MaskLogits(logits.values, smaller).to_bitmap(ImageSize(columns, rows))
        found = np.argwhere(inside)
        if len(found) < _FEWEST_SAMPLES:
            return STILL
        found = found[:: max(1, len(found) // _MOST_SAMPLES)]
        starts = (found[:, ::-1] + 0.5) / scale
        ends = starts + self._flow[found[:, 0], found[:, 1]] / scale
        return _agreed(starts, ends, _TOLERANCE_PX / float(scale.min()))


def _agreed(starts: NDArray[np.float64], ends: NDArray[np.float64], tolerance: float) -> Move:
    # The types do not say that there may be no such matrix.
    matrix, inliers = cv2.estimateAffinePartial2D(
        starts, ends, method=cv2.RANSAC, ransacReprojThreshold=tolerance
    )
    agreement = float(np.mean(inliers))
    growth = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if not 1 / _LARGEST_GROWTH <= growth <= _LARGEST_GROWTH or agreement < 0.3:
        shift = np.median(ends - starts, axis=0)
        matrix = np.column_stack([np.eye(2), shift])
    return Move(np.asarray(matrix, np.float64), agreement)


def moved(logits: MaskLogits, move: Move, window: Box, size: int) -> MaskLogits:
    """A mask after a move, on a grid of (size, size) over a window of the new frame."""
    rows, columns = logits.values.shape
    step = np.array([window.width / size, window.height / size])
    cell = np.array([logits.window.width / columns, logits.window.height / rows])
    turn = np.linalg.inv(move.matrix[:, :2])
    # Cell of the new grid -> position now -> position before -> cell of the old grid.
    start = turn @ (np.array([window.x_min, window.y_min]) + 0.5 * step - move.matrix[:, 2])
    start = (start - np.array([logits.window.x_min, logits.window.y_min])) / cell - 0.5
    warp = np.column_stack([turn * step / cell[:, None], start])
    values = cv2.warpAffine(
        logits.values,
        warp,
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=OUTSIDE,
    )
    return MaskLogits(np.asarray(values, np.float32), window)
