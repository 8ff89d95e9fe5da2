"""A picture of a scene from eight sides, drawn without perspective.

The camera goes around the scene at a slight elevation, always at the same scale: view 0 is from
where the photograph was taken, 90 degrees from the right of it. Light comes from the camera's upper
left, so that shapes show; what a texture has of light and shadow stays in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ...pictures import PictureFormat, encode_picture
from ..geometry import Mesh
from .normals import vertex_normals
from .rasterizer import Raster, rasterize
from .scene import PlacedMesh

PNG_TYPE = PictureFormat.PNG.value
"""Media type of the picture."""

AZIMUTHS_DEG = tuple(range(0, 360, 45))
"""Where the camera stands: degrees from the front, to the right seen from the camera."""

ELEVATION_DEG = 10.0
"""How far above the horizon the camera stands."""

VIEW_PX = 256
"""Width and height of one view."""

_COLUMNS = 4
_LABEL_PX = 22
_MARGIN = 0.06  # of a view, free on each side
_BACKGROUND = (236, 236, 238)
_TEXT = (70, 70, 74)
_BARE = (178, 178, 182)  # of meshes without colour
_SUPERSAMPLING = 2
_AMBIENT = 0.55
_LIGHT = np.array([-0.35, 0.45, 0.82], dtype=np.float32)  # right, up and towards the viewer
_REMAP_COLUMNS = 512
_TEXELS_PER_PX = 2  # more of them would only flicker, and textures are not filtered here


@dataclass(frozen=True, slots=True)
class _Surface:
    """All meshes of a scene as one, ready to be seen from any side.

    Attributes:
        positions: Shape (n, 3), float32: around the scene's centre, at most 1 from it.
        attributes: Shape (n, 8), float32: normal, colour from 0 to 255, texture coordinates. The
            colour is unused where there is a texture, the coordinates where there is none.
        faces: Shape (m, 3), int32.
        textures: By number; None for meshes without one.
        texture_of_face: Shape (m,), int32: number of the texture.
    """

    positions: NDArray[np.float32]
    attributes: NDArray[np.float32]
    faces: NDArray[np.int32]
    textures: tuple[NDArray[np.uint8] | None, ...]
    texture_of_face: NDArray[np.int32]


def turntable_png(objects: Sequence[PlacedMesh]) -> bytes:
    """Draw a scene from all sides as one PNG picture.

    Args:
        objects: The meshes, finite, in glTF's world. Surfaces are seen from outside only.
    """
    surface = _surface(objects, VIEW_PX)
    rows = -(-len(AZIMUTHS_DEG) // _COLUMNS)
    sheet = np.full(
        (rows * (VIEW_PX + _LABEL_PX), _COLUMNS * VIEW_PX, 3), _BACKGROUND, dtype=np.uint8
    )
    for index, azimuth in enumerate(AZIMUTHS_DEG):
        top = index // _COLUMNS * (VIEW_PX + _LABEL_PX)
        left = index % _COLUMNS * VIEW_PX
        view = _draw(surface, azimuth, ELEVATION_DEG, VIEW_PX * _SUPERSAMPLING)
        small = cv2.resize(view, (VIEW_PX, VIEW_PX), interpolation=cv2.INTER_AREA)
        sheet[top : top + VIEW_PX, left : left + VIEW_PX] = small
        _label(sheet, f"{azimuth} deg", left, top + VIEW_PX)
    return encode_picture(sheet, PictureFormat.PNG)


def _surface(objects: Sequence[PlacedMesh], side_px: int) -> _Surface:
    parts = [one for one in objects if len(one.mesh.faces) and len(one.mesh.vertices)]
    starts = np.cumsum([0, *(len(one.mesh.vertices) for one in parts)])
    positions = [np.zeros((0, 3))]
    positions += [one.mesh.vertices @ one.to_world[:3, :3].T + one.to_world[:3, 3] for one in parts]
    together = _centred(np.concatenate(positions))
    faces = [np.zeros((0, 3), dtype=np.int64)]
    faces += [one.mesh.faces + start for one, start in zip(parts, starts, strict=False)]
    attributes = [np.zeros((0, 8), dtype=np.float32)]
    attributes += [
        _attributes(one.mesh, together[start : start + len(one.mesh.vertices)])
        for one, start in zip(parts, starts, strict=False)
    ]
    return _Surface(
        positions=together,
        attributes=np.concatenate(attributes),
        faces=np.concatenate(faces).astype(np.int32),
        textures=tuple(_shrunk(one.mesh.texture, side_px) for one in parts),
        texture_of_face=np.repeat(
            np.arange(len(parts), dtype=np.int32), [len(one.mesh.faces) for one in parts]
        ),
    )


def _centred(positions: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return positions around the centre of their box, the farthest at distance 1."""
    if not len(positions):
        return positions.astype(np.float32)
    around = positions - (positions.min(axis=0) + positions.max(axis=0)) / 2
    radius = float(np.linalg.norm(around, axis=1).max())
    scaled: NDArray[np.float64] = around / max(radius, float(np.finfo(np.float64).tiny))
    return scaled.astype(np.float32)


