"""Gaussian splats over the surface of a mesh: flat discs that lie on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskwire_server.domain.reconstruction.geometry import Mesh, Splats

from .textures import Texture

_OPACITY = 0.95
_SPREAD = 0.7  # deviation along the surface, in distances of neighbouring splats
_FLATNESS = 0.1  # deviation across the surface, as a share of that along it
_SPLATS_PER_FACE = 2


def scatter_splats(mesh: Mesh, texture: Texture, most: int, seed: tuple[int, ...]) -> Splats:
    """Scatter splats over a mesh, as dense everywhere.

    Args:
        mesh: The mesh, with texture coordinates.
        texture: Its texture.
        most: Most splats; a mesh of few faces gets fewer.
        seed: Where they lie exactly.
    """
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    crosses = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    areas = np.linalg.norm(crosses, axis=1) / 2
    count = min(most, _SPLATS_PER_FACE * len(mesh.faces))
    random = np.random.default_rng(seed)
    # One splat in each of `count` equal parts of the surface: no clumps, no gaps.
    reached = np.cumsum(areas)
    targets = (np.arange(count) + random.random(count)) / count * reached[-1]
    faces = np.minimum(np.searchsorted(reached, targets, side="right"), len(areas) - 1)
    weights = _barycentric(random.random((count, 2)))
    positions = np.einsum("nc,ncd->nd", weights, corners[faces])
    assert mesh.texture_coordinates is not None
    coordinates = np.einsum("nc,ncd->nd", weights, mesh.texture_coordinates[mesh.faces[faces]])
    along = _SPREAD * np.sqrt(reached[-1] / count)
    scales = np.tile(np.array([along, along, along * _FLATNESS], np.float32), (count, 1))
    normals = crosses[faces] / np.maximum(2 * areas[faces], 1e-300)[:, None]
    return Splats(
        positions.astype(np.float32),
        scales,
        _turning_z_to(normals),
        np.full(count, _OPACITY, np.float32),
        texture.colors(coordinates),
    )


def _barycentric(random: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights of a triangle's corners, uniform over the triangle, from uniform numbers."""
    root = np.sqrt(random[:, 0])
    return np.stack([1 - root, root * (1 - random[:, 1]), root * random[:, 1]], axis=1)


def _turning_z_to(normals: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the shortest rotations that take the z axis to normals, shape (n, 4), x, y, z, w."""
    x, y, z = normals.T
    quaternions = np.stack([-y, x, np.zeros_like(x), 1 + z], axis=1)
    quaternions[z < -1 + 1e-9] = [1.0, 0.0, 0.0, 0.0]  # straight back: any half turn will do
    return np.asarray(quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True), np.float32)
