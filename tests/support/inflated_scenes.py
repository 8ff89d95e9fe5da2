"""Random masks, and point maps of a sphere, a box and a plane that are known exactly."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.reconstruction.engine import ReconstructedScene
from maskwire_server.domain.reconstruction.geometry import Intrinsics, Mesh, Pose

CAMERA = Intrinsics(500.0, 520.0, 170.0, 110.0)
"""Neither square nor centred."""

SIZE = ImageSize(320, 240)


@dataclass(frozen=True, slots=True)
class Solid:
    """Something seen: its mask, its point map and how far points are from its surface."""

    mask: NDArray[np.bool_]
    points: NDArray[np.float32]
    extent_m: float


def disc(side_px: int, radius_px: float) -> NDArray[np.bool_]:
    y, x = np.mgrid[:side_px, :side_px] + 0.5
    return np.hypot(x - side_px / 2, y - side_px / 2) < radius_px


def camera_rays(size: ImageSize = SIZE, camera: Intrinsics = CAMERA) -> NDArray[np.float64]:
    y, x = np.mgrid[: size.height_px, : size.width_px] + 0.5
    return np.stack(
        [
            (x - camera.principal_point_x_px) / camera.focal_length_x_px,
            (y - camera.principal_point_y_px) / camera.focal_length_y_px,
            np.ones_like(x),
        ],
        axis=2,
    )


SPHERE_CENTRE, SPHERE_RADIUS = np.array([0.12, -0.05, 2.5]), 0.45


def sphere() -> Solid:
    rays = camera_rays()
    a = (rays**2).sum(2)
    b = rays @ SPHERE_CENTRE
    discriminant = b**2 - a * (SPHERE_CENTRE @ SPHERE_CENTRE - SPHERE_RADIUS**2)
    mask = discriminant > 0
    depth = np.where(mask, (b - np.sqrt(np.maximum(discriminant, 0))) / a, np.nan)
    return Solid(mask, (rays * depth[..., None]).astype(np.float32), 2 * SPHERE_RADIUS)


def distance_from_sphere(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.abs(np.linalg.norm(points - SPHERE_CENTRE, axis=1) - SPHERE_RADIUS)


PLANE_NORMAL = np.array([0.5, -0.3, -1.0]) / np.linalg.norm([0.5, -0.3, -1.0])
PLANE_OFFSET = float(PLANE_NORMAL @ [0.0, 0.0, 3.0])


def plane() -> Solid:
    rays = camera_rays()
    depth = PLANE_OFFSET / (rays @ PLANE_NORMAL)
    mask = np.zeros(depth.shape, np.bool_)
    mask[40:200, 60:280] = True
    points = (rays * np.where(mask, depth, np.nan)[..., None]).astype(np.float32)
    return Solid(mask, points, float(np.nanmax(np.ptp(points[mask], axis=0))))


def distance_from_plane(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.abs(points @ PLANE_NORMAL - PLANE_OFFSET)


BOX_HALF = np.array([0.4, 0.25, 0.3])
BOX_CENTRE = np.array([-0.05, 0.1, 3.0])
BOX_TURN = cv2.Rodrigues(np.array([0.3, 0.6, 0.1]))[0]


def box() -> Solid:
    rays = camera_rays()
    directions, start = rays @ BOX_TURN, -BOX_CENTRE @ BOX_TURN
    first, second = (-BOX_HALF - start) / directions, (BOX_HALF - start) / directions
    near, far = np.minimum(first, second).max(axis=2), np.maximum(first, second).min(axis=2)
    mask = near < far
    points = rays * np.where(mask, near, np.nan)[..., None]
    return Solid(mask, points.astype(np.float32), float(2 * BOX_HALF.max()))


def distance_from_box(points: NDArray[np.float64]) -> NDArray[np.float64]:
    beyond = np.abs((points - BOX_CENTRE) @ BOX_TURN) - BOX_HALF
    outside = np.linalg.norm(np.maximum(beyond, 0), axis=1)
    return np.abs(outside + np.minimum(beyond.max(axis=1), 0))


def random_mask(number: int) -> NDArray[np.bool_]:
    """Return a mask of one of eight kinds, the same for the same number; never empty."""
    random = np.random.default_rng(number)
    height, width = (int(side) for side in random.integers(1, 90, 2) + (6 if number % 3 else 0))
    make = _KINDS_OF_MASKS[number % len(_KINDS_OF_MASKS)]
    mask = make(random, height, width)
    if not mask.any():
        mask[height // 2, width // 2] = True
    return mask


def _dots(random: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    return random.random((height, width)) < random.uniform(0.05, 0.9)


def _blobs(random: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    smooth = ndimage.gaussian_filter(random.random((height, width)), random.uniform(1, 6))
    return np.asarray(smooth > np.quantile(smooth, random.uniform(0.1, 0.9)))


def _lines(random: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    picture = np.zeros((height, width), np.uint8)
    for _ in range(random.integers(1, 6)):
        ends = [tuple(map(int, random.integers(0, (width, height)))) for _ in range(2)]
        cv2.line(picture, ends[0], ends[1], 1, int(random.integers(1, 3)))
    return picture.astype(np.bool_)


def _ring(random: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(y - height / 2, x - width / 2)
    return np.abs(distance - min(height, width) / 3) < random.uniform(0.4, 6)


def _chessboard(random: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    return np.add.outer(np.arange(height), np.arange(width)) % 2 == random.integers(2)


def _holes(random: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    return random.random((height, width)) > 0.1


def _one_pixel(random: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), np.bool_)
    mask[random.integers(height), random.integers(width)] = True
    return mask


def _rectangles(random: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), np.bool_)
    for _ in range(random.integers(1, 7)):
        top, left = random.integers(0, (height, width))
        mask[top : top + random.integers(1, 30), left : left + random.integers(1, 30)] ^= True
    return mask


_KINDS_OF_MASKS = (_dots, _blobs, _lines, _ring, _chessboard, _holes, _one_pixel, _rectangles)


def camera_points(mesh: Mesh, pose: Pose) -> NDArray[np.float64]:
    """Return a mesh's vertices in the camera frame, by the contract's formula alone."""
    q = pose.rotation
    x, y, z, w = q.x, q.y, q.z, q.w
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    scaled = mesh.vertices.astype(np.float64) * pose.scale
    return scaled @ rotation.T + pose.translation


def silhouette(scene: ReconstructedScene, index: int, size: ImageSize) -> NDArray[np.bool_]:
    """Return the pixels whose centres an object's projected triangles cover."""
    model, camera = scene.objects[index], scene.intrinsics
    points = camera_points(model.mesh, model.pose)
    x = points[:, 0] / points[:, 2] * camera.focal_length_x_px + camera.principal_point_x_px
    y = points[:, 1] / points[:, 2] * camera.focal_length_y_px + camera.principal_point_y_px
    return _covered(x[model.mesh.faces], y[model.mesh.faces], size)


