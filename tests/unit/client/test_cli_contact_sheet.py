"""Contact sheets."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from maskwire_client.cli.contact_sheet import Note, Panel, contact_sheet, evenly_spaced, thumbnail


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [
        (0, 5, []),
        (3, 5, [0, 1, 2]),
        (9, 3, [0, 4, 8]),
        (100, 1, [0]),
        (10, 4, [0, 3, 6, 9]),
    ],
)
def test_evenly_spaced(count: int, most: int, expected: list[int]) -> None:
    assert evenly_spaced(count, most) == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [((720, 300), (360, 150)), ((90, 75), (360, 300)), ((300, 3000), (30, 300))],
)
def test_thumbnails_fit_a_panel(size: tuple[int, int], expected: tuple[int, int]) -> None:
    picture, scale = thumbnail(Image.new("L", size))
    assert picture.size == expected
    assert picture.mode == "RGB"
    assert scale == expected[0] / size[0]


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (4, 4), (5, 3), (9, 3), (12, 4), (48, 6)])
def test_panels_lie_in_a_grid_in_their_order(count: int, columns: int) -> None:
    colours = [(5 * number, 255 - 5 * number, 120) for number in range(count)]
    panels = [
        Panel(thumbnail(Image.new("RGB", (400, 200), colour))[0], f"frame {number}")
        for number, colour in enumerate(colours)
    ]
    pixels = np.asarray(contact_sheet(panels))
    width, height = pixels.shape[1] / columns, pixels.shape[0] / -(-count // columns)
    seen = [
        pixels[round(height * (number // columns) + 90), round(width * (number % columns + 0.5))]
        for number in range(count)
    ]
    assert np.array_equal(seen, colours)


def test_notes_show_their_colour_filled_or_as_a_frame() -> None:
    picture = thumbnail(Image.new("RGB", (400, 200)))[0]
    seen = Note("1 tracked", (230, 159, 0))
    lost = Note("2 lost", (86, 180, 233), is_dimmed=True)

    def pixels_of(note: Note) -> int:
        sheet = np.asarray(contact_sheet([Panel(picture, "", (note,))]))
        return int((sheet == note.colour).all(axis=2).sum())

    assert pixels_of(seen) > 1.5 * pixels_of(lost) > 0


def test_notes_that_do_not_fit_are_counted() -> None:
    picture = thumbnail(Image.new("RGB", (400, 200)))[0]
    notes = tuple(Note(f"{number} tracked", (230, 159, 0)) for number in range(1, 40))
    few = contact_sheet([Panel(picture, "frame 1", notes[:6])])
    many = contact_sheet([Panel(picture, "frame 1", notes)])
    assert few.size == many.size


def test_long_captions_stay_within_their_panel() -> None:
    picture = thumbnail(Image.new("RGB", (400, 200)))[0]
    panels = [Panel(picture, "a long name " * 20), Panel(picture, "")]
    pixels = np.asarray(contact_sheet(panels))
    right = pixels[:, pixels.shape[1] // 2 + 10 :]
    below = right[-25:]
    assert (below == below[0, -1]).all()
