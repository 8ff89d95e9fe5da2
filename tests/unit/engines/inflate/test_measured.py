"""Objects of known points: a sphere, a box and a plane that are known exactly, gaps and jumps."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.reconstruction.engine import ObjectScene, ReconstructionSpecification
from maskwire_server.domain.reconstruction.geometry import Intrinsics
from maskwire_server.engines.inflate import InflateFactory
from tests.support import inflated_scenes as scenes
from tests.support.inflated_scenes import CAMERA, SIZE, camera_points, silhouette

KNOWN = {
    "sphere": (scenes.sphere, scenes.distance_from_sphere),
    "box": (scenes.box, scenes.distance_from_box),
    "plane": (scenes.plane, scenes.distance_from_plane),
}


def reconstruct(points, *masks, intrinsics=CAMERA, resolution=256):
    specification = ReconstructionSpecification(
        "inflate", mesh_resolution_px=resolution, max_splats=200
    )
    pixels = np.full((*masks[0].shape, 3), 90, np.uint8)
    scene = ObjectScene(pixels, masks, points, intrinsics, seed=1)
    return InflateFactory().load(specification).reconstruct(scene, lambda stage, fraction: None)


def front_of(model):
    """Return the vertices of the front and its border, and its triangles' middles."""
    points = camera_points(model.mesh, model.pose)
    faces = model.mesh.faces[: len(model.mesh.faces) // 2]
    return points[np.unique(faces)], points[faces].mean(axis=1)


def assert_closed(model):
    points = camera_points(model.mesh, model.pose)
    solid = trimesh.Trimesh(points, model.mesh.faces, process=False)
    assert solid.is_watertight
    assert solid.is_winding_consistent
    assert solid.volume > 0
    assert np.isfinite(model.mesh.vertices).all()
    return solid


@pytest.mark.parametrize("intrinsics", [CAMERA, None], ids=["camera", "no camera"])
@pytest.mark.parametrize("name", KNOWN)
def test_the_front_of_a_known_solid_is_within_one_per_cent(name, intrinsics):
    make, distance = KNOWN[name]
    known = make()
    scene = reconstruct(known.points, known.mask, intrinsics=intrinsics)
    assert scene.is_metric
    (model,) = scene.objects
    assert_closed(model)
    vertices, middles = front_of(model)
    assert distance(vertices).max() <= 0.01 * known.extent_m
    assert distance(middles).max() <= 0.01 * known.extent_m
    np.testing.assert_array_equal(silhouette(scene, 0, SIZE), known.mask)
    assert scene.intrinsics.focal_length_x_px == pytest.approx(500, abs=1e-3)
    assert scene.intrinsics.principal_point_y_px == pytest.approx(110, abs=1e-3)


@pytest.mark.parametrize("name", KNOWN)
def test_the_pose_takes_the_front_back_onto_the_given_points(name):
    known = KNOWN[name][0]()
    (model,) = reconstruct(known.points, known.mask).objects
    given = known.points[known.mask].astype(np.float64)
    placed = camera_points(model.mesh, model.pose)[: len(given)]
    # One node for each pixel of the mask, in reading order.
    np.testing.assert_allclose(placed, given, atol=1e-6 * float(model.pose.scale[0]))
    assert model.pose.rotation.w == 0


@pytest.mark.parametrize("name", KNOWN)
def test_a_coarse_grid_keeps_to_the_surface(name):
    make, distance = KNOWN[name]
    known = make()
    (model,) = reconstruct(known.points, known.mask, resolution=100).objects
    vertices, middles = front_of(model)
    assert distance(vertices).max() <= 0.01 * known.extent_m
    assert distance(middles).max() <= 0.01 * known.extent_m


def test_a_sphere_is_closed_to_nearly_a_sphere_of_its_true_size():
    known = scenes.sphere()
    (model,) = reconstruct(known.points, known.mask).objects
    true_volume = 4 / 3 * np.pi * scenes.SPHERE_RADIUS**3
    assert assert_closed(model).volume == pytest.approx(true_volume, rel=0.05)
    np.testing.assert_allclose(model.pose.translation, scenes.SPHERE_CENTRE, atol=0.05)
    np.testing.assert_allclose(model.pose.scale, 2 * scenes.SPHERE_RADIUS, rtol=0.05)


def test_gaps_are_filled_along_the_rays_and_planes_continue_exactly():
    known = scenes.plane()
    points = known.points.copy()
    points[80:150, 100:220] = np.nan
    scene = reconstruct(points, known.mask)
    (model,) = scene.objects
    assert_closed(model)
    nodes = camera_points(model.mesh, model.pose)[: int(known.mask.sum())]
    assert scenes.distance_from_plane(nodes).max() <= 1e-4 * known.extent_m
    np.testing.assert_array_equal(silhouette(scene, 0, SIZE), known.mask)


def test_sparse_points_shape_the_whole_front_on_a_coarse_grid_as_well():
    known = scenes.plane()
    points = known.points.copy()
    points[np.random.default_rng(2).random(known.mask.shape) > 0.02] = np.nan
    for resolution in (256, 50):
        (model,) = reconstruct(points, known.mask, resolution=resolution).objects
        vertices, _ = front_of(model)
        assert scenes.distance_from_plane(vertices).max() <= 0.03 * known.extent_m


def test_parts_without_points_take_the_depth_of_the_nearest():
    known = scenes.sphere()
    mask = known.mask.copy()
    mask[5:15, 40:60] = True  # a component of its own
    mask[80:100, 200:255] = True  # hangs on the sphere
    scene = reconstruct(known.points, mask)
    (model,) = scene.objects
    assert_closed(model)
    np.testing.assert_array_equal(silhouette(scene, 0, SIZE), mask)
    depth = camera_points(model.mesh, model.pose)[:, 2]
    assert depth.min() > 1.9
    assert depth.max() < 3.2


def test_a_mask_that_leaks_onto_the_background_keeps_the_objects_size():
    known = scenes.sphere()
    rays = scenes.camera_rays()
    points = np.where(known.mask[..., None], known.points, rays * 40.0).astype(np.float32)
    leaking = known.mask.copy()
    leaking[1:] |= known.mask[:-1]
    leaking[:, :-1] |= known.mask[:, 1:]
    scene = reconstruct(points, leaking)
    (model,) = scene.objects
    assert_closed(model)
    assert model.pose.scale[0] == pytest.approx(2 * scenes.SPHERE_RADIUS, rel=0.1)
    np.testing.assert_array_equal(silhouette(scene, 0, SIZE), leaking)


def test_a_jump_in_depth_within_an_object_stays_sharp():
    rays = scenes.camera_rays()
    depth = np.where(np.arange(SIZE.width_px) < 160, 2.0, 4.0) * np.ones((SIZE.height_px, 1))
    mask = np.zeros(depth.shape, np.bool_)
    mask[60:180, 80:240] = True
    (model,) = reconstruct((rays * depth[..., None]).astype(np.float32), mask).objects
    assert_closed(model)
    count = int(mask.sum())
    front = camera_points(model.mesh, model.pose)[:count, 2].reshape(120, 160)
    np.testing.assert_allclose(front[:, :80], 2.0, atol=1e-5)
    np.testing.assert_allclose(front[:, 80:], 4.0, atol=1e-5)


@pytest.mark.parametrize("number", range(60))
def test_random_masks_over_random_points_are_closed(number):
    mask = scenes.random_mask(number)
    random = np.random.default_rng(number)
    camera = Intrinsics(80.0, 80.0, mask.shape[1] / 2, mask.shape[0] / 2)
    size = ImageSize(mask.shape[1], mask.shape[0])
    depth = 2 + random.random(mask.shape) * 10.0 ** random.integers(-3, 2)
    depth[random.random(mask.shape) < random.random()] = np.nan
    depth[np.unravel_index(np.flatnonzero(mask)[0], mask.shape)] = 2.0
    points = scenes.camera_rays(size, camera) * depth[..., None]
    scene = reconstruct(points.astype(np.float32), mask, intrinsics=None, resolution=40)
    assert_closed(scene.objects[0])


def test_objects_of_a_scene_share_one_camera_frame():
    known = scenes.plane()
    left, right = known.mask.copy(), known.mask.copy()
    left[:, 150:] = False
    right[:, :190] = False
    scene = reconstruct(known.points, left, right)
    for model in scene.objects:
        vertices, _ = front_of(model)
        assert scenes.distance_from_plane(vertices).max() <= 0.01 * known.extent_m
    one, other = (model.pose.translation[0] for model in scene.objects)
    assert one < other


def test_an_object_without_any_point_is_refused():
    known = scenes.sphere()
    elsewhere = np.zeros_like(known.mask)
    elsewhere[0, 0] = True
    with pytest.raises(MaskwireError, match=r"masks\[1\]") as caught:
        reconstruct(known.points, known.mask, elsewhere)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
