"""Between the frames of SAM 3D and the contract's: pure functions over arrays.

SAM 3D Objects computes in PyTorch3D's camera frame (x left, y up, z into the scene) with row
vectors: p_camera = (scale · p_local) @ R(q) + translation. Its pose belongs to a local frame with z
up, in which its splats come; its meshes come turned to y up, which is our object frame.
SAM 3D Body computes in OpenCV's camera frame, ours. Read in facebookresearch/sam-3d-objects at
cf06676 and facebookresearch/sam-3d-body at b5c765a.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.reconstruction.formats.ply import SH_C0, place_splats
from maskwire_server.domain.reconstruction.geometry import (
    Intrinsics,
    Mesh,
    Pose,
    Quaternion,
    Splats,
)
from maskwire_server.domain.reconstruction.rotations import (
    conjugate,
    multiply,
    quaternion_from_wxyz_rows,
)

# PyTorch3D's camera frame and OpenCV's differ by half a turn about z, the local frame of the pose
# and ours by a quarter turn about x: (x, y, z) becomes (x, z, -y).
_CAMERA_TURN = Quaternion(0.0, 0.0, 1.0, 0.0)
_CAMERA_SIGNS = (-1.0, -1.0, 1.0)
_Z_UP_TO_Y_UP = Quaternion(-math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5))

_LEAST_OPACITY = 1e-6
_EQUAL_SCALES = 1e-4  # relative difference that float32 leaves between scales that are one


def turn_camera_frame(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return points of OpenCV's camera frame in PyTorch3D's, or the other way round.

    Args:
        points: Shape (..., 3); what is not finite stays so.
    """
    return points * np.array(_CAMERA_SIGNS, np.float32)


def object_pose(
    rotation: NDArray[np.floating[Any]],
    translation: NDArray[np.floating[Any]],
    scale: NDArray[np.floating[Any]],
) -> Pose:
    """Return the pose of our object frame in our camera frame.

    Args:
        rotation: Shape (4,): upstream's quaternion w, x, y, z, for row vectors.
        translation: Shape (3,): in PyTorch3D's camera frame.
        scale: Shape (3,): along the axes of the local frame with z up.
    """
    local_to_camera = multiply(_CAMERA_TURN, quaternion_from_wxyz_rows(rotation))
    turned = multiply(local_to_camera, conjugate(_Z_UP_TO_Y_UP))
    if turned.w < 0:
        turned = Quaternion(-turned.x, -turned.y, -turned.z, -turned.w)
    along_x, along_y, along_z = np.asarray(scale, np.float64)
    along = np.array([along_x, along_z, along_y])
    if np.ptp(along) <= _EQUAL_SCALES * along.max():
        along = np.full(3, along.mean())
    return Pose(along, turned, np.asarray(translation, np.float64) * _CAMERA_SIGNS)


def scaled_pose(pose: Pose, factor: float) -> Pose:
    """Return a pose in a camera frame whose unit is `1 / factor` of the given one's."""
    return Pose(pose.scale * factor, pose.rotation, pose.translation * factor)


def depth_unit(points: NDArray[np.float32]) -> float:
    """Return the factor that makes the median depth of a point map 1.

    Args:
        points: Shape (height, width, 3), in either camera frame; unknown ones are not finite.
    """
    depths = points[..., 2]
    known = depths[np.isfinite(depths) & (depths > 0)]
    return 1.0 / float(np.median(known)) if known.size else 1.0


def object_splats(
    positions: NDArray[np.floating[Any]],
    scales: NDArray[np.floating[Any]],
    rotations: NDArray[np.floating[Any]],
    opacities: NDArray[np.floating[Any]],
    harmonics: NDArray[np.floating[Any]],
) -> Splats:
    """Return upstream's splats in our object frame.

    Args:
        positions: Shape (n, 3), in the local frame with z up (`Gaussian.get_xyz`).
        scales: Shape (n, 3), standard deviations (`get_scaling`).
        rotations: Shape (n, 4): w, x, y, z, from the splat's axes (`get_rotation`).
        opacities: Shape (n, 1) (`get_opacity`).
        harmonics: Shape (n, 1, 3): coefficients of degree 0 (`get_features`).
    """
    colors = 0.5 + SH_C0 * np.asarray(harmonics, np.float64)[:, 0, :]
    visible = np.clip(np.asarray(opacities, np.float64)[:, 0], _LEAST_OPACITY, 1 - _LEAST_OPACITY)
    local = Splats(
        positions=np.asarray(positions, np.float32),
        scales=np.asarray(scales, np.float32),
        rotations=np.roll(np.asarray(rotations, np.float32), -1, axis=1),
        opacities=visible.astype(np.float32),
        colors=np.clip(colors, 0.0, 1.0).astype(np.float32),
    )
    return place_splats(local, Pose(np.ones(3), _Z_UP_TO_Y_UP, np.zeros(3)))


def object_mesh(glb: Any) -> Mesh:
    """Return upstream's mesh (`trimesh.Trimesh`, y up), with its texture or its colours."""
    vertices = np.asarray(glb.vertices, np.float32)
    faces = np.asarray(glb.faces, np.int32)
    if glb.visual.kind == "texture":
        material = glb.visual.material
        texture = np.asarray(material.baseColorTexture.convert("RGB"), np.uint8)
        coordinates = np.asarray(glb.visual.uv, np.float32).copy()
        coordinates[:, 1] = 1.0 - coordinates[:, 1]  # trimesh counts v from the bottom
        return Mesh(vertices, faces, coordinates, texture)
    colors = np.asarray(glb.visual.vertex_colors, np.uint8)[:, :3] if glb.visual.defined else None
    return Mesh(vertices, faces, vertex_colors=colors)


def layout_intrinsics(intrinsics: Intrinsics, size: ImageSize) -> NDArray[np.float32]:
    """Return a camera as the pipeline's layout stage takes it.

    That stage works on the image padded to a square about its centre: it takes the smaller of the
    two focal lengths, each divided by the image's side along its axis, and the principal point as
    it is, which therefore is one of the square.

    Returns:
        Shape (3, 3), float32.
    """
    side = max(size.width_px, size.height_px)
    margin_x, margin_y = (side - size.width_px) / 2, (side - size.height_px) / 2
    return np.array(
        [
            [
                intrinsics.focal_length_x_px / size.width_px,
                0.0,
                (intrinsics.principal_point_x_px + margin_x) / side,
            ],
            [
                0.0,
                intrinsics.focal_length_y_px / size.height_px,
                (intrinsics.principal_point_y_px + margin_y) / side,
            ],
            [0.0, 0.0, 1.0],
        ],
        np.float32,
    )


def body_intrinsics(intrinsics: Intrinsics) -> NDArray[np.float32]:
    """Return a camera as `process_one_image` takes it: shape (1, 3, 3), float32, in pixels."""
    return np.array(
        [
            [
                [intrinsics.focal_length_x_px, 0.0, intrinsics.principal_point_x_px],
                [0.0, intrinsics.focal_length_y_px, intrinsics.principal_point_y_px],
                [0.0, 0.0, 1.0],
            ]
        ],
        np.float32,
    )
