"""Splat PLY files before outside judges: splat-transform, plyfile and trimesh."""

from __future__ import annotations

import csv
import io
import json
import struct
from pathlib import Path

import numpy as np
import trimesh
from plyfile import PlyData

from maskwire_server.domain.reconstruction.formats.ply import (
    merge_splats,
    place_splats,
    splats_from_ply,
    splats_to_ply,
)
from maskwire_server.domain.reconstruction.geometry import Pose, Splats
from tests.support.gltf_judges import require_judge, transform_splats
from tests.support.reconstructed_shapes import QUARTER_TURN_X, splats_of

PACKAGE = "@playcanvas/splat-transform"
POSE = Pose(np.array([0.5, 1.0, 2.0]), QUARTER_TURN_X, np.array([0.1, -0.2, 3.0]))


def two_objects() -> Splats:
    return merge_splats([place_splats(splats_of(400), POSE), splats_of(100, seed=1)])


def test_splat_transform_writes_back_the_same_bytes(tmp_path: Path) -> None:
    require_judge(PACKAGE)
    ours, theirs = tmp_path / "ours.ply", tmp_path / "theirs.ply"
    ours.write_bytes(splats_to_ply(two_objects()))
    transform_splats(ours, theirs)
    assert theirs.read_bytes() == ours.read_bytes()


def test_splat_transform_reads_every_value(tmp_path: Path) -> None:
    require_judge(PACKAGE)
    splats = two_objects()
    ply, table = tmp_path / "scene.ply", tmp_path / "scene.csv"
    ply.write_bytes(splats_to_ply(splats))
    transform_splats(ply, table)
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert len(rows) == 500
    columns = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    assert np.abs(columns["z"] - splats.positions[:, 2]).max() < 1e-6
    assert np.abs(np.exp(columns["scale_1"]) - splats.scales[:, 1]).max() < 1e-6
    assert np.abs(1 / (1 + np.exp(-columns["opacity"])) - splats.opacities).max() < 1e-6
    assert np.abs(columns["rot_0"] - splats.rotations[:, 3]).max() < 1e-6


def test_splat_transform_means_by_values_what_we_mean(tmp_path: Path) -> None:
    """Its own reading of colours, opacities and deviations, through 8 bits a colour."""
    require_judge(PACKAGE)
    splats = splats_of(300)
    ply, glb = tmp_path / "object.ply", tmp_path / "object.glb"
    ply.write_bytes(splats_to_ply(splats))
    transform_splats(ply, glb)
    read = read_gaussian_glb(glb.read_bytes())
    assert np.abs(read["COLOR_0"][:, :3] / 255 - splats.colors).max() < 0.005
    assert np.abs(read["COLOR_0"][:, 3] / 255 - splats.opacities).max() < 0.005


def test_a_scene_in_the_camera_frame_is_upright_in_viewers(tmp_path: Path) -> None:
    """What is above in the photograph, with less y, is above in glTF, with more."""
    require_judge(PACKAGE)
    splats = splats_of(100)
    ply, glb = tmp_path / "scene.ply", tmp_path / "scene.glb"
    ply.write_bytes(splats_to_ply(splats))
    transform_splats(ply, glb)
    positions = read_gaussian_glb(glb.read_bytes())["POSITION"]
    assert np.abs(positions - splats.positions * [-1, -1, 1]).max() < 1e-6


def test_plyfile_and_trimesh_read_the_vertices() -> None:
    splats = two_objects()
    content = splats_to_ply(splats)
    vertices = PlyData.read(io.BytesIO(content))["vertex"]
    assert len(vertices) == 500
    assert np.array_equal(vertices["y"], splats.positions[:, 1])
    cloud = trimesh.load(io.BytesIO(content), file_type="ply")
    assert isinstance(cloud, trimesh.PointCloud)
    assert np.allclose(cloud.vertices, splats.positions, atol=1e-6)


def test_what_splat_transform_writes_can_be_read(tmp_path: Path) -> None:
    require_judge(PACKAGE)
    splats = splats_of(50)
    ours, scaled = tmp_path / "ours.ply", tmp_path / "scaled.ply"
    ours.write_bytes(splats_to_ply(splats))
    transform_splats(ours, "-s", "2", scaled)
    read = splats_from_ply(scaled.read_bytes())
    assert np.allclose(read.positions, splats.positions * 2, atol=1e-6)
    assert np.allclose(read.scales, splats.scales * 2, rtol=1e-5)
    assert np.allclose(read.colors, splats.colors, atol=1e-6)


def read_gaussian_glb(content: bytes) -> dict[str, np.ndarray]:
    """Return the attributes of the one mesh of a GLB file of splats."""
    (json_bytes,) = struct.unpack_from("<I", content, 12)
    document = json.loads(content[20 : 20 + json_bytes])
    buffer = content[20 + json_bytes + 8 :]
    attributes = {}
    for name, index in document["meshes"][0]["primitives"][0]["attributes"].items():
        accessor = document["accessors"][index]
        view = document["bufferViews"][accessor["bufferView"]]
        kind = {5121: np.uint8, 5126: np.float32}[accessor["componentType"]]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        flat = np.frombuffer(buffer, kind, accessor["count"] * width, view.get("byteOffset", 0))
        attributes[name] = flat.reshape(-1, width)
    return attributes
