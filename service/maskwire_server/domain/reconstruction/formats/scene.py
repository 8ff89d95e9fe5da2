"""Where meshes stand in a glTF scene.

glTF's world is right-handed with y up. That of a scene here is the camera frame turned by half a
turn about x: x right, y up, z towards the camera, its origin in the camera. The object frame is
like glTF's own already, so that an object by itself is not transformed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..engine import BodyModel, ReconstructedScene
from ..geometry import Mesh, Pose
from ..rotations import rotation_matrix

GLTF_FROM_CAMERA: NDArray[np.float64] = np.diag([1.0, -1.0, -1.0, 1.0])
"""Shape (4, 4), from the camera frame to glTF's world, for column vectors; its own inverse."""
GLTF_FROM_CAMERA.flags.writeable = False


@dataclass(frozen=True, slots=True)
class PlacedMesh:
    """A mesh and where it stands.

    Attributes:
        mesh: The mesh, in a frame of its own.
        to_world: Shape (4, 4), float64: from that frame to glTF's world, for column vectors; a
            rotation of scaled axes, then a translation.
        name: Name of the node.
    """

    mesh: Mesh
    to_world: NDArray[np.float64]
    name: str


def object_name(index: int) -> str:
    """Return what an object is called in files and their names."""
    return f"object_{index:03d}"


def body_name(index: int) -> str:
    """Return what a person is called in files and their names."""
    return f"person_{index:03d}"


def pose_matrix(pose: Pose) -> NDArray[np.float64]:
    """Return the transform of a pose: shape (4, 4), from object to camera frame, for columns."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_matrix(pose.rotation) * pose.scale
    matrix[:3, 3] = pose.translation
    return matrix


def object_meshes(scene: ReconstructedScene) -> list[PlacedMesh]:
    """Place the objects of a scene in glTF's world."""
    return [
        PlacedMesh(one.mesh, GLTF_FROM_CAMERA @ pose_matrix(one.pose), object_name(index))
        for index, one in enumerate(scene.objects)
    ]


def body_meshes(bodies: Sequence[BodyModel]) -> list[PlacedMesh]:
    """Place people, whose vertices are in the camera frame, in glTF's world."""
    return [
        PlacedMesh(body.mesh, GLTF_FROM_CAMERA, body_name(index))
        for index, body in enumerate(bodies)
    ]


def unplaced(mesh: Mesh, name: str) -> PlacedMesh:
    """Return a mesh whose own frame is glTF's world."""
    return PlacedMesh(mesh, np.eye(4), name)
