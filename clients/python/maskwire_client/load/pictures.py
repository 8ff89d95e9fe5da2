"""The pictures of a load run: drawn by the client itself, or the files of a folder.

A new picture is one of the pool with a comment in its JPEG file: its pixels are the same, its
digest is not, and making it costs the generator next to nothing.
"""

from __future__ import annotations

import io
import math
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..frames import ImageFolder
from ..geometry import Box, Point
from ..images import EncodedImage, encode_image, load_image

__all__ = ["Picture", "PicturePool", "moving_frames", "pool_of_folder", "synthetic_pool"]

_JPEG_QUALITY = 90
_START_OF_IMAGE = b"\xff\xd8"
_COMMENT = b"\xff\xfe"
_GRAIN = 8  # least side of the random ground's squares, in pixels
_OBJECT_SHARE = 0.22  # radius of the object as a fraction of the shorter side


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG file and where in it there is something to segment.

    Attributes:
        jpeg: The file.
        box: Box around the object, in pixels.
    """

    jpeg: bytes = field(repr=False)
    box: Box

    @property
    def point(self) -> Point:
        """The middle of the object."""
        box = self.box
        return Point((box.x_min + box.x_max) / 2, (box.y_min + box.y_max) / 2)


class PicturePool:
    """Pictures that calls are about.

    Args:
        pictures: At least one.
    """

    def __init__(self, pictures: list[Picture]) -> None:
        if not pictures:
            raise ValueError("there are no pictures")
        self._pictures = pictures
        self._loaded = [load_image(picture.jpeg) for picture in pictures]
        # The same seed against the same server must not find the last run's new pictures.
        self._run = uuid.uuid4().hex

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._pictures)

    def picture(self, number: int) -> Picture:
        """Return a picture; numbers beyond the last begin again."""
        return self._pictures[number % len(self)]

    def repeated(self, number: int) -> EncodedImage:
        """Return a picture of the pool as it is sent, with its digest."""
        loaded = self._loaded[number % len(self)]
        assert isinstance(loaded, EncodedImage)
        return loaded

    def new(self, number: int, call: int) -> bytes:
        """Return a picture that no server has seen: with this call's mark."""
        return with_comment(self.picture(number).jpeg, f"{self._run} {call}")


def with_comment(jpeg: bytes, comment: str) -> bytes:
    """Return a JPEG file with a comment, which changes its digest and none of its pixels."""
    text = comment.encode()
    segment = _COMMENT + (len(text) + 2).to_bytes(2, "big") + text
    return _START_OF_IMAGE + segment + jpeg[len(_START_OF_IMAGE) :]


def synthetic_pool(count: int, width_px: int, height_px: int, seed: int) -> PicturePool:
    """Draw pictures of an object on a patterned ground, the same for the same seed."""
    draw = np.random.default_rng([seed, 1])
    return PicturePool(
        [
            _drawn(_ground(draw, width_px, height_px), *draw.uniform(0.3, 0.7, 2), hue=number)
            for number in range(count)
        ]
    )


def moving_frames(count: int, width_px: int, height_px: int, seed: int) -> list[Picture]:
    """Draw the frames of a camera: an object that goes round once, so that they can be repeated."""
    ground = _ground(np.random.default_rng([seed, 2]), width_px, height_px)
    angles = [2 * math.pi * number / count for number in range(count)]
    return [
        _drawn(ground, 0.5 + 0.15 * math.cos(angle), 0.5 + 0.15 * math.sin(angle), hue=seed)
        for angle in angles
    ]


def pool_of_folder(folder: Path) -> PicturePool:
    """Read the images of a folder; those that are not JPEG are encoded as such once.

    Prompts are about the middle half of each picture.

    Raises:
        OSError: The folder or a file cannot be read, or a file is no image.
        ValueError: There are none.
    """
    pictures = []
    for frame in ImageFolder(folder):
        assert isinstance(frame.image, bytes)
        with Image.open(io.BytesIO(frame.image)) as image:
            width_px, height_px = image.size
            is_jpeg = image.format == "JPEG"
            data = frame.image if is_jpeg else encode_image(image, "jpeg")
        box = Box(width_px * 0.25, height_px * 0.25, width_px * 0.75, height_px * 0.75)
        pictures.append(Picture(data, box))
    if not pictures:
        raise ValueError(f"there are no images in {folder}")
    return PicturePool(pictures)


def _ground(draw: np.random.Generator, width_px: int, height_px: int) -> Image.Image:
    """Return a patterned ground, neither as small as one colour nor as large as noise in a file."""
    shape = (max(1, height_px // _GRAIN), max(1, width_px // _GRAIN), 3)
    squares = draw.integers(40, 120, shape, dtype=np.uint8)
    return Image.fromarray(squares).resize((width_px, height_px), Image.Resampling.BICUBIC)


def _drawn(ground: Image.Image, x_share: float, y_share: float, *, hue: int) -> Picture:
    """Draw an object on a ground, its middle at these shares of width and height."""
    picture = ground.copy()
    width_px, height_px = picture.size
    radius_px = _OBJECT_SHARE * min(width_px, height_px)
    x, y = x_share * width_px, y_share * height_px
    box = Box(x - radius_px, y - radius_px * 0.8, x + radius_px, y + radius_px * 0.8)
    colour = ((190, 60, 50), (60, 170, 80), (220, 190, 60), (90, 110, 210))[hue % 4]
    corners = (box.x_min, box.y_min, box.x_max, box.y_max)
    ImageDraw.Draw(picture).ellipse(corners, fill=colour, outline=(245, 245, 245))
    return Picture(encode_image(picture, "jpeg", quality=_JPEG_QUALITY), box)
