"""Windows: where they lie, what they cut, and how answers come back to the image."""

import numpy as np
import pytest

from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.engines.nano import views, windows

IMAGE = ImageSize(width_px=200, height_px=100)
NO_POINTS = (np.empty((0, 2), np.float32), np.empty(0, np.bool_))


def test_a_window_is_moved_into_the_image() -> None:
    window = windows.window_around(2, 98, 50, 100, 200)
    assert (window.left, window.top, window.side) == (0, 50, 50)


def test_a_window_larger_than_the_image_is_centred() -> None:
    window = windows.window_around(10, 10, 220, 100, 200)
    assert (window.left, window.top, window.side) == (-10, -60, 220)


def test_what_lies_beyond_the_image_is_padding() -> None:
    picture = np.full((100, 200, 3), 7, np.uint8)
    cut = windows.cut(picture, windows.Window(0, -50, 200), 64)
    assert (cut[:15] == windows.PADDING).all()
    assert (cut[20:40] == 7).all()
    assert (cut[50:] == windows.PADDING).all()


@pytest.mark.parametrize("side", [20, 64, 90])
def test_a_cut_shows_the_window_in_place(side: int) -> None:
    picture = np.zeros((100, 200), np.uint8)
    picture[40:60, 100:120] = 255
    cut = windows.cut(picture, windows.Window(95, 10, side), 64)
    x, y = (110 - 95) * 64 / side, (50 - 10) * 64 / side
    inside = 0 <= y < 64 and 0 <= x < 64
    assert not inside or cut[int(y), int(x)] == 255
    assert cut[0, 0] == 0


def test_the_box_of_a_mask_is_half_open() -> None:
    mask = np.zeros((10, 10), bool)
    assert windows.mask_box(mask) is None
    mask[2:5, 3:9] = True
    assert windows.mask_box(mask) == (3, 2, 9, 5)


def test_a_box_prompt_gives_one_window_around_it() -> None:
    prompts = ObjectPrompts(1, *NO_POINTS, Box(80, 30, 120, 50), None)
    (view,) = views.first_views(prompts, IMAGE, 64)
    assert view.window == windows.Window(68, 8, 64)
    corners = view.box * view.window.side
    np.testing.assert_allclose(corners, [12, 22, 52, 42], atol=1e-4)
    assert (view.previous == -1).all()


def test_clicks_alone_give_windows_of_several_scales() -> None:
    prompts = ObjectPrompts(
        1, np.array([[100, 50], [110, 55]], np.float32), np.array([True, False]), None, None
    )
    found = views.first_views(prompts, IMAGE, 64)
    assert [view.window.side for view in found] == [44, 90, 200]
    assert [view.size for view in found] == [64, 48, 48], "wide windows are seen coarser"
    for view in found:
        place = view.clicks[:, :2] * view.window.side + [view.window.left, view.window.top]
        np.testing.assert_allclose(place, prompts.points, atol=1e-3)
        assert list(view.clicks[:, 2]) == [1, 0]


def test_a_click_beyond_the_earlier_mask_widens_the_window() -> None:
    mask = np.zeros((100, 200), bool)
    mask[40:60, 20:40] = True
    points, labels = np.array([[180, 50]], np.float32), np.array([True])
    (narrow,) = views.first_views(ObjectPrompts(1, *NO_POINTS, None, mask), IMAGE, 64)
    (wide,) = views.first_views(ObjectPrompts(1, points, labels, None, mask), IMAGE, 64)
    assert narrow.window.side == 32
    assert wide.window.left <= 20
    assert wide.window.left + wide.window.side >= 180


def test_a_mask_prompt_is_drawn_where_it_lies() -> None:
    mask = np.zeros((100, 200), bool)
    mask[40:60, 20:40] = True
    (view,) = views.first_views(ObjectPrompts(1, *NO_POINTS, None, mask), IMAGE, 64)
    np.testing.assert_array_equal(view.previous > 0.5, _expected(view.window))


def test_earlier_logits_are_drawn_where_they_lie() -> None:
    values = np.full((20, 20), -8, np.float32)
    values[:10] = 8
    logits = MaskLogits(values, Box(20, 40, 40, 60))
    (view,) = views.first_views(ObjectPrompts(1, *NO_POINTS, None, logits), IMAGE, 56)
    left, top, side = view.window.left, view.window.top, view.window.side
    scale = 56 / side
    inside = view.previous[int((45 - top) * scale), int((30 - left) * scale)]
    below = view.previous[int((55 - top) * scale), int((30 - left) * scale)]
    beyond = view.previous[int((39 - top) * scale) - 1, int((30 - left) * scale)]
    assert inside > 0.9
    assert below < 0.1
    assert beyond == 0


def _expected(window: windows.Window) -> np.ndarray:
    ticks = (np.arange(64) + 0.5) * window.side / 64
    columns, rows = window.left + ticks, window.top + ticks
    inside_x, inside_y = (columns > 20) & (columns < 40), (rows > 40) & (rows < 60)
    return inside_y[:, None] & inside_x[None, :]
