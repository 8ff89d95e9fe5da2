"""Where meshes stand in glTF's world, on cases computed by hand."""

from __future__ import annotations

import numpy as np

from maskwire_server.domain.reconstruction.formats.scene import (
    GLTF_FROM_CAMERA,
    body_meshes,
    object_meshes,
    pose_matrix,
    unplaced,
)
from maskwire_server.domain.reconstruction.geometry import Pose
from tests.support.reconstructed_shapes import HALF_TURN_X, QUARTER_TURN_X, body, box, scene_of


def test_a_pose_scales_then_rotates_then_moves() -> None:
    pose = Pose(np.array([1.0, 2.0, 3.0]), QUARTER_TURN_X, np.array([10.0, 20.0, 30.0]))
    # (1, 1, 1) is scaled to (1, 2, 3); a quarter turn about x brings y to z and z to -y.
    assert np.allclose(pose_matrix(pose) @ [1, 1, 1, 1], [11, 17, 32, 1])


def test_glTF_has_y_up_and_z_towards_the_camera() -> None:  # noqa: N802, the format's own name
    assert np.array_equal(GLTF_FROM_CAMERA @ [1, 2, 3, 1], [1, -2, -3, 1])
    assert np.linalg.det(GLTF_FROM_CAMERA) == 1


def test_an_upright_object_is_only_moved() -> None:
    # In the camera frame it is turned upside down about x, because y is down there.
    scene = scene_of(box(), box())
    assert scene.objects[1].pose.rotation == HALF_TURN_X
    placed = object_meshes(scene)
    assert [one.name for one in placed] == ["object_000", "object_001"]
    expected = np.diag([0.5, 0.5, 0.5, 1.0])
    expected[:3, 3] = (0.6, 0.0, -4.0)
    assert np.allclose(placed[1].to_world, expected)


def test_people_are_in_the_camera_frame_already() -> None:
    placed = body_meshes([body(0), body(1)])
    assert [one.name for one in placed] == ["person_000", "person_001"]
    assert np.array_equal(placed[0].to_world, np.diag([1.0, -1.0, -1.0, 1.0]))


def test_an_object_by_itself_is_not_transformed() -> None:
    assert np.array_equal(unplaced(box(), "object_000").to_world, np.eye(4))
