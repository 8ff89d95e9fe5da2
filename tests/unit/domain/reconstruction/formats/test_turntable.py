"""The turntable: which side each view shows, at which size, and the picture as a file."""

from __future__ import annotations

import cv2
import numpy as np

from maskwire_server.domain.reconstruction.formats.scene import (
    PlacedMesh,
    body_meshes,
    object_meshes,
    unplaced,
)
from maskwire_server.domain.reconstruction.formats.turntable import (
    AZIMUTHS_DEG,
    VIEW_PX,
    turntable_png,
)
from maskwire_server.domain.reconstruction.geometry import Mesh
from tests.support.reconstructed_shapes import (
    body,
    box,
    coloured,
    quarters,
    scene_of,
    sphere,
    textured,
)

CELL_PX = VIEW_PX + 22
RED, GREEN, BLUE = (1, 0, 0), (0, 1, 0), (0, 0, 1)


def views(*placed: PlacedMesh) -> list[np.ndarray]:
    """Return the views by azimuth: shape (side, side, 3), RGB."""
    encoded = np.frombuffer(turntable_png(placed), np.uint8)
    sheet = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))[:, :, ::-1].astype(int)
    assert sheet.shape == (2 * CELL_PX, 4 * VIEW_PX, 3)
    cells = []
    for index in range(len(AZIMUTHS_DEG)):
        top, left = index // 4 * CELL_PX, index % 4 * VIEW_PX
        cells.append(sheet[top : top + VIEW_PX, left : left + VIEW_PX])
    return cells


def shown(view: np.ndarray) -> np.ndarray:
    """Return where a view shows something."""
    return np.abs(view - view[0, 0]).max(axis=2) > 12


def is_mostly(color: np.ndarray, hue: tuple[int, int, int]) -> bool:
    return int(np.argmax(color)) == hue.index(1) and color.max() > 2 * np.median(color)


def by_sides(mesh: Mesh) -> Mesh:
    """Colour a mesh red at its right, green at its front and blue elsewhere."""
    right = mesh.vertices[:, 0] > 0.35
    front = mesh.vertices[:, 2] > 0.35
    colors = np.where(
        right[:, None], (250, 0, 0), np.where(front[:, None], (0, 250, 0), (0, 0, 250))
    )
    return Mesh(mesh.vertices, mesh.faces, vertex_colors=colors.astype(np.uint8))


def test_the_first_view_is_the_photograph_not_mirrored() -> None:
    front = views(unplaced(textured(sphere(4), quarters()), "object_000"))[0]
    assert is_mostly(front[90, 90], RED)
    assert is_mostly(front[90, 166], GREEN)
    assert is_mostly(front[166, 90], BLUE)


def test_an_object_of_a_scene_is_upright_too() -> None:
    front = views(*object_meshes(scene_of(textured(sphere(4), quarters()))))[0]
    assert is_mostly(front[90, 90], RED)
    assert is_mostly(front[166, 90], BLUE)


def test_what_is_right_in_the_camera_frame_is_right_in_the_first_view() -> None:
    scene = scene_of(box(), by_sides(sphere(4)))  # the second stands at larger x, and is smaller
    front = views(*object_meshes(scene))[0]
    where = np.argwhere((front[:, :, 1] > 150) & (front[:, :, 0] < 60))
    assert where[:, 1].min() > VIEW_PX // 2


def test_the_camera_goes_around_to_the_right() -> None:
    around = views(unplaced(by_sides(sphere(4)), "object_000"))
    centre = VIEW_PX // 2
    assert is_mostly(around[0][centre, centre], GREEN)
    assert is_mostly(around[AZIMUTHS_DEG.index(90)][centre, centre], RED)
    assert is_mostly(around[AZIMUTHS_DEG.index(180)][centre, centre], BLUE)
    # Seen from the right, the front is at the left.
    assert is_mostly(around[AZIMUTHS_DEG.index(90)][centre, 40], GREEN)


def test_the_top_is_seen_a_little() -> None:
    colors = np.where(sphere(4).vertices[:, 1:2] > 0.45, (250, 0, 0), (0, 0, 250))
    cap = Mesh(sphere(4).vertices, sphere(4).faces, vertex_colors=colors.astype(np.uint8))
    front = views(unplaced(cap, "object_000"))[0]
    rows = np.argwhere((front[:, :, 0] > 120) & (front[:, :, 2] < 60))[:, 0]
    # The cap's edge towards the camera is 0.405 of the height above the centre; from below, 0.481.
    assert abs(rows.max() - (VIEW_PX / 2 - 0.405 * 0.88 * VIEW_PX)) <= 4


def test_all_views_have_one_scale_and_nothing_is_cut_off() -> None:
    tall = Mesh((box().vertices * [0.2, 1.0, 0.6]).astype(np.float32), box().faces)
    heights, widths = [], []
    for view in views(unplaced(tall, "object_000")):
        seen = shown(view)
        assert not np.concatenate([seen[0], seen[-1], seen[:, 0], seen[:, -1]]).any()
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        heights.append(np.ptp(rows) + 1)
        widths.append(np.ptp(columns) + 1)
    # Of a box of 0.2 x 1 x 0.6 the diagonal, 1.183, is 0.88 of a view: 1 is 190.4 pixels.
    assert abs(widths[0] - 0.2 * 190.4) <= 2
    assert abs(widths[AZIMUTHS_DEG.index(90)] - 0.6 * 190.4) <= 2
    # The height gains the depth, times the sine of the elevation of 10 degrees.
    assert abs(heights[0] - (np.cos(np.deg2rad(10)) + 0.6 * np.sin(np.deg2rad(10))) * 190.4) <= 2


def test_where_it_stands_and_how_large_it_is_change_nothing() -> None:
    matrix = np.diag([1e-3, 1e-3, 1e-3, 1.0])
    matrix[:3, 3] = (100.0, -50.0, -1000.0)
    mesh = coloured(sphere())
    here, there = unplaced(mesh, "object_000"), PlacedMesh(mesh, matrix, "object_000")
    differences = [
        np.abs(a - b).max(axis=2) > 24 for a, b in zip(views(here), views(there), strict=True)
    ]
    assert max(one.sum() for one in differences) < 20


def test_people_stand_upright() -> None:
    front = shown(views(*body_meshes([body()]))[0])
    rows, columns = np.flatnonzero(front.any(axis=1)), np.flatnonzero(front.any(axis=0))
    assert np.ptp(rows) > 2 * np.ptp(columns)


def test_an_empty_scene_is_an_empty_picture() -> None:
    assert not any(shown(view).any() for view in views())


def test_every_view_is_labelled() -> None:
    encoded = np.frombuffer(turntable_png([]), np.uint8)
    sheet = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE))
    labels = {
        sheet[row + VIEW_PX : row + CELL_PX, column : column + VIEW_PX].tobytes()
        for row in (0, CELL_PX)
        for column in range(0, 4 * VIEW_PX, VIEW_PX)
    }
    assert len(labels) == len(AZIMUTHS_DEG)
