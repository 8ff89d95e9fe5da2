"""The layout of GLB files; whether they are valid is for `tests/integration/formats`."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from maskwire_server.domain.reconstruction.formats.glb import scene_to_glb
from maskwire_server.domain.reconstruction.formats.scene import PlacedMesh, unplaced
from maskwire_server.domain.reconstruction.geometry import Mesh
from tests.support.reconstructed_shapes import (
    box,
    coloured,
    quarters,
    sphere,
    textured,
    triangle,
)


def parsed(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the JSON and the buffer, after checking the container."""
    magic, version, size = struct.unpack_from("<4sII", content)
    assert (magic, version, size) == (b"glTF", 2, len(content))
    json_size, json_kind = struct.unpack_from("<I4s", content, 12)
    assert json_kind == b"JSON"
    assert json_size % 4 == 0
    document = json.loads(content[20 : 20 + json_size])
    rest = content[20 + json_size :]
    if not rest:
        return document, b""
    size, kind = struct.unpack_from("<I4s", rest)
    assert (kind, size) == (b"BIN\0", len(rest) - 8)
    assert document["buffers"] == [{"byteLength": size}]
    return document, rest[8:]


def accessor(document: dict[str, Any], buffer: bytes, index: int) -> np.ndarray:
    entry = document["accessors"][index]
    view = document["bufferViews"][entry["bufferView"]]
    assert view["byteOffset"] % 4 == 0
    kind = {5123: "<u2", 5125: "<u4", 5126: "<f4"}[entry["componentType"]]
    width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3}[entry["type"]]
    flat = np.frombuffer(buffer, kind, entry["count"] * width, view["byteOffset"])
    return flat.reshape(-1, width)


def attribute(content: bytes, name: str) -> np.ndarray:
    document, buffer = parsed(content)
    (primitive,) = document["meshes"][0]["primitives"]
    return accessor(document, buffer, primitive["attributes"][name])


def glb(mesh: Mesh) -> bytes:
    return scene_to_glb([unplaced(mesh, "object_000")])


def test_positions_and_bounds_are_exact() -> None:
    mesh = sphere()
    content = glb(mesh)
    assert np.array_equal(attribute(content, "POSITION"), mesh.vertices)
    bounds = parsed(content)[0]["accessors"][0]
    assert bounds["min"] == mesh.vertices.min(axis=0).tolist()
    assert bounds["max"] == mesh.vertices.max(axis=0).tolist()


def test_texture_coordinates_are_as_given_with_v_down() -> None:
    mesh = textured(box(), quarters())
    assert mesh.texture_coordinates is not None
    assert np.array_equal(attribute(glb(mesh), "TEXCOORD_0"), mesh.texture_coordinates)


def test_the_texture_is_a_good_jpeg() -> None:
    document, buffer = parsed(glb(textured(box(), quarters())))
    (image,) = document["images"]
    view = document["bufferViews"][image["bufferView"]]
    data = buffer[view["byteOffset"] :][: view["byteLength"]]
    assert (image["mimeType"], data[:3]) == ("image/jpeg", b"\xff\xd8\xff")
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    picture = np.asarray(decoded)[:, :, ::-1]
    assert np.abs(picture[8:24, 8:24].astype(int) - quarters()[8:24, 8:24]).max() <= 6


def test_surfaces_are_matte_and_one_sided() -> None:
    document, _ = parsed(glb(textured(box(), quarters())))
    (material,) = document["materials"]
    assert not material.get("doubleSided", False)
    surface = material["pbrMetallicRoughness"]
    assert (surface["metallicFactor"], surface["roughnessFactor"]) == (0, 1)
    assert document["textures"] == [{"sampler": 0, "source": 0}]


def test_vertex_colours_are_linear() -> None:
    mesh = replace(triangle(), vertex_colors=np.array([[0, 128, 255]] * 3, dtype=np.uint8))
    # 128 / 255 = 0.50196 in sRGB is ((0.50196 + 0.055) / 1.055)^2.4 = 0.21586.
    assert np.allclose(attribute(glb(mesh), "COLOR_0"), [[0.0, 0.21586, 1.0]] * 3, atol=1e-5)


@pytest.mark.parametrize(("count", "kind"), [(65535, 5123), (65536, 5125)])
def test_indices_take_two_bytes_where_they_fit(count: int, kind: int) -> None:
    vertices = np.zeros((count, 3), dtype=np.float32)
    vertices[:, 0] = np.arange(count)
    vertices[-1, 1] = 1
    faces = np.array([[0, 1, count - 1]], dtype=np.int32)
    document, buffer = parsed(glb(Mesh(vertices, faces)))
    index = document["meshes"][0]["primitives"][0]["indices"]
    assert document["accessors"][index]["componentType"] == kind
    assert accessor(document, buffer, index).ravel().tolist() == [0, 1, count - 1]


def test_a_matrix_is_written_column_by_column() -> None:
    matrix = np.array([[1, 0, 0, 2], [0, 1, 0, 3], [0, 0, 1, 4], [0, 0, 0, 1]], dtype=float)
    document, _ = parsed(scene_to_glb([PlacedMesh(box(), matrix, "moved")]))
    (node,) = document["nodes"]
    assert node["name"] == "moved"
    assert node["matrix"][12:] == [2, 3, 4, 1]


def test_each_mesh_is_a_node_and_a_shared_texture_is_written_once() -> None:
    picture = quarters()
    meshes = [textured(box(), picture), textured(sphere(), picture), coloured(box())]
    placed = [unplaced(mesh, f"object_{index:03d}") for index, mesh in enumerate(meshes)]
    document, _ = parsed(scene_to_glb(placed))
    assert [node["name"] for node in document["nodes"]] == [one.name for one in placed]
    assert document["scenes"] == [{"nodes": [0, 1, 2]}]
    assert len(document["images"]) == 1
    used = [mesh["primitives"][0]["material"] for mesh in document["meshes"]]
    assert used == [0, 0, 1]


def test_triangles_that_repeat_a_vertex_are_left_out() -> None:
    mesh = Mesh(triangle().vertices, np.array([[0, 0, 1], [0, 1, 2]], dtype=np.int32))
    document, buffer = parsed(glb(mesh))
    index = document["meshes"][0]["primitives"][0]["indices"]
    assert accessor(document, buffer, index).ravel().tolist() == [0, 1, 2]
    nothing = parsed(glb(Mesh(triangle().vertices, mesh.faces[:1])))[0]
    assert nothing["nodes"] == [{"name": "object_000"}]


def test_an_empty_scene_is_a_file_too() -> None:
    document, buffer = parsed(scene_to_glb([]))
    assert document["scenes"] == [{}]
    assert buffer == b""


def test_the_same_scene_gives_the_same_bytes() -> None:
    assert glb(textured(sphere(), quarters())) == glb(textured(sphere(), quarters()))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(value: float) -> None:
    broken = box()
    broken.vertices[3, 1] = value
    with pytest.raises(ValueError, match="object_000 must be finite"):
        glb(broken)
    flat = textured(box(), quarters())
    assert flat.texture_coordinates is not None
    flat.texture_coordinates[0, 0] = value
    with pytest.raises(ValueError, match="object_000 must be finite"):
        glb(flat)
    with pytest.raises(ValueError, match="transform of moved"):
        scene_to_glb([PlacedMesh(box(), np.full((4, 4), value), "moved")])
