"""The points of a point map that belong to an object, and the nearest one to any position.

Points of a mask's rim that lie far behind the object, and points that fly between two depths, are
no part of it and count as unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from maskwire_server.domain.reconstruction.geometry import Intrinsics

from .grid import Grid

_JUMP = 0.5
"""A jump in depth between neighbours, as a share of the object's lateral size."""

_SAMPLES_PER_NODE = 4
"""Pixels looked at along each side of a cell."""

_FEW = 256
_BEYOND = 1e30  # deeper than any point; twice it is still a float32
_AROUND = np.ones((3, 3), np.uint8)


def shifted(
    points: NDArray[np.float64], offsets_px: NDArray[np.float64], intrinsics: Intrinsics
) -> NDArray[np.float64]:
    """Return points, shape (n, 3), moved at their depth by pixels of the image, shape (n, 2)."""
    moved = points.copy()
    moved[:, 0] += points[:, 2] * offsets_px[:, 0] / intrinsics.focal_length_x_px
    moved[:, 1] += points[:, 2] * offsets_px[:, 1] / intrinsics.focal_length_y_px
    return moved


@dataclass(frozen=True, slots=True)
class KnownPoints:
    """Known points of one object by the nearest pixel.

    Attributes:
        origin: Image position of the centre of the first pixel that is looked at, x and y.
        step_px: Pixels from one that is looked at to the next.
        nearest: Shape (rows, columns), int32: the number of the nearest known point.
        points: Shape (k, 3), float64, in the camera frame.
        positions: Shape (k, 2), float64, the centres of their pixels in the image frame.
    """

    origin: tuple[float, float]
    step_px: int
    nearest: NDArray[np.int32]
    points: NDArray[np.float64]
    positions: NDArray[np.float64]

    def at_nodes(
        self, positions: NDArray[np.float64], intrinsics: Intrinsics, stride_px: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the points of nodes, NaN where unknown, and the positions that they are seen at.

        A node takes the point of its own pixel as it is, and is then seen there; else the depth of
        the nearest one in its cell.
        """
        numbers = self._numbers(positions)
        offsets = positions - self.positions[numbers]
        distance = np.abs(offsets).max(axis=1)
        own = distance <= self.step_px / 2 + 1e-9
        points = np.where(
            own[:, None], self.points[numbers], shifted(self.points[numbers], offsets, intrinsics)
        )
        points[distance > max(stride_px, self.step_px) / 2 + 1e-9] = np.nan
        return points, np.where(own[:, None], self.positions[numbers], positions)

    def near(
        self, positions: NDArray[np.float64], intrinsics: Intrinsics, reach_px: float
    ) -> NDArray[np.float64]:
        """Return the points at positions, as deep as the nearest; NaN where that is too far."""
        numbers = self._numbers(positions)
        offsets = positions - self.positions[numbers]
        points = shifted(self.points[numbers], offsets, intrinsics)
        points[np.hypot(offsets[:, 0], offsets[:, 1]) > max(reach_px, self.step_px)] = np.nan
        return points

    def _numbers(self, positions: NDArray[np.float64]) -> NDArray[np.int32]:
        rows, columns = self.nearest.shape
        x = np.floor((positions[:, 0] - self.origin[0]) / self.step_px + 0.5).astype(np.intp)
        y = np.floor((positions[:, 1] - self.origin[1]) / self.step_px + 0.5).astype(np.intp)
        return np.asarray(self.nearest[np.clip(y, 0, rows - 1), np.clip(x, 0, columns - 1)])


def find_known_points(
    grid: Grid, mask: NDArray[np.bool_], points: NDArray[np.float32], intrinsics: Intrinsics
) -> KnownPoints | None:
    """Look up the points of an object; None where not one is known.

    Args:
        grid: The object's grid.
        mask: Shape (height, width), bool.
        points: Shape (height, width, 3), float32, NaN where unknown.
        intrinsics: The camera.
    """
    step = max(1, int(grid.stride_px / _SAMPLES_PER_NODE))
    found = _look_up(grid, mask, points, intrinsics, step)
    if step > 1 and (found is None or len(found.points) < _FEW):
        return _look_up(grid, mask, points, intrinsics, 1)  # sparse: none is to be missed
    return found


def _look_up(
    grid: Grid,
    mask: NDArray[np.bool_],
    points: NDArray[np.float32],
    intrinsics: Intrinsics,
    step: int,
) -> KnownPoints | None:
    # Boxes smaller than a step are looked at in full, as step is 1 for all boxes below that.
    first = step // 2
    box = grid.box
    own = np.asarray(box.crop(mask))[first::step, first::step]
    values = np.asarray(box.crop(points))[first::step, first::step]
    known = own & np.isfinite(values).all(axis=2) & (values[..., 2] > 0)
    if not known.any():
        return None
    size_px = max(box.width, box.height)
    focal_length = (intrinsics.focal_length_x_px + intrinsics.focal_length_y_px) / 2
    jump = _JUMP * size_px / focal_length * float(np.median(values[known][:, 2]))
    known = _without_flying(known, values[..., 2], jump)
    rows, columns = np.nonzero(known)
    origin = (box.left + first + 0.5, box.top + first + 0.5)
    positions = np.stack([columns * step + origin[0], rows * step + origin[1]], axis=1)
    return KnownPoints(origin, step, _nearest(known), values[known].astype(np.float64), positions)


def _without_flying(
    known: NDArray[np.bool_], depths: NDArray[np.float32], jump: float
) -> NDArray[np.bool_]:
    """Return the known pixels without those beside a jump that no square of 3 × 3 supports."""
    low, high = np.where(known, depths, -_BEYOND), np.where(known, depths, _BEYOND)
    farthest = cv2.dilate(low.astype(np.float32), _AROUND, borderValue=-_BEYOND)
    nearest = cv2.erode(high.astype(np.float32), _AROUND, borderValue=_BEYOND)
    jumps = (farthest - nearest) > jump
    if not jumps.any():
        return known
    whole = cv2.erode(known.astype(np.uint8), _AROUND, borderValue=0).astype(np.bool_)
    supported = cv2.dilate((whole & ~jumps).astype(np.uint8), _AROUND).astype(np.bool_)
    beside = cv2.dilate(jumps.astype(np.uint8), _AROUND).astype(np.bool_)
    kept = known & (supported | ~beside)
    return kept if kept.any() else known


def _nearest(known: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return for each pixel the number, in reading order, of the nearest known one."""
    _, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    numbers = np.zeros(int(labels.max()) + 1, np.int32)
    numbers[labels[known]] = np.arange(int(known.sum()), dtype=np.int32)
    return np.asarray(numbers[labels], np.int32)
