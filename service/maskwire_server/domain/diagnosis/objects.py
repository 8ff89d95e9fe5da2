"""Checks of reconstructed objects against the scene that they were made from."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..geometry import ImageSize
from ..reconstruction.engine import ObjectModel, ObjectScene, ReconstructedScene
from ..reconstruction.formats.glb import scene_to_glb
from ..reconstruction.formats.ply import splats_from_ply, splats_to_ply
from ..reconstruction.formats.scene import object_meshes, pose_matrix
from ..reconstruction.geometry import Intrinsics, Mesh
from ..reconstruction.rotations import quaternion_array
from ..reconstruction.visibility import visible_triangles
from .findings import Finding, judged

_CUBE = 0.5
_CUBE_TOLERANCE = 0.02
_LEAST_OVERLAP = 0.6
_MOST_SPLAT_DISTANCE = 0.05  # of the object frame, in the median
_MOST_DIFFERENCE = 1e-3  # between two runs: sums on a GPU come in no fixed order


def examine_objects(
    scene: ObjectScene, result: ReconstructedScene, again: ReconstructedScene
) -> Iterator[Finding]:
    """Check a result.

    Args:
        scene: What was reconstructed.
        result: What came of it.
        again: What came of it the second time.
    """
    count = len(result.objects)
    expected = len(scene.masks)
    yield judged("objects", count == expected, f"{count} of {expected}")
    is_finite = _is_finite(result)
    yield judged("numbers", is_finite, "vertices, splats and poses are to be finite")
    if count != expected or not is_finite:
        return  # what follows computes with them
    yield _poses(result)
    yield _cube(result)
    yield _frames(result)
    yield _overlap(scene, result)
    yield _ply(result)
    yield _glb(result)
    yield _camera(scene, result)
    yield _seed(result, again)


def _is_finite(result: ReconstructedScene) -> bool:
    return all(
        bool(np.isfinite(array).all())
        for one in result.objects
        for array in (
            one.mesh.vertices,
            one.splats.positions,
            one.splats.scales,
            one.splats.rotations,
            one.splats.opacities,
            one.splats.colors,
            one.pose.scale,
            one.pose.translation,
            quaternion_array(one.pose.rotation),
        )
    )


def _poses(result: ReconstructedScene) -> Finding:
    lengths = [float(np.linalg.norm(quaternion_array(one.pose.rotation))) for one in result.objects]
    scales = np.concatenate([one.pose.scale for one in result.objects])
    depths = [float(one.pose.translation[2]) for one in result.objects]
    passed = max(abs(length - 1) for length in lengths) < 1e-5
    passed &= bool((scales > 0).all()) and min(depths) > 0
    return judged(
        "poses",
        passed,
        f"length of quaternions {min(lengths):.6f} to {max(lengths):.6f}, "
        f"scales {scales.min():.4g} to {scales.max():.4g}, depths {min(depths):.4g} to "
        f"{max(depths):.4g}",
    )


def _cube(result: ReconstructedScene) -> Finding:
    reach = max(float(np.abs(one.mesh.vertices).max()) for one in result.objects)
    return judged(
        "object frame",
        reach <= _CUBE + _CUBE_TOLERANCE,
        f"meshes reach {reach:.4f} from the origin; {_CUBE} is allowed",
    )


def _frames(result: ReconstructedScene) -> Finding:
    distances = [_splat_distance(one) for one in result.objects]
    return judged(
        "splats on the mesh",
        max(distances) <= _MOST_SPLAT_DISTANCE,
        f"median distance of splats to the mesh {max(distances):.4f}; at most "
        f"{_MOST_SPLAT_DISTANCE} is allowed",
    )


def _splat_distance(one: ObjectModel) -> float:
    """Return the median distance of splats to the nearest vertex or middle of a triangle."""
    middles = one.mesh.vertices[one.mesh.faces].mean(axis=1)
    tree = cKDTree(np.concatenate([one.mesh.vertices, middles]))
    distances, _ = tree.query(one.splats.positions)
    return float(np.median(distances))


def _overlap(scene: ObjectScene, result: ReconstructedScene) -> Finding:
    overlaps = [
        _intersection_over_union(silhouette(one, result.intrinsics, mask.shape), mask)
        for one, mask in zip(result.objects, scene.masks, strict=True)
    ]
    return judged(
        "silhouettes",
        min(overlaps) >= _LEAST_OVERLAP,
        f"projected meshes cover the masks with an IoU of {min(overlaps):.3f}; at least "
        f"{_LEAST_OVERLAP} is expected",
    )


def silhouette(one: ObjectModel, camera: Intrinsics, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the pixels that an object covers: shape (height, width)."""
    matrix = pose_matrix(one.pose)
    vertices = one.mesh.vertices.astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
    placed = Mesh(vertices.astype(np.float32), one.mesh.faces)
    size = ImageSize(width_px=shape[1], height_px=shape[0])
    return visible_triangles(placed, camera, size) >= 0


def _intersection_over_union(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    union = int((first | second).sum())
    return float((first & second).sum()) / union if union else 0.0


def _ply(result: ReconstructedScene) -> Finding:
    splats = result.objects[0].splats
    read = splats_from_ply(splats_to_ply(splats))
    same = read.positions.shape == splats.positions.shape and np.allclose(
        read.positions, splats.positions
    )
    return judged("PLY", bool(same), f"{len(read.positions)} splats of the first object, read back")


def _glb(result: ReconstructedScene) -> Finding:
    data = scene_to_glb(object_meshes(result))
    read = trimesh.load_scene(io.BytesIO(data), file_type="glb")
    meshes = list(read.geometry.values())
    triangles = sum(len(mesh.faces) for mesh in meshes)
    passed = len(meshes) == len(result.objects) and triangles > 0
    return judged("GLB", passed, f"{len(meshes)} meshes with {triangles} triangles, read back")


def _camera(scene: ObjectScene, result: ReconstructedScene) -> Finding:
    focal = result.intrinsics.focal_length_x_px
    is_metric = scene.points is not None
    passed = bool(np.array_equal(result.camera_pose, np.eye(4))) and result.is_metric == is_metric
    unit = "metres" if result.is_metric else "depths"
    return judged("camera", passed and focal > 0, f"focal length {focal:.1f} px, lengths in {unit}")


def _seed(result: ReconstructedScene, again: ReconstructedScene) -> Finding:
    difference = float("inf")
    if len(result.objects) == len(again.objects):
        pairs = zip(result.objects, again.objects, strict=True)
        difference = max(_difference(one, other) for one, other in pairs)
    return judged(
        "seed",
        difference <= _MOST_DIFFERENCE,
        f"two runs with the same seed differ by {difference:.2g}",
    )


def _difference(one: ObjectModel, other: ObjectModel) -> float:
    if one.mesh.vertices.shape != other.mesh.vertices.shape:
        return float("inf")
    if one.splats.positions.shape != other.splats.positions.shape:
        return float("inf")
    return max(
        float(np.abs(one.mesh.vertices - other.mesh.vertices).max()),
        float(np.abs(one.splats.positions - other.splats.positions).max()),
        float(np.abs(one.pose.translation - other.pose.translation).max()),
    )
