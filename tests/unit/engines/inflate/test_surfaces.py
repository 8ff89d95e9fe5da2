"""Closed surfaces over any mask, seen exactly where the mask is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import trimesh

from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.reconstruction.engine import ObjectScene, ReconstructionSpecification
from maskwire_server.engines.inflate import InflateFactory
from maskwire_server.engines.inflate.grid import make_grid
from maskwire_server.engines.inflate.poisson import inflation_heights
from tests.support.inflated_scenes import camera_points, disc, random_mask, silhouette


def reconstruct(*masks, resolution=256):
    specification = ReconstructionSpecification(
        "inflate", mesh_resolution_px=resolution, max_splats=200
    )
    pixels = np.full((*masks[0].shape, 3), 90, np.uint8)
    scene = ObjectScene(pixels, masks, None, None, seed=1)
    return InflateFactory().load(specification).reconstruct(scene, lambda stage, fraction: None)


def solid_of(model):
    return trimesh.Trimesh(camera_points(model.mesh, model.pose), model.mesh.faces, process=False)


def assert_closed(model):
    mesh, solid = model.mesh, solid_of(model)
    assert solid.is_watertight
    assert solid.is_winding_consistent
    assert solid.volume > 0
    assert np.unique(mesh.faces).tolist() == list(range(len(mesh.vertices)))
    assert np.abs(mesh.vertices).max() <= 0.5
    assert np.isfinite(mesh.vertices).all()


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


@pytest.mark.parametrize("first", range(0, 200, 25))
@pytest.mark.parametrize("resolution", [256, 20])
def test_two_hundred_random_masks_give_closed_surfaces(first, resolution):
    for number in range(first, first + 25):
        assert_closed(reconstruct(random_mask(number), resolution=resolution).objects[0])


def test_no_two_fans_of_triangles_meet_in_a_vertex():
    chessboard = np.add.outer(np.arange(9), np.arange(11)) % 2 == 0
    for mask in (chessboard, ~chessboard, random_mask(0)):
        solid = solid_of(reconstruct(mask).objects[0])
        parts = solid.split(only_watertight=False)
        # Euler's formula with whole handles holds only where the surface is a manifold.
        for part in parts:
            assert part.euler_number % 2 == 0
            assert part.euler_number <= 2


@pytest.mark.parametrize("number", range(0, 200, 7))
def test_the_outline_is_the_masks_own(number):
    mask = random_mask(number)
    size = ImageSize(width_px=mask.shape[1], height_px=mask.shape[0])
    scene = reconstruct(mask)
    np.testing.assert_array_equal(silhouette(scene, 0, size), mask)


@pytest.mark.parametrize("number", range(1, 80, 8))  # blobs
def test_the_outline_holds_on_a_coarse_grid(number):
    mask = np.kron(random_mask(number), np.ones((4, 4), np.bool_))
    size = ImageSize(width_px=mask.shape[1], height_px=mask.shape[0])
    scene = reconstruct(mask, resolution=max(mask.shape) * 10 // 19)
    assert overlap(silhouette(scene, 0, size), mask) >= 0.98


def test_thin_parts_survive_a_coarse_grid_without_getting_fat():
    mask = np.zeros((300, 400), np.bool_)
    mask[100:160, 50:110] = True
    mask[130, 50:390] = True
    scene = reconstruct(mask, resolution=100)
    assert_closed(scene.objects[0])
    seen = silhouette(scene, 0, ImageSize(400, 300))
    assert seen[126:135, 110:389].any(axis=0).all()
    assert seen[:, 130:].sum() <= 4 * 270


@pytest.mark.parametrize("radius", [20, 60, 110])
def test_a_disc_becomes_a_sphere(radius):
    side = 320
    model = reconstruct(disc(side, radius)).objects[0]
    slope = radius / (side * math.sqrt(2))  # of the rays that touch it, in the assumed camera
    true_radius = slope * math.sqrt(1 + slope**2)  # of the ball whose outline is at depth 1
    solid = solid_of(model)
    assert solid.volume == pytest.approx(4 / 3 * math.pi * true_radius**3, rel=0.02)
    centre = [0, 0, 1 + slope**2]
    distance = np.linalg.norm(solid.vertices - centre, axis=1)
    np.testing.assert_allclose(distance, true_radius, rtol=0.04)


def test_heights_are_those_of_the_exact_solutions():
    # Between two long parallel sides u = 2 x (a - x); over a disc u = r² - d².
    grid = make_grid(np.ones((60, 1500), np.bool_), 1024)
    middle = grid.inside.shape[1] // 2
    heights = np.zeros(grid.inside.shape)
    heights[grid.inside] = inflation_heights(grid)
    column = heights[grid.inside[:, middle], middle]
    across = (np.arange(len(column)) + 0.5) * grid.stride_px
    expected = np.sqrt(np.maximum(2 * across * (60 - across), 0))
    np.testing.assert_allclose(column[1:-1], expected[1:-1], rtol=0.02)


def test_depth_is_about_one_and_several_objects_stand_where_they_are_seen():
    left, right = np.zeros((2, 120, 200), np.bool_)
    left[20:60, 10:60] = True
    right[70:110, 130:190] = True
    scene = reconstruct(left, right)
    assert not scene.is_metric
    assert scene.camera_pose.tolist() == np.eye(4).tolist()
    assert len(scene.objects) == 2
    for index, mask in enumerate((left, right)):
        model = scene.objects[index]
        assert model.pose.translation[2] == pytest.approx(1, abs=0.1)
        assert len(set(model.pose.scale.tolist())) == 1
        assert float(np.ptp(model.mesh.vertices, axis=0).max()) == pytest.approx(1, abs=1e-6)
        assert overlap(silhouette(scene, index, ImageSize(200, 120)), mask) >= 0.98


def test_the_object_frame_has_y_up_x_right_and_z_towards_the_camera():
    mask = np.zeros((100, 100), np.bool_)
    mask[10:90, 20:30] = True  # upright, with a foot to the right
    mask[80:90, 20:70] = True
    model = reconstruct(mask).objects[0]
    vertices = model.mesh.vertices
    foot = vertices[vertices[:, 0] > 0.2]
    assert (foot[:, 1] < -0.3).all()
    count = int(mask.sum())  # one vertex for each pixel, on the front and on the back
    front, back = vertices[:count], vertices[-count:]
    assert front[:, 2].mean() > back[:, 2].mean()


def test_even_the_whole_image_stays_in_front_of_the_camera():
    for shape in ((200, 200), (40, 400), (400, 40), (1, 1), (1, 300)):
        model = reconstruct(np.ones(shape, np.bool_)).objects[0]
        assert_closed(model)
        assert camera_points(model.mesh, model.pose)[:, 2].min() > 0.3
