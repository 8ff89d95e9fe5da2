"""The rasteriser, beside a slow one that asks every triangle at every pixel."""

from __future__ import annotations

import numpy as np
import pytest

from maskwire_server.domain.reconstruction.formats import rasterizer
from maskwire_server.domain.reconstruction.formats.rasterizer import rasterize


def corners(*points: tuple[float, float, float]) -> np.ndarray:
    return np.array(points, dtype=np.float32)


def faces(*triangles: list[int]) -> np.ndarray:
    return np.array(triangles, dtype=np.int32)


def slowly(positions: np.ndarray, triangles: np.ndarray, side: int) -> np.ndarray:
    """Return the depth at each pixel; -inf where there is nothing."""
    x, y = np.meshgrid(np.arange(side) + 0.5, np.arange(side) + 0.5)
    depth = np.full((side, side), -np.inf)
    for a, b, c in positions[triangles].astype(np.float64):
        matrix = np.array([[a[0], b[0], c[0]], [a[1], b[1], c[1]], [1, 1, 1]])
        if np.linalg.det(matrix) >= -1e-9:
            continue
        weights = np.linalg.solve(matrix, np.stack([x, y, np.ones_like(x)]).reshape(3, -1))
        here = (weights.T @ [a[2], b[2], c[2]]).reshape(side, side)
        inside = (weights >= 0).all(axis=0).reshape(side, side)
        depth = np.where(inside & (here > depth), here, depth)
    return depth


def test_a_triangle_covers_the_pixel_centres_in_it() -> None:
    # With y down, counter-clockwise to the eye: along the left side down, then right, then back.
    positions = corners((0, 0, 0), (0, 4, 0), (4, 4, 0))
    raster = rasterize(positions, faces([0, 1, 2]), 4)
    expected = np.tril(np.ones((4, 4))) > 0
    assert np.array_equal(raster.triangles == 0, expected)
    assert (raster.triangles[~expected] == -1).all()
    # At the centre of the pixel bottom left: 1/8 of the top, 3/4 of the corner, 1/8 of the right.
    assert np.allclose(raster.weights[3, 0], [0.125, 0.75, 0.125])


def test_a_back_side_is_not_seen() -> None:
    positions = corners((0, 0, 0), (0, 4, 0), (4, 4, 0))
    assert (rasterize(positions, faces([0, 2, 1]), 4).triangles == -1).all()


def test_what_is_nearer_hides_the_rest_whatever_the_order() -> None:
    near = [(0, 0, 5), (0, 8, 5), (8, 8, 5)]
    far = [(0, 0, 1), (0, 8, 1), (8, 8, 1)]
    for points, nearest in ((near + far, 0), (far + near, 1)):
        raster = rasterize(corners(*points), faces([0, 1, 2], [3, 4, 5]), 8)
        assert set(np.unique(raster.triangles)) == {-1, nearest}


def test_neighbours_leave_no_cracks() -> None:
    # A fan about a pixel centre: every edge runs through centres.
    around = [(8.5 + 8 * np.cos(a), 8.5 - 8 * np.sin(a), 0) for a in np.arange(16) * np.pi / 8]
    positions = corners((8.5, 8.5, 0), *around)
    triangles = faces(*([0, 1 + i, 1 + (i + 1) % 16] for i in range(16)))
    seen = rasterize(positions, triangles, 17).triangles >= 0
    x, y = np.meshgrid(np.arange(17) - 8, np.arange(17) - 8)
    assert seen[np.hypot(x, y) < 7.8].all()
    assert not seen[np.hypot(x, y) > 8.01].any()


@pytest.mark.parametrize("batch", [2**20, 64])
@pytest.mark.parametrize("seed", range(4))
def test_random_triangles_as_seen_slowly(
    seed: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rasterizer, "_MOST_CANDIDATES", batch)
    random = np.random.default_rng(seed)
    # Some lie partly outside the picture.
    positions = random.uniform(-8, 40, (60, 3)).astype(np.float32)
    triangles = random.permuted(np.tile(np.arange(60), (200, 1)), axis=1)[:, :3]
    raster = rasterize(positions, triangles.astype(np.int32), 32)
    expected = slowly(positions, triangles, 32)
    seen = raster.triangles >= 0
    assert (seen != np.isfinite(expected)).sum() <= 2  # a centre on an edge may go either way
    depths = positions[triangles[raster.triangles], 2]
    depth = (depths * raster.weights).sum(axis=2)
    both = seen & np.isfinite(expected)
    assert (np.abs(depth - expected)[both] > 0.01).sum() <= 4


def test_nothing_gives_an_empty_picture() -> None:
    raster = rasterize(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32), 4)
    assert (raster.triangles == -1).all()
