"""Smooth normals."""

from __future__ import annotations

import numpy as np

from maskwire_server.domain.reconstruction.formats.normals import vertex_normals
from tests.support.reconstructed_shapes import sphere, triangle


def test_those_of_a_sphere_point_away_from_its_centre() -> None:
    mesh = sphere()
    normals = vertex_normals(mesh.vertices, mesh.faces)
    assert normals.dtype == np.float32
    assert np.abs(normals - mesh.vertices * 2).max() < 0.02
    assert np.abs(np.linalg.norm(normals, axis=1) - 1).max() < 1e-6


def test_a_counter_clockwise_triangle_faces_its_viewer() -> None:
    mesh = triangle()
    assert np.array_equal(vertex_normals(mesh.vertices, mesh.faces), [[0, 0, 1]] * 3)


def test_a_seam_does_not_show() -> None:
    # A ridge whose two sides have vertices of their own, at the same places but for a zero's sign.
    vertices = np.array(
        [[0, 0, 1], [0, 1, 1], [-1, 0, 0], [-0.0, 0, 1], [0, 1, 1], [1, 0, 0]], dtype=np.float32
    )
    faces = np.array([[2, 0, 1], [5, 4, 3]], dtype=np.int32)
    normals = vertex_normals(vertices, faces)
    assert np.allclose(normals[[0, 1, 3, 4]], [0, 0, 1], atol=1e-7)
    assert np.allclose(normals[2], [-np.sqrt(0.5), 0, np.sqrt(0.5)])


def test_large_triangles_count_more() -> None:
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 3]], dtype=np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], dtype=np.int32)
    # Cross products (0, 0, 1) and (3, 0, 0).
    expected = np.array([3, 0, 1]) / np.sqrt(10)
    assert np.allclose(vertex_normals(vertices, faces)[0], expected)


def test_without_a_direction_there_is_still_one() -> None:
    vertices = np.zeros((4, 3), dtype=np.float32)
    faces = np.array([[0, 1, 2]], dtype=np.int32)
    assert np.array_equal(vertex_normals(vertices, faces), [[0, 0, 1]] * 4)
    none = np.zeros((0, 3), dtype=np.float32)
    assert vertex_normals(none, none.astype(np.int32)).shape == (0, 3)
