"""Overlays that the command line draws itself, beside the server's."""

from __future__ import annotations

import numpy as np
from PIL import Image

from maskwire_client import Box, Point, PointLabel
from maskwire_client.cli.drawing import draw_prompts, object_colour, overlay
from maskwire_server.domain import overlay as server
from maskwire_server.domain import palette
from maskwire_server.domain.packed_masks import PackedMask

SIZE = (90, 120)


def photograph() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def two_objects() -> dict[int, np.ndarray]:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    disc = (columns - 40) ** 2 + (rows - 45) ** 2 < 30**2
    return {1: disc, 9: (columns > 70) & (columns < 110) & (rows > 20)}


def test_colours_are_the_servers() -> None:
    for object_id in range(1, 30):
        assert object_colour(object_id) == palette.object_colour(object_id)


def test_overlays_are_the_servers_but_for_the_softness_of_lines() -> None:
    pixels, bitmaps = photograph(), two_objects()
    mine = overlay(pixels, bitmaps).astype(np.int16)
    packed = {object_id: PackedMask.pack(bitmap) for object_id, bitmap in bitmaps.items()}
    theirs = server.render_overlay(pixels, packed, server.OverlayOptions()).astype(np.int16)
    differs = np.abs(mine - theirs).max(axis=2) > 1
    outlines = np.zeros(SIZE, dtype=np.bool_)
    for bitmap in bitmaps.values():
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(bitmap, 3), (7, 7))
        outlines |= windows.any(axis=(2, 3)) & ~windows.all(axis=(2, 3))
    assert np.abs(mine - theirs)[outlines].mean() < 25
    assert not (differs & ~outlines).any()
    assert (mine != pixels).any(axis=2)[45, 40]


def test_nothing_changes_without_objects_or_under_empty_masks() -> None:
    pixels = photograph()
    assert np.array_equal(overlay(pixels, {}), pixels)
    assert np.array_equal(overlay(pixels, {1: np.zeros(SIZE, dtype=np.bool_)}), pixels)


def test_the_picture_given_is_not_changed() -> None:
    pixels = photograph()
    before = pixels.copy()
    overlay(pixels, two_objects())
    assert np.array_equal(pixels, before)


def test_prompts_are_drawn_where_the_scale_puts_them() -> None:
    picture = Image.new("RGB", (100, 100))
    draw_prompts(picture, [Point(40, 40), Point(160, 40, PointLabel.BACKGROUND)], 0.5)
    pixels = np.asarray(picture)
    green, red = pixels[20, 20], pixels[20, 80]
    assert green[1] > green[0]
    assert red[0] > red[1]
    draw_prompts(picture, [Box(40, 120, 160, 180)], 0.5)
    assert np.asarray(picture)[60, 50].tolist() == [255, 255, 255]
