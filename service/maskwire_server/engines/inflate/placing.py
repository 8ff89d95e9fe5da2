"""Where the surface's vertices lie in the camera frame.

Everything moves along the rays of the camera, so that the surface is seen exactly where the mask
is. Without points the mask's plane stands at depth 1 and the surface bulges to either side; with
points the front is theirs and the back lies behind it by what the mask's shape suggests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskwire_server.domain.reconstruction.camera import rays_through
from maskwire_server.domain.reconstruction.geometry import Intrinsics, Pose, Quaternion

from .grid import Grid
from .known_points import KnownPoints, shifted
from .poisson import fill_harmonically
from .sheets import Sheets

FACING_CAMERA = Quaternion(1.0, 0.0, 0.0, 0.0)
"""Half a turn about x, from y up and z towards the camera to y down and z into the scene."""

_ASSUMED_DEPTH = 1.0
_MOST_BULGE = 0.6  # of the depth; only a camera of more than 80° could need more


@dataclass(frozen=True, slots=True)
class PlacedVertices:
    """All vertices of the sewn sheets.

    Attributes:
        points: Shape (2n + m, 3), float64, in the camera frame.
        positions: Shape (2n + m, 2), float64, where the image shows their colour.
    """

    points: NDArray[np.float64]
    positions: NDArray[np.float64]


def place_in_units(
    grid: Grid, sheets: Sheets, heights_px: NDArray[np.float64], intrinsics: Intrinsics
) -> PlacedVertices:
    """Place a surface at a depth of about 1."""
    positions = grid.positions(sheets.nodes)
    bulge = _bulge(heights_px, intrinsics)
    rays = rays_through(positions, intrinsics)
    border = rays_through(sheets.border_positions, intrinsics)
    points = np.concatenate([rays / (1 + bulge[:, None]), border, rays / (1 - bulge[:, None])])
    return PlacedVertices(
        points * _ASSUMED_DEPTH, np.concatenate([positions, sheets.border_positions, positions])
    )


def place_on_points(
    grid: Grid,
    sheets: Sheets,
    heights_px: NDArray[np.float64],
    known: KnownPoints,
    intrinsics: Intrinsics,
) -> PlacedVertices:
    """Place a surface's front on known points, in metres.

    Where a node has no point, its depth follows from its neighbours': the inverse depth is
    harmonic, which continues planes exactly.
    """
    front, positions = known.at_nodes(grid.positions(sheets.nodes), intrinsics, grid.stride_px)
    depths = 1 / fill_harmonically(grid, 1 / front[:, 2])
    gaps = ~np.isfinite(front[:, 2])
    front[gaps] = rays_through(positions[gaps], intrinsics) * depths[gaps, None]
    border = known.near(sheets.border_positions, intrinsics, max(2.0, 1.5 * grid.stride_px))
    far = ~np.isfinite(border[:, 2])
    inner = np.searchsorted(sheets.nodes, sheets.border_inner[far])
    border[far] = shifted(front[inner], sheets.border_positions[far] - positions[inner], intrinsics)
    bulge = _bulge(heights_px, intrinsics)
    back = front * ((1 + bulge) / (1 - bulge))[:, None]
    return PlacedVertices(
        np.concatenate([front, border, back]),
        np.concatenate([positions, sheets.border_positions, positions]),
    )


def object_pose(points: NDArray[np.float64]) -> Pose:
    """Return the pose of the object frame around points of the camera frame, shape (n, 3).

    Its origin is the middle of their axis-aligned box, its scale the box's longest side, its axes
    the camera's turned to y up and z towards the camera.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    size = float((high - low).max())
    return Pose(np.full(3, size), FACING_CAMERA, (low + high) / 2)


def to_object_frame(points: NDArray[np.float64], pose: Pose) -> NDArray[np.float32]:
    """Return points of the camera frame in the object frame of a pose made by `object_pose`."""
    flipped = (points - pose.translation) * [1.0, -1.0, -1.0]
    return np.clip(flipped / pose.scale, -0.5, 0.5).astype(np.float32)


def _bulge(heights_px: NDArray[np.float64], intrinsics: Intrinsics) -> NDArray[np.float64]:
    """Return by which share of the border's 1 / depth a surface bulges to either side.

    The rays to a ball of unit border depth meet it where 1 / depth = 1 ± b / √(1 + r²), r being the
    slope of those that touch it and b² = r² - (slope of the ray)²; r is taken to be b, as it is in
    the ball's middle.
    """
    slopes = heights_px / math.sqrt(intrinsics.focal_length_x_px * intrinsics.focal_length_y_px)
    bulge = slopes / np.sqrt(1 + slopes**2)
    return np.asarray(bulge * min(1.0, _MOST_BULGE / float(bulge.max())), np.float64)
