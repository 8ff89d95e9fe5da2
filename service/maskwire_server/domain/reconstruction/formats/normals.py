"""Smooth normals of meshes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def vertex_normals(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the normals at vertices, each the mean of its triangles' by area.

    Vertices at the same place, as along a seam of the texture, share a normal, so that no edge
    shows there.

    Args:
        vertices: Shape (n, 3), finite.
        faces: Shape (m, 3), counter-clockwise from outside.

    Returns:
        Shape (n, 3), float32, of length 1; (0, 0, 1) where no triangle gives a direction.
    """
    places = _places(vertices)
    corners = vertices.astype(np.float64)[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    owners = places[faces].ravel()
    count = int(places.max(initial=-1)) + 1
    sums = np.zeros((count, 3))
    for axis in range(3):
        weights = np.repeat(across[:, axis], 3)
        sums[:, axis] = np.bincount(owners, weights=weights, minlength=count)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    has_direction = lengths > 0
    normals = np.divide(sums, lengths, out=np.zeros_like(sums), where=has_direction)
    normals[~has_direction[:, 0]] = (0.0, 0.0, 1.0)
    result: NDArray[np.float32] = normals.astype(np.float32)[places]
    return result


def _places(vertices: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return a number for each vertex, the same for those at the same place: shape (n,)."""
    positive_zeros = np.ascontiguousarray(vertices + np.float32(0.0))
    rows = positive_zeros.view(np.dtype((np.void, positive_zeros.itemsize * 3)))[:, 0]
    return np.unique(rows, return_inverse=True)[1]
