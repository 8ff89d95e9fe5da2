"""The demo's photographs with their prompts, and the picture that shows both with the masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from ..geometry import Box, Point
from .drawing import INK, draw_box, draw_point, font

__all__ = [
    "PHOTOGRAPHS",
    "RECONSTRUCTED",
    "Photograph",
    "Subject",
    "contact_sheet",
    "panel",
]

_PANEL_HEIGHT_PX = 480
_CAPTION_HEIGHT_PX = 34
_GAP_PX = 10
_BACKGROUND = (24, 24, 28)


@dataclass(frozen=True, slots=True)
class Photograph:
    """One photograph of `skimage.data` and what to segment in it.

    Attributes:
        name: The function that returns it.
        file_name: What to save it as.
        points: Clicks on and off the first object.
        box: A box around the second object.
        first_box: A box around the third object, whose answer comes back as its mask prompt.
        correction: A click on the third object that goes with its mask.
        caption: What the objects are.
    """

    name: str
    file_name: str
    points: tuple[Point, ...]
    box: Box
    first_box: Box
    correction: Point
    caption: str


PHOTOGRAPHS = (
    Photograph(
        name="coffee",
        file_name="coffee.jpg",
        points=(Point(280, 150, object_id=1),),
        box=Box(326, 192, 408, 326, object_id=2),
        first_box=Box(172, 16, 404, 308),
        correction=Point(352, 60, object_id=3),
        caption="coffee by point, spoon by box, cup by mask",
    ),
    Photograph(
        name="astronaut",
        file_name="astronaut.jpg",
        points=(Point(172, 365, object_id=1), Point(172, 412, object_id=1)),
        box=Box(276, 342, 512, 512, object_id=2),
        first_box=Box(152, 14, 302, 190),
        correction=Point(224, 120, object_id=3),
        caption="badge by two points, helmet by box, head by mask",
    ),
    Photograph(
        name="chelsea",
        file_name="cat.jpg",
        points=(Point(165, 122, object_id=1),),
        box=Box(294, 106, 344, 164, object_id=2),
        first_box=Box(228, 218, 290, 268),
        correction=Point(258, 238, object_id=3),
        caption="eye by point, eye by box, nose by mask",
    ),
)


@dataclass(frozen=True, slots=True)
class Subject:
    """An object of a photograph that is reconstructed in 3D, from its mask."""

    file_name: str
    object_id: int
    caption: str


RECONSTRUCTED = Subject(file_name="astronaut.jpg", object_id=2, caption="helmet")


def panel(overlay: Image.Image, photograph: Photograph) -> Image.Image:
    """Return an overlay at the sheet's height, with its prompts drawn and a caption below."""
    scale = _PANEL_HEIGHT_PX / overlay.height
    width = round(overlay.width * scale)
    picture = Image.new("RGB", (width, _PANEL_HEIGHT_PX + _CAPTION_HEIGHT_PX), _BACKGROUND)
    resized = overlay.convert("RGB").resize((width, _PANEL_HEIGHT_PX), Image.Resampling.LANCZOS)
    picture.paste(resized, (0, 0))
    draw = ImageDraw.Draw(picture)
    draw_box(draw, photograph.box, scale)
    for point in (*photograph.points, photograph.correction):
        draw_point(draw, point, scale)
    draw.text((6, _PANEL_HEIGHT_PX + 7), photograph.caption, INK, font(17))
    return picture


def contact_sheet(panels: Sequence[Image.Image]) -> Image.Image:
    """Return panels of equal height side by side."""
    width = sum(part.width for part in panels) + _GAP_PX * (len(panels) + 1)
    sheet = Image.new("RGB", (width, panels[0].height + _GAP_PX), _BACKGROUND)
    left = _GAP_PX
    for part in panels:
        sheet.paste(part, (left, _GAP_PX))
        left += part.width + _GAP_PX
    return sheet