def _covered(x: NDArray[np.float64], y: NDArray[np.float64], size: ImageSize) -> NDArray[np.bool_]:
    """Return the pixels whose centres triangles, two arrays of shape (n, 3), cover."""
    left, top = (np.ceil(one.min(axis=1) - 0.5).astype(np.intp) for one in (x, y))
    right, bottom = (np.floor(one.max(axis=1) - 0.5).astype(np.intp) for one in (x, y))
    seen = np.zeros((size.height_px, size.width_px), np.bool_)
    for down in range(int((bottom - top).max()) + 1):
        for across in range(int((right - left).max()) + 1):
            rows, columns = top + down, left + across
            near = (rows <= bottom) & (columns <= right) & (rows >= 0) & (columns >= 0)
            near &= (rows < size.height_px) & (columns < size.width_px)
            inside = _holds(x[near], y[near], columns[near] + 0.5, rows[near] + 0.5)
            seen[rows[near][inside], columns[near][inside]] = True
    return seen


def _holds(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    at_x: NDArray[np.float64],
    at_y: NDArray[np.float64],
) -> NDArray[np.bool_]:
    sides = np.stack(
        [
            (x[:, j] - x[:, i]) * (at_y - y[:, i]) - (y[:, j] - y[:, i]) * (at_x - x[:, i])
            for i, j in ((0, 1), (1, 2), (2, 0))
        ]
    )
    slack = 1e-6
    return np.asarray((sides >= -slack).all(axis=0) | (sides <= slack).all(axis=0))
