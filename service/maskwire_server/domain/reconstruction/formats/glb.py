"""Meshes as a GLB file: glTF 2.0 in its binary container.

trimesh writes valid files too, but encodes textures a second time, as JPEG of quality 75 or as PNG
of nine times the size, and indices always in four bytes; so the few structures are written here.
Whether they are right is for the validator to judge (`tests/integration/formats`).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...pictures import PictureFormat, encode_picture
from ..geometry import Mesh
from .normals import vertex_normals
from .scene import PlacedMesh

GLB_TYPE = "model/gltf-binary"
"""Media type of the files."""

TEXTURE_QUALITY = 90
"""JPEG quality of textures, which are photographs: 1024² takes 160 kB and 5 ms, PNG 1.4 MB."""

_MAGIC, _VERSION, _JSON_CHUNK, _BINARY_CHUNK = b"glTF", 2, b"JSON", b"BIN\0"
_ALIGNMENT_BYTES = 4
_UINT16, _UINT32, _FLOAT = 5123, 5125, 5126
_VERTEX_BUFFER, _INDEX_BUFFER = 34962, 34963
_LINEAR, _LINEAR_MIPMAP_LINEAR, _CLAMP_TO_EDGE = 9729, 9987, 33071
_MOST_UINT16_VERTICES = 65535  # index 65535 restarts primitives

_SRGB_LINEAR_UP_TO = 0.04045


def scene_to_glb(objects: Sequence[PlacedMesh]) -> bytes:
    """Write meshes, each a node of its own, as a GLB file.

    Surfaces are matte and are seen from outside; normals are smooth. Triangles that have no area
    because they repeat a vertex are left out, and a mesh of which nothing is left is a bare node.

    Args:
        objects: The meshes, in glTF's world.

    Raises:
        ValueError: A vertex, a texture coordinate or a matrix is not finite.
    """
    document = _Document()
    for placed in objects:
        document.add(placed)
    return document.to_bytes()


class _Document:
    """A glTF document with its one buffer."""

    def __init__(self) -> None:
        self._lists: dict[str, list[dict[str, object]]] = {}
        self._parts: list[bytes] = []
        self._buffer_bytes = 0
        self._materials: dict[int, int] = {}  # by identity of the texture; 0 where there is none

    def add(self, placed: PlacedMesh) -> None:
        """Add a node with its mesh."""
        if not np.isfinite(placed.to_world).all():
            raise ValueError(f"the transform of {placed.name} must be finite")
        node: dict[str, object] = {"name": placed.name}
        if not np.array_equal(placed.to_world, np.eye(4)):
            node["matrix"] = [float(one) for one in placed.to_world.T.ravel()]  # column by column
        faces = _faces_with_area(placed.mesh.faces)
        if len(faces):
            primitive = self._primitive(placed.mesh, faces, placed.name)
            node["mesh"] = self._append("meshes", name=placed.name, primitives=[primitive])
        self._append("nodes", **node)

    def to_bytes(self) -> bytes:
        """Return the file."""
        nodes = len(self._lists.get("nodes", ()))
        root: dict[str, object] = {
            "asset": {"version": "2.0", "generator": "Maskwire"},
            "scene": 0,
            "scenes": [{"nodes": list(range(nodes))} if nodes else {}],
            **self._lists,
        }
        if self._buffer_bytes:
            root["buffers"] = [{"byteLength": self._buffer_bytes}]
        text = json.dumps(root, separators=(",", ":"), allow_nan=False).encode("ascii")
        chunks = [_chunk(_JSON_CHUNK, [text + b" " * _padding(len(text))])]
        if self._buffer_bytes:
            chunks.append(_chunk(_BINARY_CHUNK, self._parts))
        size = 12 + sum(map(len, chunks))
        return b"".join([_MAGIC, struct.pack("<II", _VERSION, size), *chunks])

    def _primitive(self, mesh: Mesh, faces: NDArray[np.int32], name: str) -> dict[str, object]:
        vertices = np.ascontiguousarray(mesh.vertices, dtype="<f4")
        attributes = {
            "POSITION": self._vectors(vertices, name, has_bounds=True),
            "NORMAL": self._vectors(vertex_normals(vertices, faces), name),
        }
        if mesh.texture_coordinates is not None and mesh.texture is not None:
            attributes["TEXCOORD_0"] = self._vectors(mesh.texture_coordinates, name)
        elif mesh.vertex_colors is not None:
            attributes["COLOR_0"] = self._vectors(_linear(mesh.vertex_colors), name)
        return {
            "attributes": attributes,
            "indices": self._indices(faces, len(vertices)),
            "material": self._material(mesh.texture),
        }

    def _vectors(self, array: NDArray[np.float32], name: str, has_bounds: bool = False) -> int:
        if not np.isfinite(array).all():
            raise ValueError(f"the mesh of {name} must be finite")
        bounds = (
            {"min": array.min(axis=0).tolist(), "max": array.max(axis=0).tolist()}
            if has_bounds
            else {}
        )
        data = np.ascontiguousarray(array, dtype="<f4").tobytes()
        return self._append(
            "accessors",
            bufferView=self._view(data, target=_VERTEX_BUFFER),
            componentType=_FLOAT,
            count=len(array),
            type=f"VEC{array.shape[1]}",
            **bounds,
        )

    def _indices(self, faces: NDArray[np.int32], vertex_count: int) -> int:
        is_small = vertex_count <= _MOST_UINT16_VERTICES
        data = faces.astype("<u2" if is_small else "<u4").tobytes()
        return self._append(
            "accessors",
            bufferView=self._view(data, target=_INDEX_BUFFER),
            componentType=_UINT16 if is_small else _UINT32,
            count=faces.size,
            type="SCALAR",
        )

    def _material(self, texture: NDArray[np.uint8] | None) -> int:
        key = 0 if texture is None else id(texture)
        if key not in self._materials:
            surface: dict[str, object] = {"metallicFactor": 0, "roughnessFactor": 1}
            if texture is not None:
                surface["baseColorTexture"] = {"index": self._texture(texture)}
            self._materials[key] = self._append("materials", pbrMetallicRoughness=surface)
        return self._materials[key]

    def _texture(self, texture: NDArray[np.uint8]) -> int:
        data = encode_picture(texture, PictureFormat.JPEG, TEXTURE_QUALITY)
        image = self._append("images", bufferView=self._view(data), mimeType="image/jpeg")
        if "samplers" not in self._lists:
            self._append(
                "samplers",
                magFilter=_LINEAR,
                minFilter=_LINEAR_MIPMAP_LINEAR,
                wrapS=_CLAMP_TO_EDGE,
                wrapT=_CLAMP_TO_EDGE,
            )
        return self._append("textures", sampler=0, source=image)

    def _view(self, data: bytes, **properties: object) -> int:
        view = self._append(
            "bufferViews",
            buffer=0,
            byteOffset=self._buffer_bytes,
            byteLength=len(data),
            **properties,
        )
        padded = data + b"\0" * _padding(len(data))
        self._parts.append(padded)
        self._buffer_bytes += len(padded)
        return view

    def _append(self, group: str, **properties: object) -> int:
        members = self._lists.setdefault(group, [])
        members.append(properties)
        return len(members) - 1


def _chunk(kind: bytes, parts: Sequence[bytes]) -> bytes:
    return b"".join([struct.pack("<I", sum(map(len, parts))), kind, *parts])


def _padding(size_bytes: int) -> int:
    return -size_bytes % _ALIGNMENT_BYTES


def _faces_with_area(faces: NDArray[np.int32]) -> NDArray[np.int32]:
    a, b, c = faces.T
    kept: NDArray[np.int32] = faces[(a != b) & (b != c) & (c != a)]
    return kept


def _linear(colors: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return sRGB colours as linear ones from 0 to 1, which is what glTF has in vertices."""
    levels = np.arange(256) / 255
    curve = np.where(
        levels <= _SRGB_LINEAR_UP_TO, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4
    )
    linear: NDArray[np.float32] = curve.astype(np.float32)[colors]
    return linear
