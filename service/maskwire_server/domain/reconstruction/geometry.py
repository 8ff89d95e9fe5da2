"""Rotations, poses, cameras, meshes and splats: plain values in the frames of this package."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Quaternion:
    """A unit quaternion x·i + y·j + z·k + w that rotates column vectors: p' = q p q*."""

    x: float
    y: float
    z: float
    w: float


@dataclass(frozen=True, slots=True)
class Pose:
    """From object to camera frame: p_camera = R(rotation) · (scale · p_object) + translation.

    Attributes:
        scale: Shape (3,), float64, above 0: along each axis of the object; equal for engines that
            do not distort.
        rotation: The rotation.
        translation: Shape (3,), float64: the object frame's origin in the camera frame.
    """

    scale: NDArray[np.float64]
    rotation: Quaternion
    translation: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Intrinsics:
    """A pinhole camera without distortion, in pixels of the image frame (pixel centres at +0.5)."""

    focal_length_x_px: float
    focal_length_y_px: float
    principal_point_x_px: float
    principal_point_y_px: float


@dataclass(frozen=True, slots=True)
class Mesh:
    """A triangle mesh.

    Attributes:
        vertices: Shape (n, 3), float32.
        faces: Shape (m, 3), int32, indices into the vertices, counter-clockwise from outside.
        texture_coordinates: Shape (n, 2), float32, u right and v DOWN from the texture's top left
            corner, as glTF has it; None for a mesh without a texture.
        texture: Shape (height, width, 3), uint8, sRGB; None as above.
        vertex_colors: Shape (n, 3), uint8, sRGB; None where there is a texture or no colour.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    texture_coordinates: NDArray[np.float32] | None = None
    texture: NDArray[np.uint8] | None = None
    vertex_colors: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True)
class Splats:
    """Gaussian splats of degree 0.

    Attributes:
        positions: Shape (n, 3), float32.
        scales: Shape (n, 3), float32: standard deviations along the splat's own axes, above 0.
        rotations: Shape (n, 4), float32: unit quaternions x, y, z, w from the splat's axes.
        opacities: Shape (n,), float32, in (0, 1).
        colors: Shape (n, 3), float32, 0 to 1.
    """

    positions: NDArray[np.float32]
    scales: NDArray[np.float32]
    rotations: NDArray[np.float32]
    opacities: NDArray[np.float32]
    colors: NDArray[np.float32]
