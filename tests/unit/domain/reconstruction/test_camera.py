"""Cameras: what is assumed, what a point map tells, and the way there and back."""

from __future__ import annotations

import math

import numpy as np
import pytest

from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.reconstruction.camera import (
    default_intrinsics,
    fit_intrinsics,
    project,
    rays_through,
    unproject_depth,
)
from maskwire_server.domain.reconstruction.geometry import Intrinsics

CAMERA = Intrinsics(210.0, 190.0, 30.5, 22.0)


def random_depth(height=40, width=60):
    return (np.random.default_rng(3).random((height, width)) * 3 + 1).astype(np.float32)


def assert_same_camera(found, expected, tolerance=1e-3):
    assert found.focal_length_x_px == pytest.approx(expected.focal_length_x_px, tolerance)
    assert found.focal_length_y_px == pytest.approx(expected.focal_length_y_px, tolerance)
    assert found.principal_point_x_px == pytest.approx(expected.principal_point_x_px, tolerance)
    assert found.principal_point_y_px == pytest.approx(expected.principal_point_y_px, tolerance)


def test_the_assumed_camera_looks_through_the_middle_with_the_diagonal_as_focal_length():
    assumed = default_intrinsics(ImageSize(width_px=400, height_px=300))
    assert assumed == Intrinsics(500.0, 500.0, 200.0, 150.0)


def test_a_ray_by_hand():
    (ray,) = rays_through(np.array([[51.5, 3.0]]), CAMERA)
    np.testing.assert_allclose(ray, [0.1, -0.1, 1])


def test_points_are_seen_where_their_rays_went():
    positions = np.random.default_rng(1).random((50, 2)) * 90 - 20
    depths = np.random.default_rng(2).random((50, 1)) + 0.5
    np.testing.assert_allclose(
        project(rays_through(positions, CAMERA) * depths, CAMERA), positions, atol=1e-9
    )


def test_pixels_are_unprojected_through_their_centres():
    depth = random_depth()
    points = unproject_depth(depth, CAMERA)
    y, x = np.mgrid[:40, :60] + 0.5
    seen = project(points.reshape(-1, 3).astype(np.float64), CAMERA)
    np.testing.assert_allclose(seen, np.stack([x.ravel(), y.ravel()], 1), atol=1e-4)
    np.testing.assert_array_equal(points[..., 2], depth)


def test_the_camera_of_a_point_map_is_found():
    points = unproject_depth(random_depth(), CAMERA)
    assert_same_camera(fit_intrinsics(points), CAMERA)


def test_the_camera_of_a_large_or_a_sparse_point_map_is_found():
    points = unproject_depth(random_depth(1000, 1200), CAMERA)
    assert_same_camera(fit_intrinsics(points), CAMERA)
    chosen = np.random.default_rng(5).random((1000, 1200)) < 1e-4
    points[~chosen] = np.nan
    assert_same_camera(fit_intrinsics(points), CAMERA)


def test_a_noisy_point_map_tells_the_camera_nearly():
    points = unproject_depth(random_depth(), CAMERA)
    points += np.random.default_rng(6).normal(0, 0.003, points.shape).astype(np.float32)
    assert_same_camera(fit_intrinsics(points), CAMERA, tolerance=0.02)


@pytest.mark.parametrize("kind", ["nothing", "one", "column", "mirrored", "noise"])
def test_points_that_tell_no_camera_give_the_assumed_one(kind):
    points = np.full((30, 40, 3), np.nan, np.float32)
    whole = unproject_depth(random_depth(30, 40), CAMERA)
    match kind:
        case "one":
            points[4, 5] = whole[4, 5]
        case "column":
            points[:, 7] = whole[:, 7]
        case "mirrored":
            points = whole * np.array([-1, 1, 1], np.float32)
        case "noise":
            points = np.random.default_rng(7).random((30, 40, 3)).astype(np.float32)
    assert fit_intrinsics(points) == default_intrinsics(ImageSize(40, 30))
    assert math.isclose(default_intrinsics(ImageSize(40, 30)).focal_length_x_px, 50)
