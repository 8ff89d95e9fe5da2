"""Contact sheets: captioned panels in a grid, for a look at many frames or images at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from .drawing import INK, font

__all__ = ["Note", "Panel", "contact_sheet", "evenly_spaced", "thumbnail"]

_PICTURE_WIDTH_PX = 360
_PICTURE_HEIGHT_PX = 300
_LEAST_PANEL_WIDTH_PX = 260  # for the text below narrow pictures
_GAP_PX = 12
_CAPTION_PX = 16
_NOTE_PX = 14
_LINE_PX = 22
_SWATCH_PX = 12
_NOTE_GAP_PX = 14
_BACKGROUND = (24, 24, 28)
_DIMMED = (150, 150, 156)


@dataclass(frozen=True, slots=True)
class Note:
    """A few words about an object, with its colour before them; dimmed where it is not seen."""

    text: str
    colour: tuple[int, int, int]
    is_dimmed: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture of a contact sheet.

    Attributes:
        picture: What `thumbnail` returned.
        caption: The line below it.
        notes: Below the caption, as many as fit on two lines; the last then tells how many do not.
    """

    picture: Image.Image
    caption: str
    notes: tuple[Note, ...] = ()


def evenly_spaced(count: int, most: int) -> list[int]:
    """Return at most so many of the indices 0 to count - 1, first and last among them."""
    if count <= most:
        return list(range(count))
    if most == 1:
        return [0]
    return [round(position * (count - 1) / (most - 1)) for position in range(most)]


def thumbnail(picture: Image.Image) -> tuple[Image.Image, float]:
    """Return a picture scaled down to a panel, and the scale; small pictures are scaled up."""
    scale = min(_PICTURE_WIDTH_PX / picture.width, _PICTURE_HEIGHT_PX / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS), scale


def contact_sheet(panels: Sequence[Panel]) -> Image.Image:
    """Return at least one panel in a grid, read line by line, about as wide as a screen is."""
    columns = _columns(len(panels))
    rows = -(-len(panels) // columns)
    width = max(_LEAST_PANEL_WIDTH_PX, *(panel.picture.width for panel in panels))
    picture_height = max(panel.picture.height for panel in panels)
    noted = [_note_lines(panel.notes, width) for panel in panels]
    text_height = _LINE_PX * (1 + max(len(lines) for lines in noted)) + 6
    cell = (width + _GAP_PX, picture_height + text_height + _GAP_PX)
    size = (columns * cell[0] + _GAP_PX, rows * cell[1] + _GAP_PX)
    sheet = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for number, (panel, lines) in enumerate(zip(panels, noted, strict=True)):
        left = _GAP_PX + number % columns * cell[0]
        top = _GAP_PX + number // columns * cell[1]
        picture = panel.picture
        offset = ((width - picture.width) // 2, picture_height - picture.height)
        sheet.paste(picture, (left + offset[0], top + offset[1]))
        text_top = top + picture_height + 4
        draw.text((left, text_top), _shortened(panel.caption, width), INK, font(_CAPTION_PX))
        for line_number, line in enumerate(lines, start=1):
            _draw_notes(draw, line, left, text_top + line_number * _LINE_PX)
    return sheet


def _columns(count: int) -> int:
    """Return how many panels lie side by side, so that the last line is as full as can be."""
    if count <= 4:
        return count
    choices = (4, 3) if count <= 16 else (6, 5)
    return min(choices, key=lambda columns: (-count % columns, -columns))


def _note_lines(notes: Sequence[Note], width_px: int) -> list[list[Note]]:
    """Break notes into at most two lines; what does not fit is counted in a last note."""
    lines: list[list[Note]] = [[]] if notes else []
    used_px = 0
    for number, note in enumerate(notes):
        width = _note_width(note)
        if lines[-1] and used_px + width > width_px:
            if len(lines) == 2:
                lines[-1][-1] = Note(f"and {len(notes) - number + 1} more", _BACKGROUND, True)
                break
            lines.append([])
            used_px = 0
        lines[-1].append(note)
        used_px += width
    return lines


def _note_width(note: Note) -> int:
    return _SWATCH_PX + 5 + round(font(_NOTE_PX).getlength(note.text)) + _NOTE_GAP_PX


def _draw_notes(draw: ImageDraw.ImageDraw, notes: Sequence[Note], left: int, top: int) -> None:
    for note in notes:
        square = (left, top + 4, left + _SWATCH_PX, top + 4 + _SWATCH_PX)
        if note.is_dimmed:
            draw.rectangle(square, outline=note.colour, width=2)
        else:
            draw.rectangle(square, fill=note.colour)
        ink = _DIMMED if note.is_dimmed else INK
        draw.text((left + _SWATCH_PX + 5, top), note.text, ink, font(_NOTE_PX))
        left += _note_width(note)


def _shortened(text: str, width_px: int) -> str:
    """Return a text that fits a width, its middle replaced by an ellipsis where it is too long."""
    letters = font(_CAPTION_PX)
    if letters.getlength(text) <= width_px:
        return text
    kept = len(text) - 1
    while kept > 2 and letters.getlength(_with_ellipsis(text, kept)) > width_px:
        kept -= 1
    return _with_ellipsis(text, kept)


def _with_ellipsis(text: str, kept: int) -> str:
    head = (kept + 1) // 2
    return f"{text[:head]}...{text[len(text) - (kept - head) :]}"
