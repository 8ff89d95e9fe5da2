"""Pinhole cameras: what is assumed of an unknown one, and the way from depths and points to one.

All in the camera frame of this package and the image frame, whose pixel centres lie at +0.5.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..geometry import ImageSize
from .geometry import Intrinsics

_LEAST_SPREAD = 1e-3  # of x/z or y/z over an image, below which no focal length can be told
_MOST_FITTED_POINTS = 100_000
_PLAUSIBLE_FOCAL_LENGTHS = (0.05, 50.0)  # times the image's diagonal


def default_intrinsics(size: ImageSize) -> Intrinsics:
    """Return the camera that is assumed where none is known.

    Its focal length is the image's diagonal (a diagonal angle of view of 53°, as of a normal lens),
    its principal point the image's centre.
    """
    diagonal = math.hypot(size.width_px, size.height_px)
    return Intrinsics(diagonal, diagonal, size.width_px / 2, size.height_px / 2)


def rays_through(positions: NDArray[np.float64], intrinsics: Intrinsics) -> NDArray[np.float64]:
    """Return the points of depth 1 that are seen at positions of the image.

    Args:
        positions: Shape (n, 2), in the image frame.
        intrinsics: The camera.

    Returns:
        Shape (n, 3), float64, z = 1.
    """
    x = (positions[:, 0] - intrinsics.principal_point_x_px) / intrinsics.focal_length_x_px
    y = (positions[:, 1] - intrinsics.principal_point_y_px) / intrinsics.focal_length_y_px
    return np.stack([x, y, np.ones_like(x)], axis=1)


def project(points: NDArray[np.float64], intrinsics: Intrinsics) -> NDArray[np.float64]:
    """Return where points of the camera frame, shape (n, 3), z > 0, appear: shape (n, 2)."""
    x = points[:, 0] / points[:, 2] * intrinsics.focal_length_x_px
    y = points[:, 1] / points[:, 2] * intrinsics.focal_length_y_px
    return np.stack(
        [x + intrinsics.principal_point_x_px, y + intrinsics.principal_point_y_px], axis=1
    )


def unproject_depth(depth: NDArray[np.float32], intrinsics: Intrinsics) -> NDArray[np.float32]:
    """Return the point map of a depth map.

    Args:
        depth: Shape (height, width), float32, z in metres, NaN where unknown.
        intrinsics: The camera.

    Returns:
        Shape (height, width, 3), float32, metres in the camera frame, NaN where unknown.
    """
    height, width = depth.shape
    columns = np.arange(width) + 0.5 - intrinsics.principal_point_x_px
    rows = np.arange(height) + 0.5 - intrinsics.principal_point_y_px
    points = np.empty((height, width, 3), np.float32)
    x_slopes = (columns / intrinsics.focal_length_x_px).astype(np.float32)
    y_slopes = (rows / intrinsics.focal_length_y_px).astype(np.float32)
    np.multiply(depth, x_slopes[None, :], out=points[..., 0])
    np.multiply(depth, y_slopes[:, None], out=points[..., 1])
    points[..., 2] = depth
    return points


def fit_intrinsics(points: NDArray[np.float32]) -> Intrinsics:
    """Return the pinhole camera that a point map was made with, by least squares.

    Where the points do not tell (too few, in a line, or not a pinhole's), the answer is
    `default_intrinsics`.

    Args:
        points: Shape (height, width, 3), float32, NaN where unknown.
    """
    height, width = points.shape[:2]
    size = ImageSize(width, height)
    assumed = default_intrinsics(size)
    step = max(1, math.ceil(math.sqrt(size.pixels / _MOST_FITTED_POINTS)))
    some = points[::step, ::step]
    if (np.isfinite(some).all(axis=2) & (some[..., 2] > 0)).sum() < _MOST_FITTED_POINTS // 100:
        some, step = points, 1  # sparse: none is to be missed
    rows, columns = np.nonzero(np.isfinite(some).all(axis=2) & (some[..., 2] > 0))
    chosen = some[rows, columns].astype(np.float64)
    centres_x = columns.astype(np.float64) * step + 0.5
    centres_y = rows.astype(np.float64) * step + 0.5
    x = _fit_axis(chosen[:, 0] / chosen[:, 2], centres_x, assumed.focal_length_x_px)
    y = _fit_axis(chosen[:, 1] / chosen[:, 2], centres_y, assumed.focal_length_y_px)
    if x is None or y is None:
        return assumed
    return Intrinsics(x[0], y[0], x[1], y[1])


def _fit_axis(
    slopes: NDArray[np.float64], positions: NDArray[np.float64], diagonal: float
) -> tuple[float, float] | None:
    """Return focal length and principal point along an axis: positions = f · slopes + c."""
    if len(slopes) < 2 or float(np.ptp(slopes)) < _LEAST_SPREAD:
        return None
    middle = slopes.mean()
    deviations = slopes - middle
    focal_length = float(deviations @ (positions - positions.mean()) / (deviations @ deviations))
    low, high = _PLAUSIBLE_FOCAL_LENGTHS
    if not low * diagonal <= focal_length <= high * diagonal:
        return None
    return focal_length, float(positions.mean() - focal_length * middle)
