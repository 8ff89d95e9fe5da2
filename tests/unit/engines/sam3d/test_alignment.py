"""Alignment of a body to a scene, on a box whose numbers can be told."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.reconstruction.geometry import Intrinsics, Mesh
from maskwire_server.domain.reconstruction.visibility import visible_triangles
from maskwire_server.engines.sam3d_body.alignment import align_to_points

SIZE = ImageSize(width_px=64, height_px=48)
FOCAL = 96.0


def box(depth: float = 4.0) -> Mesh:
    """A cube of 1 m whose front is at `depth`: 24 x 24 pixels at 4 m, around the middle."""
    cube = trimesh.creation.box()
    cube.apply_translation([0, 0, depth + 0.5])
    return Mesh(np.asarray(cube.vertices, np.float32), np.asarray(cube.faces, np.int32))


def test_only_the_front_is_seen():
    mesh = box()
    camera = Intrinsics(FOCAL, FOCAL, 32.0, 24.0)
    seen = visible_triangles(mesh, camera, SIZE)
    rows, columns = np.nonzero(seen >= 0)
    assert (columns.min(), columns.max()) == (20, 44 - 1)
    assert (rows.min(), rows.max()) == (12, 36 - 1)
    assert np.unique(mesh.vertices[mesh.faces[np.unique(seen[seen >= 0])]][..., 2]) == 4.0


def test_the_nearer_of_two_is_seen():
    far, near = box(8.0), box(4.0)
    count = len(near.vertices)
    both = Mesh(
        np.concatenate([near.vertices, far.vertices]),
        np.concatenate([near.faces, far.faces + count]),
    )
    turned = Mesh(both.vertices, both.faces[::-1].copy())
    camera = Intrinsics(FOCAL, FOCAL, 32.0, 24.0)
    for mesh in (both, turned):
        seen = visible_triangles(mesh, camera, SIZE)
        assert (mesh.faces[seen[seen >= 0]] < count).all()


def test_what_reaches_behind_the_camera_is_not_drawn():
    camera = Intrinsics(FOCAL, FOCAL, 32.0, 24.0)
    mesh = box(-0.5)
    assert not np.isin(visible_triangles(mesh, camera, SIZE), _behind(mesh)).any()


def _behind(mesh: Mesh) -> np.ndarray:
    return np.flatnonzero((mesh.vertices[mesh.faces][..., 2] <= 0).any(axis=1))


def front_points(depth: float) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE.height_px, : SIZE.width_px] + 0.5
    rays = np.stack([(columns - 32) / FOCAL, (rows - 24) / FOCAL, np.ones(rows.shape)], -1)
    return (rays * depth).astype(np.float32)


def test_scale_and_translation_by_hand():
    # The outermost of the 24 pixel centres are 23 pixels apart: 23 / 96 * 8 m at 8 m, where the
    # box has 1 m. x and y stay centred.
    alignment = align_to_points(box(), front_points(8.0), FOCAL, None)
    assert alignment is not None
    assert alignment.scale_factor == pytest.approx(23 / 12, rel=1e-6)
    assert alignment.translation == pytest.approx([0, 0, 1 / 3], abs=1e-5)
    assert alignment.cropped_vertex_count == 4
    assert alignment.target_point_count == 24 * 24
    assert alignment.focal_length_px == FOCAL


def test_a_mask_crops():
    mask = np.zeros((SIZE.height_px, SIZE.width_px), np.bool_)
    mask[:, :30] = True
    alignment = align_to_points(box(), front_points(8.0), FOCAL, mask)
    assert alignment is not None
    assert alignment.target_point_count == 24 * 10


@pytest.mark.parametrize(
    ("farthest", "kept"),
    [(8.5, 0.95), (14.0, 0.93), (24.0, 0.90)],
)
def test_points_that_flew_off_are_left_out(farthest, kept):
    points = front_points(8.0)
    points[..., 2] = np.linspace(8.0, farthest, points[..., 2].size).reshape(points.shape[:2])
    depths = points[12:36, 20:44, 2]
    span = float(np.ptp(depths))
    assert {0.95: span < 2, 0.93: 2 < span < 6, 0.90: span > 6}[kept]
    alignment = align_to_points(box(), points, FOCAL, None)
    assert alignment is not None
    assert alignment.target_point_count == pytest.approx(24 * 24 * kept, abs=1)


def test_unknown_points_take_no_part():
    points = front_points(8.0)
    points[:24] = np.nan
    alignment = align_to_points(box(), points, FOCAL, None)
    assert alignment is not None
    assert alignment.target_point_count == 24 * 12


def test_nothing_to_align_to():
    assert align_to_points(box(), np.full((48, 64, 3), np.nan, np.float32), FOCAL, None) is None
