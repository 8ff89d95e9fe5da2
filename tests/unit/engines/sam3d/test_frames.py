"""The way from SAM 3D's frames to the contract's, on cases computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.reconstruction.camera import project
from maskwire_server.domain.reconstruction.formats.scene import pose_matrix
from maskwire_server.domain.reconstruction.geometry import Intrinsics
from maskwire_server.domain.reconstruction.rotations import matrices_from_quaternions
from maskwire_server.engines.sam3d_frames import (
    body_intrinsics,
    depth_unit,
    layout_intrinsics,
    object_mesh,
    object_pose,
    object_splats,
    scaled_pose,
    turn_camera_frame,
)

HALF = math.sqrt(0.5)
ASYMMETRIC = np.array([0.1, 0.2, 0.4])  # x right, y up, z to the viewer of the object frame


def upstream_point(local: np.ndarray, wxyz: tuple[float, ...], scale: float, translation: object):
    """Place a point as upstream does: row vectors, PyTorch3D's formula for the matrix."""
    w, x, y, z = wxyz
    matrix = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    return (local * scale) @ matrix + np.asarray(translation)


def placed(point: np.ndarray, wxyz: tuple[float, ...], scale: float = 1.0, translation=(0, 0, 0)):
    pose = object_pose(np.array(wxyz), np.array(translation, float), np.full(3, scale))
    return (pose_matrix(pose) @ np.append(point, 1.0))[:3]


# The object frame's (x, y, z) is the local frame's (x, -z, y): [0.1, 0.2, 0.4] is [0.1, -0.4, 0.2].
# Upstream's camera has x left and y up, ours x right and y down.
@pytest.mark.parametrize(
    ("wxyz", "expected"),
    [
        # [0.1, -0.4, 0.2] as it is; x and y change sign.
        ((1.0, 0.0, 0.0, 0.0), [-0.1, 0.4, 0.2]),
        # About x: R = [[1, 0, 0], [0, 0, -1], [0, 1, 0]]; the row times R is [0.1, 0.2, 0.4].
        ((HALF, HALF, 0.0, 0.0), [-0.1, -0.2, 0.4]),
        # About y: R = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]; the row times R is [-0.2, -0.4, 0.1].
        ((HALF, 0.0, HALF, 0.0), [0.2, 0.4, 0.1]),
        # About z: R = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]; the row times R is [-0.4, -0.1, 0.2].
        ((HALF, 0.0, 0.0, HALF), [0.4, 0.1, 0.2]),
        # Half a turn about y + z: x to -x, y to z, z to y: [-0.1, 0.2, -0.4]. Seen from its front:
        # right stays right, up is up (y down), what is towards the viewer is nearer.
        ((0.0, 0.0, HALF, HALF), [0.1, -0.2, -0.4]),
    ],
)
def test_quarter_turns_by_hand(wxyz, expected):
    assert placed(ASYMMETRIC, wxyz) == pytest.approx(expected, abs=1e-12)


def test_scale_and_translation_by_hand():
    # Scaled by 2, [-0.1, 0.4, 0.2] is [-0.2, 0.8, 0.4]; [1, 2, 5] of upstream's is [-1, -2, 5].
    assert placed(ASYMMETRIC, (1.0, 0.0, 0.0, 0.0), 2.0, (1.0, 2.0, 5.0)) == pytest.approx(
        [-1.2, -1.2, 5.4], abs=1e-12
    )


def test_scales_that_differ_follow_their_axes():
    pose = object_pose(np.array([1.0, 0, 0, 0]), np.zeros(3), np.array([1.0, 2.0, 3.0]))
    assert pose.scale == pytest.approx([1.0, 3.0, 2.0])


def test_scales_that_float32_parts_become_one():
    pose = object_pose(np.array([1.0, 0, 0, 0]), np.zeros(3), np.array([1.0, 1.000001, 1.0]))
    assert np.ptp(pose.scale) == 0


numbers = st.floats(-1, 1)


