"""The colours of objects: one for each id, the same in every picture and frame.

The first seven are those of Okabe and Ito, "Color Universal Design" (2008), without black, which
are told apart with any colour vision, in an order that keeps neighbours far apart. Each of the
other nine is the one farthest from all before it (in CIELAB, for normal vision and for the three
kinds of colour blindness as Machado, Oliveira and Fernandes simulate them, 2009), of those that are
neither dark nor pale nor grey. No two of the sixteen are closer than the closest two of the seven.
"""

from __future__ import annotations

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

PALETTE: tuple[Colour, ...] = (
    (86, 180, 233),
    (230, 159, 0),
    (204, 121, 167),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (0, 114, 178),
    (135, 0, 240),
    (195, 240, 195),
    (120, 60, 30),
    (105, 255, 135),
    (150, 120, 255),
    (150, 0, 90),
    (255, 0, 90),
    (75, 60, 180),
    (255, 180, 210),
)
_TOWARDS_WHITE = 0.25


def object_colour(object_id: int) -> Colour:
    """Return the colour of an object: always the same for one id, repeating after the palette."""
    return PALETTE[(object_id - 1) % len(PALETTE)]


def outline_colour(object_id: int) -> Colour:
    """Return the colour of an object's outline: its own, lighter."""
    red, green, blue = (
        round(channel + (255 - channel) * _TOWARDS_WHITE) for channel in object_colour(object_id)
    )
    return red, green, blue
