"""What of a mesh a camera sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..geometry import ImageSize
from .camera import project
from .formats.rasterizer import rasterize
from .geometry import Intrinsics, Mesh


def visible_triangles(mesh: Mesh, camera: Intrinsics, size: ImageSize) -> NDArray[np.int32]:
    """Return which triangle is seen through each pixel.

    Args:
        mesh: A closed mesh in the camera frame; triangles that reach behind the camera are not
            drawn.
        camera: The camera.
        size: Size of its image.

    Returns:
        Shape (height, width), int32; -1 where there is none.
    """
    vertices = mesh.vertices.astype(np.float64)
    in_front = vertices[:, 2] > 0
    faces = np.flatnonzero(in_front[mesh.faces].all(axis=1))
    safe = np.where(in_front[:, None], vertices, [0.0, 0.0, 1.0])
    # 1 / z, unlike z, runs linearly across a triangle's picture, and grows towards the viewer.
    positions = np.column_stack([project(safe, camera), 1 / safe[:, 2]]).astype(np.float32)
    side = max(size.width_px, size.height_px)
    seen = rasterize(positions, mesh.faces[faces], side).triangles
    seen = seen[: size.height_px, : size.width_px]
    if not len(faces):
        return seen
    return np.where(seen >= 0, faces[seen], -1).astype(np.int32)