@given(st.tuples(numbers, numbers, numbers, numbers).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_any_pose_puts_points_where_upstream_puts_them(quaternion):
    unit = tuple(np.array(quaternion) / np.linalg.norm(quaternion))
    local = np.array([ASYMMETRIC[0], -ASYMMETRIC[2], ASYMMETRIC[1]])
    theirs = upstream_point(local, unit, 1.7, (0.3, -0.4, 3.0))
    ours = placed(ASYMMETRIC, quaternion, 1.7, (0.3, -0.4, 3.0))
    assert ours == pytest.approx(theirs * [-1, -1, 1], abs=1e-9)


def test_a_projected_point_lands_where_upstreams_camera_puts_it():
    camera = Intrinsics(800.0, 800.0, 320.0, 240.0)
    wxyz, translation = (HALF, 0.0, HALF, 0.0), (0.5, 0.25, 4.0)
    local = np.array([ASYMMETRIC[0], -ASYMMETRIC[2], ASYMMETRIC[1]])
    x, y, z = upstream_point(local, wxyz, 1.0, translation)
    # PyTorch3D's screen: +x is to the left of the principal point, +y above it.
    theirs = [320 - 800 * x / z, 240 - 800 * y / z]
    ours = project(placed(ASYMMETRIC, wxyz, 1.0, translation)[None], camera)[0]
    assert ours == pytest.approx(theirs)


def test_turning_the_camera_frame_twice_changes_nothing():
    points = np.array([[[1.0, 2.0, 3.0], [np.nan, 0.0, np.inf]]], np.float32)
    turned = turn_camera_frame(points)
    assert turned[0, 0].tolist() == [-1.0, -2.0, 3.0]
    np.testing.assert_array_equal(turn_camera_frame(turned), points)


def splats(positions, rotation=(1.0, 0.0, 0.0, 0.0), scales=(0.01, 0.02, 0.03)):
    count = len(positions)
    return object_splats(
        np.array(positions),
        np.tile(scales, (count, 1)),
        np.tile(rotation, (count, 1)),
        np.full((count, 1), 0.25),
        np.tile([[[0.0, 1.0, -4.0]]], (count, 1, 1)),
    )


def test_splats_come_into_the_frame_of_the_mesh():
    local = np.array([[0.1, -0.4, 0.2]])
    glb = trimesh.Trimesh(
        # As upstream turns its mesh.
        vertices=np.vstack([local, [[0, 0, 0], [1, 0, 0]]]) @ [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
        faces=[[0, 1, 2]],
        process=False,
    )
    assert splats(local).positions[0] == pytest.approx(ASYMMETRIC, abs=1e-7)
    assert object_mesh(glb).vertices[0] == pytest.approx(ASYMMETRIC, abs=1e-7)


@pytest.mark.parametrize(
    "wxyz", [(1.0, 0.0, 0.0, 0.0), (HALF, HALF, 0.0, 0.0), (0.5, 0.5, -0.5, 0.5)]
)
def test_covariances_turn_with_the_mesh(wxyz):
    turned = splats([[0.0, 0.0, 0.0]], wxyz)
    axes = matrices_from_quaternions([[wxyz[1], wxyz[2], wxyz[3], wxyz[0]]])[0]
    theirs = axes @ np.diag([1e-4, 4e-4, 9e-4]) @ axes.T
    to_y_up = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    own = matrices_from_quaternions(turned.rotations)[0]
    ours = own @ np.diag(turned.scales[0].astype(float) ** 2) @ own.T
    np.testing.assert_allclose(ours, to_y_up @ theirs @ to_y_up.T, atol=1e-9)


def test_colours_and_opacities():
    one = splats([[0.0, 0.0, 0.0]])
    assert one.colors[0] == pytest.approx([0.5, 0.782095, 0.0], abs=1e-6)
    assert one.opacities[0] == pytest.approx(0.25)


def test_vertex_colours_of_a_mesh():
    glb = trimesh.Trimesh(
        vertices=np.eye(3), faces=[[0, 1, 2]], process=False, vertex_colors=[[0.0, 0.5, 1.0]] * 3
    )
    mesh = object_mesh(glb)
    assert mesh.vertex_colors is not None
    assert mesh.vertex_colors[0].tolist() == [0, 128, 255]
    assert mesh.faces.dtype == np.int32


def test_a_textures_v_goes_down():
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=Image.new("RGBA", (2, 3), (10, 20, 30, 255))
    )
    visual = trimesh.visual.TextureVisuals(uv=[[0, 1], [1, 1], [0, 0.25]], material=material)
    mesh = object_mesh(trimesh.Trimesh(np.eye(3), [[0, 1, 2]], visual=visual, process=False))
    assert mesh.texture_coordinates is not None
    assert mesh.texture is not None
    assert mesh.texture_coordinates.tolist() == [[0, 0], [1, 0], [0, 0.75]]
    assert mesh.texture.shape == (3, 2, 3)
    assert mesh.vertex_colors is None


def test_a_mesh_without_colours():
    mesh = object_mesh(trimesh.Trimesh(np.eye(3), [[0, 1, 2]], process=False))
    assert mesh.vertex_colors is None


def test_layout_camera_of_a_wide_image():
    # 400 x 200 in a square of 400: 100 rows of margin above.
    camera = layout_intrinsics(Intrinsics(600.0, 600.0, 210.0, 90.0), ImageSize(400, 200))
    assert min(camera[0, 0], camera[1, 1]) == pytest.approx(600 / 400)
    assert camera[0, 2] == pytest.approx(210 / 400)
    assert camera[1, 2] == pytest.approx(190 / 400)


def test_body_camera():
    camera = body_intrinsics(Intrinsics(600.0, 610.0, 210.0, 90.0))
    assert camera.tolist() == [[[600.0, 0.0, 210.0], [0.0, 610.0, 90.0], [0.0, 0.0, 1.0]]]


def test_depth_becomes_one():
    points = np.full((2, 2, 3), 4.0, np.float32)
    points[0, 0] = np.inf
    pose = object_pose(np.array([1.0, 0, 0, 0]), np.array([0.0, 0.0, 8.0]), np.full(3, 2.0))
    scaled = scaled_pose(pose, depth_unit(points))
    assert scaled.translation[2] == pytest.approx(2.0)
    assert scaled.scale == pytest.approx([0.5] * 3)
    assert depth_unit(np.full((1, 1, 3), np.nan, np.float32)) == 1.0
