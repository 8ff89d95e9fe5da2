"""GLB files before outside judges: the validator of glTF, and trimesh as a reader."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh
from skimage import data

from maskwire_server.domain.reconstruction.formats.glb import scene_to_glb
from maskwire_server.domain.reconstruction.formats.scene import (
    body_meshes,
    object_meshes,
    unplaced,
)
from maskwire_server.domain.reconstruction.geometry import Mesh
from tests.support.gltf_judges import require_judge, validate_gltf
from tests.support.reconstructed_shapes import (
    blob,
    body,
    box,
    coloured,
    quarters,
    scene_of,
    sphere,
    textured,
    triangle,
)

RAW = Mesh(
    np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5]], dtype=np.float32),
    np.array([[0, 1, 2], [0, 0, 1], [1, 2, 1]], dtype=np.int32),
)
"""With a vertex that nothing uses and triangles without area."""


def files() -> dict[str, bytes]:
    photograph = textured(blob(1), data.astronaut())
    several = scene_of(photograph, coloured(sphere()), box(), textured(box(), quarters()))
    return {
        "textured": scene_to_glb([unplaced(photograph, "object_000")]),
        "coloured": scene_to_glb([unplaced(coloured(sphere()), "object_000")]),
        "bare": scene_to_glb([unplaced(box(), "object_000")]),
        "several": scene_to_glb(object_meshes(several)),
        "triangle": scene_to_glb([unplaced(triangle(), "object_000")]),
        "raw": scene_to_glb([unplaced(RAW, "object_000")]),
        "large": scene_to_glb([unplaced(textured(sphere(7), quarters(16)), "object_000")]),
        "odd": scene_to_glb([unplaced(textured(box(), quarters(63)), "object_000")]),
        "people": scene_to_glb(body_meshes([body(0), body(1)])),
        "empty": scene_to_glb([]),
    }


def test_the_validator_finds_nothing(tmp_path: Path) -> None:
    require_judge("gltf-validator")
    paths = []
    for name, content in files().items():
        paths.append(tmp_path / f"{name}.glb")
        paths[-1].write_bytes(content)
    reports = dict(zip((path.stem for path in paths), validate_gltf(paths), strict=True))
    found = {
        name: [one["code"] for one in report["issues"]["messages"]]
        for name, report in reports.items()
    }
    # Of a texture of 63 x 63 pixels it mentions that old devices will want to scale it.
    assert found.pop("odd") == ["IMAGE_NPOT_DIMENSIONS"]
    assert not any(found.values()), found
    assert all(report["issues"]["numWarnings"] == 0 for report in reports.values())
    assert reports["several"]["info"]["drawCallCount"] == 4
    assert reports["large"]["info"]["totalTriangleCount"] == 327_680


def test_the_validator_can_find_something(tmp_path: Path) -> None:
    require_judge("gltf-validator")
    content = bytearray(files()["bare"])
    content[-4:] = struct.pack("<I", 0xFFFF_FFFF)
    path = tmp_path / "broken.glb"
    path.write_bytes(content)
    (report,) = validate_gltf([path])
    assert report["issues"]["numErrors"] > 0


def read(content: bytes) -> trimesh.Scene:
    scene = trimesh.load(io.BytesIO(content), file_type="glb", process=False)
    assert isinstance(scene, trimesh.Scene)
    return scene


def test_trimesh_reads_vertices_faces_and_texture() -> None:
    mesh = textured(blob(3), quarters())
    (read_mesh,) = read(scene_to_glb([unplaced(mesh, "object_000")])).geometry.values()
    assert np.array_equal(read_mesh.vertices, mesh.vertices)
    assert np.array_equal(read_mesh.faces, mesh.faces)
    assert read_mesh.is_watertight
    assert read_mesh.volume > 0
    coordinates = np.asarray(read_mesh.visual.uv)
    assert mesh.texture_coordinates is not None
    assert np.allclose(coordinates[:, 0], mesh.texture_coordinates[:, 0], atol=1e-7)
    # glTF counts v from the top, trimesh from the bottom.
    assert np.allclose(1 - coordinates[:, 1], mesh.texture_coordinates[:, 1], atol=1e-6)
    picture = np.asarray(read_mesh.visual.material.baseColorTexture.convert("RGB"))
    assert np.abs(picture[8:24, 8:24].astype(int) - quarters()[8:24, 8:24]).max() <= 6


def test_trimesh_sees_the_colour_where_the_photograph_has_it() -> None:
    mesh = textured(sphere(), quarters())
    (read_mesh,) = read(scene_to_glb([unplaced(mesh, "object_000")])).geometry.values()
    colors = read_mesh.visual.to_color().vertex_colors
    top_left = np.argmax(mesh.vertices @ np.array([-1.0, 1.0, 0.3]))
    assert np.abs(colors[top_left][:3].astype(int) - [220, 30, 30]).max() <= 12


def test_trimesh_reads_colours_as_linear() -> None:
    mesh = coloured(sphere())
    (read_mesh,) = read(scene_to_glb([unplaced(mesh, "object_000")])).geometry.values()
    assert mesh.vertex_colors is not None
    expected = (mesh.vertex_colors / 255.0) ** 2.2
    assert np.abs(read_mesh.visual.vertex_attributes["color"] - expected).max() < 0.02


def test_trimesh_places_objects() -> None:
    scene = read(scene_to_glb(object_meshes(scene_of(box(), box(), box()))))
    # 4 in front of the camera is -4 along glTF's z; the first is twice as large as the others.
    bounds = {
        name: trimesh.transform_points(scene.geometry[geometry].vertices, transform)
        for name in scene.graph.nodes_geometry
        for transform, geometry in [scene.graph[name]]
    }
    assert set(bounds) == {"object_000", "object_001", "object_002"}
    assert bounds["object_000"].min(axis=0) == pytest.approx([-1.7, -0.5, -4.5])
    assert bounds["object_002"].max(axis=0) == pytest.approx([1.45, 0.25, -3.75])