def _attributes(mesh: Mesh, positions: NDArray[np.float32]) -> NDArray[np.float32]:
    attributes = np.zeros((len(positions), 8), dtype=np.float32)
    attributes[:, :3] = vertex_normals(positions, mesh.faces)
    attributes[:, 3:6] = _BARE if mesh.vertex_colors is None else mesh.vertex_colors
    if mesh.texture_coordinates is not None:
        attributes[:, 6:] = mesh.texture_coordinates
    return attributes


def _shrunk(texture: NDArray[np.uint8] | None, side_px: int) -> NDArray[np.uint8] | None:
    """Return a texture with no more detail than a view shows."""
    if texture is None:
        return None
    factor = _TEXELS_PER_PX * side_px / max(texture.shape[:2])
    if factor >= 1:
        return np.ascontiguousarray(texture)
    size = (max(1, round(texture.shape[1] * factor)), max(1, round(texture.shape[0] * factor)))
    return np.asarray(cv2.resize(texture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _draw(
    surface: _Surface, azimuth_deg: float, elevation_deg: float, side_px: int
) -> NDArray[np.uint8]:
    """Draw a surface: shape (side, side, 3), uint8, RGB."""
    axes = _camera_axes(azimuth_deg, elevation_deg)
    half = side_px / 2
    scale = half * (1 - 2 * _MARGIN) * np.array([1, -1, 1], dtype=np.float32)
    seen = _turned(surface.positions, axes) * scale + np.array([half, half, 0], dtype=np.float32)
    raster = rasterize(seen, surface.faces, side_px)
    picture = np.empty((side_px, side_px, 3), dtype=np.uint8)
    picture[:] = _BACKGROUND
    is_hit = raster.triangles >= 0
    if is_hit.any():
        attributes = _interpolated(surface, raster, is_hit)
        colors = _textured(surface, raster.triangles[is_hit], attributes)
        light = _brightness(_turned(attributes[:, :3], axes))
        picture[is_hit] = np.clip(colors * light[:, None] + 0.5, 0, 255)
    return picture


def _camera_axes(azimuth_deg: float, elevation_deg: float) -> NDArray[np.float32]:
    """Return the camera's right, up and backward directions in the world, as rows: (3, 3)."""
    azimuth, elevation = np.deg2rad(azimuth_deg), np.deg2rad(elevation_deg)
    sin, cos = np.sin(azimuth), np.cos(azimuth)
    right = np.array([cos, 0, -sin])
    back = np.array([sin * np.cos(elevation), np.sin(elevation), cos * np.cos(elevation)])
    return np.stack([right, np.cross(back, right), back]).astype(np.float32)


def _turned(vectors: NDArray[np.float32], axes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return vectors along axes; not by `@`, which starts threads that cost more than they do."""
    turned: NDArray[np.float32] = np.einsum("ij,kj->ik", vectors, axes)
    return turned


def _textured(
    surface: _Surface, triangles: NDArray[np.int32], attributes: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the colours at the pixels that show something: shape (hits, 3), 0 to 255."""
    colors = attributes[:, 3:6]
    number = surface.texture_of_face[triangles]
    for index, texture in enumerate(surface.textures):
        chosen = np.flatnonzero(number == index)
        if texture is not None and len(chosen):
            colors[chosen] = _sampled(texture, attributes[chosen, 6:])
    return colors


def _sampled(texture: NDArray[np.uint8], coordinates: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a texture's colours at coordinates (n, 2): shape (n, 3); edges go on outside."""
    size = np.array([texture.shape[1], texture.shape[0]], dtype=np.float32)
    # As a picture of some rows, because OpenCV takes no long columns.
    rows = -(-len(coordinates) // _REMAP_COLUMNS)
    places = np.zeros((rows * _REMAP_COLUMNS, 2), dtype=np.float32)
    places[: len(coordinates)] = coordinates * size - np.float32(0.5)
    x, y = np.ascontiguousarray(places.reshape(rows, _REMAP_COLUMNS, 2).transpose(2, 0, 1))
    sampled = cv2.remap(texture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(sampled, dtype=np.uint8).reshape(-1, 3)[: len(coordinates)]


def _interpolated(
    surface: _Surface, raster: Raster, is_hit: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return the attributes at the pixels that show something: shape (hits, 8)."""
    corners = surface.faces[raster.triangles[is_hit]]
    weights = raster.weights[is_hit]
    total = np.zeros((len(corners), 8), dtype=np.float32)
    for corner in range(3):
        values = np.take(surface.attributes, corners[:, corner], axis=0)
        total += values * weights[:, corner : corner + 1]
    return total


def _brightness(normals: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how light surfaces are, given normals along the camera's axes."""
    lengths = np.maximum(np.linalg.norm(normals, axis=1), np.finfo(np.float32).tiny)
    facing = np.clip(normals @ (_LIGHT / np.linalg.norm(_LIGHT)) / lengths, 0, 1)
    brightness: NDArray[np.float32] = _AMBIENT + (1 - _AMBIENT) * facing
    return brightness


def _label(sheet: NDArray[np.uint8], text: str, left: int, top: int) -> None:
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.45
    (width, height), _ = cv2.getTextSize(text, font, scale, 1)
    origin = (left + (VIEW_PX - width) // 2, top + (_LABEL_PX + height) // 2 - 2)
    cv2.putText(sheet, text, origin, font, scale, _TEXT, 1, cv2.LINE_AA)
