"""Objects cut out of photographs, for clips.

The photographs are those that ship in scikit-image's wheel; `cutouts_in` takes objects from a
folder of labelled photographs instead, for measuring by hand.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]
Bitmap = NDArray[np.bool_]


@dataclass(frozen=True)
class Cutout:
    """An object cut from a photograph: RGB uint8 (h, w, 3), and alpha 0..1 float32 (h, w)."""

    photograph: str
    pixels: Picture
    alpha: NDArray[np.float32]


@cache
def photograph(name: str) -> Picture:
    """A photograph of scikit-image's wheel, RGB uint8; a grey one is repeated."""
    path = Path(skimage.data.__file__).parent
    found = next(
        path / f"{name}.{end}" for end in ("png", "jpg") if (path / f"{name}.{end}").exists()
    )
    return np.asarray(Image.open(found).convert("RGB"), np.uint8)


@cache
def shipped_cutouts() -> tuple[Cutout, ...]:
    """The objects cut out of scikit-image's photographs by outlines given here."""
    return tuple(
        cut_out(name, photograph(name), _filled(photograph(name), outlines))
        for name, outlines in _OUTLINES
    )


def coins(count: int = 2) -> list[Cutout]:
    """Coins of one photograph: objects that look alike."""
    centres = ((102, 196, 22), (44, 55, 22), (155, 51, 23), (212, 194, 24))
    picture = photograph("coins")
    found = []
    for x, y, radius in centres[:count]:
        mask = np.zeros(picture.shape[:2], np.uint8)
        cv2.circle(mask, (x, y), radius, 1, -1)
        found.append(cut_out("coins", picture, mask.astype(bool)))
    return found


def cutouts_in(folder: Path, smallest_px: int = 2000) -> list[Cutout]:
    """Objects of a folder of the form `<scene>/image.jpg` with one PNG mask for each object."""
    found = []
    for image in sorted(folder.glob("*/image.*")):
        picture = np.asarray(Image.open(image).convert("RGB"), np.uint8)
        for path in sorted(image.parent.glob("*.png")):
            mask = np.asarray(Image.open(path))
            mask = (mask[..., -1] if mask.ndim == 3 else mask) > 0
            if smallest_px <= mask.sum() <= 0.4 * mask.size:
                found.append(cut_out(image.parent.name, picture, mask))
    return found


def cut_out(name: str, picture: Picture, mask: Bitmap) -> Cutout:
    """Cut a mask's box out of a picture, with an edge softened by a pixel."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    soft = cv2.GaussianBlur(mask.astype(np.float32), (3, 3), 0)
    inside = np.s_[top : top + height, left : left + width]
    return Cutout(name, picture[inside].copy(), np.asarray(soft[inside], np.float32))


Ellipse = tuple[int, int, int, int]
Polygon = tuple[tuple[int, int], ...]

# fmt: off
_SUIT = (
    (110, 280), (160, 230), (290, 230), (355, 290), (365, 335), (300, 400), (285, 510),
    (28, 510), (28, 400), (60, 325),
)
_MOTORCYCLE = (
    (100, 190), (130, 175), (260, 190), (400, 175), (500, 105), (570, 110), (575, 200),
    (590, 290), (540, 330), (470, 390), (330, 430), (200, 400),
)
# fmt: on

_OUTLINES: tuple[tuple[str, tuple[Ellipse | Polygon, ...]], ...] = (
    ("coffee", ((282, 232, 204, 150), (291, 102, 120, 86))),
    ("coffee", ((291, 102, 120, 86), (291, 150, 104, 84))),
    ("astronaut", ((224, 82, 68, 70), (224, 140, 46, 52))),
    ("astronaut", ((393, 430, 105, 84),)),
    (
        "astronaut",
        (
            (224, 82, 68, 70),
            (206, 203, 92, 62),
            _SUIT,
        ),
    ),
    ("chelsea", ((190, 160, 120, 110),)),
    ("coins", ((338, 43, 31, 31),)),
    (
        "motorcycle_left",
        (
            (190, 320, 68, 84),
            (600, 365, 76, 86),
            _MOTORCYCLE,
        ),
    ),
)
"""Photograph, and what the object fills: ellipses (x, y, half width, half height), polygons."""


def _filled(picture: Picture, outlines: Iterable[Ellipse | Polygon]) -> Bitmap:
    mask = np.zeros(picture.shape[:2], np.uint8)
    for outline in outlines:
        if isinstance(outline[0], tuple):
            cv2.fillPoly(mask, [np.array(outline, np.int32)], 1)
        else:
            x, y, half_width, half_height = outline
            cv2.ellipse(mask, (x, y), (half_width, half_height), 0, 0, 360, 1, -1)
    return mask.astype(bool)
