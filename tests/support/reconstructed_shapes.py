"""Shapes that stand in for what a reconstruction makes: meshes, splats, whole scenes."""

from __future__ import annotations

import numpy as np
import trimesh

from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.reconstruction.engine import (
    Alignment,
    BodyModel,
    ObjectModel,
    ReconstructedScene,
)
from maskwire_server.domain.reconstruction.formats.artifacts import ResultDetails
from maskwire_server.domain.reconstruction.geometry import (
    Intrinsics,
    Mesh,
    Pose,
    Quaternion,
    Splats,
)
from maskwire_server.domain.segmentation import ImageInfo

QUARTER_TURN_X = Quaternion(np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5))
HALF_TURN_X = Quaternion(1.0, 0.0, 0.0, 0.0)


def sphere(subdivisions: int = 3) -> Mesh:
    """A sphere of diameter 1."""
    return _mesh(trimesh.creation.icosphere(subdivisions=subdivisions, radius=0.5))


def box() -> Mesh:
    """A cube of side 1."""
    return _mesh(trimesh.creation.box())


def blob(seed: int, subdivisions: int = 4) -> Mesh:
    """A random smooth lump within the cube of an object frame."""
    directions = trimesh.creation.icosphere(subdivisions=subdivisions)
    bumps = np.random.default_rng(seed).normal(size=(6, 3)) * 2
    radii = 1 + 0.3 * np.sin(directions.vertices @ bumps.T).mean(axis=1)
    directions.vertices *= (0.5 * radii / radii.max())[:, None]
    return _mesh(directions)


def triangle() -> Mesh:
    """One triangle."""
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=np.float32)
    return Mesh(vertices, np.array([[0, 1, 2]], dtype=np.int32))


def quarters(side: int = 64) -> np.ndarray:
    """A picture that shows how it is turned: red top left, green top right, blue bottom left."""
    picture = np.zeros((side, side, 3), dtype=np.uint8)
    half = side // 2
    picture[:half, :half] = (220, 30, 30)
    picture[:half, half:] = (30, 200, 30)
    picture[half:, :half] = (30, 30, 220)
    picture[half:, half:] = (230, 210, 40)
    return picture


def textured(mesh: Mesh, texture: np.ndarray) -> Mesh:
    """Project a picture on a mesh of an object frame from its front."""
    u, v = mesh.vertices[:, 0] + 0.5, 0.5 - mesh.vertices[:, 1]
    coordinates = np.column_stack([u, v]).astype(np.float32)
    return Mesh(mesh.vertices, mesh.faces, coordinates, texture)


def coloured(mesh: Mesh) -> Mesh:
    """Give a mesh colours that tell places apart."""
    colors = np.clip((mesh.vertices + 0.5) * 255, 0, 255).astype(np.uint8)
    return Mesh(mesh.vertices, mesh.faces, vertex_colors=colors)


def splats_of(count: int, seed: int = 0) -> Splats:
    """Random splats within the cube of an object frame."""
    random = np.random.default_rng(seed)
    rotations = random.normal(size=(count, 4))
    rotations /= np.linalg.norm(rotations, axis=1, keepdims=True)
    return Splats(
        positions=random.uniform(-0.5, 0.5, (count, 3)).astype(np.float32),
        scales=random.uniform(0.001, 0.05, (count, 3)).astype(np.float32),
        rotations=rotations.astype(np.float32),
        opacities=random.uniform(0.05, 0.95, count).astype(np.float32),
        colors=random.uniform(0, 1, (count, 3)).astype(np.float32),
    )


def scene_of(*meshes: Mesh, splat_count: int = 50) -> ReconstructedScene:
    """A scene of objects side by side, upright, 4 in front of the camera."""
    middle = (len(meshes) - 1) / 2
    objects = tuple(
        ObjectModel(
            mesh,
            splats_of(splat_count, seed=index),
            Pose(
                scale=np.full(3, 0.5 + 0.5 * (index == 0)),
                rotation=HALF_TURN_X,
                translation=np.array([(index - middle) * 1.2, 0.0, 4.0]),
            ),
        )
        for index, mesh in enumerate(meshes)
    )
    return ReconstructedScene(objects, Intrinsics(500.0, 510.0, 320.0, 240.0), True, np.eye(4))


def body(seed: int = 0) -> BodyModel:
    """A person, as far as files go."""
    random = np.random.default_rng(seed)
    mesh = blob(seed)
    placed = Mesh((mesh.vertices * [0.6, 1.8, 0.4] + [0, 0, 3]).astype(np.float32), mesh.faces)
    return BodyModel(
        box=Box(10.0, 20.0, 110.0, 220.0),
        focal_length_px=800.0,
        camera_translation=np.array([0.0, 0.1, 3.0]),
        keypoints_image=random.uniform(0, 200, (70, 2)),
        keypoints_camera=random.uniform(-1, 4, (70, 3)),
        mesh=placed,
        alignment=Alignment(1.25, np.array([0.0, 0.0, 0.5]), 790.0, 1234, 567),
    )


def details(count: int) -> ResultDetails:
    """What else a result's metadata says, for so many objects or people."""
    return ResultDetails(
        model="inflate",
        checkpoint_digest="",
        seed=7,
        image=ImageInfo("sha256:" + "ab" * 32, ImageSize(640, 480), "image/jpeg"),
        boxes=tuple(Box(10.0 * index, 0.0, 10.0 * index + 8.5, 20.0) for index in range(count)),
    )


def _mesh(shape: trimesh.Trimesh) -> Mesh:
    return Mesh(np.array(shape.vertices, dtype=np.float32), np.array(shape.faces, dtype=np.int32))
