"""Labelled photographs and clips in folders, in the forms that `maskwire eval` takes.

Photographs: `<scene>/image.jpg` and one PNG per object, light where the object is. Clips: either
`<clip>/00000.jpg` and on with `<clip>/masks/00000.png` and on, or DAVIS's own
`JPEGImages/480p/<clip>/00000.jpg` with `Annotations/480p/<clip>/00000.png`. Label maps hold 0 for
the background and a number for each object, in grey values or palette entries.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Clip", "LabelledObject", "Photograph", "find_clips", "find_photographs"]

_FRAME_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
_ORIENTATION = 0x0112
_TURNED = frozenset({5, 6, 7, 8})  # EXIF orientations that swap width and height
_VOID = 255
_LEAST_FRAMES = 3


@dataclass(frozen=True, slots=True)
class LabelledObject:
    """An object of a photograph: its name, and the file with its mask."""

    name: str
    file: Path

    def read(self) -> NDArray[np.bool_]:
        """Return its mask, shape (height, width) of the photograph.

        Raises:
            OSError: The file cannot be read.
        """
        with Image.open(self.file) as picture:
            return np.asarray(picture.convert("L")) > 127


@dataclass(frozen=True, slots=True)
class Photograph:
    """A photograph with its objects, by their names."""

    name: str
    image: Path
    objects: tuple[LabelledObject, ...]


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip: the files of its frames in order, and of those with a label map, by frame number."""

    name: str
    frames: tuple[Path, ...]
    label_maps: dict[int, Path]

    @property
    def scored_frames(self) -> tuple[int, ...]:
        """The frames that count: as DAVIS does, all that are labelled but the first and last."""
        return tuple(frame for frame in self.label_maps if 0 < frame < len(self.frames) - 1)

    def labels(self, frame: int) -> NDArray[np.uint8]:
        """Return a frame's label map, shape (height, width).

        Raises:
            OSError: The file cannot be read.
        """
        with Image.open(self.label_maps[frame]) as picture:
            return np.asarray(picture, dtype=np.uint8)

    def object_labels(self) -> tuple[int, ...]:
        """Return the labels of the objects in the first frame.

        255 means that nothing is known of a pixel, unless it is the only label: then, as in DAVIS
        of 2016, it is the object.

        Raises:
            OSError: The file cannot be read.
        """
        found = tuple(int(label) for label in np.unique(self.labels(0)) if label)
        return found if found == (_VOID,) else tuple(x for x in found if x != _VOID)


def find_photographs(folder: Path) -> tuple[Photograph, ...]:
    """Return the labelled photographs of a folder, by name; none where it has another form.

    Raises:
        OSError: A file cannot be read.
        ValueError: A photograph has no masks, or a mask is not of its size.
    """
    return tuple(_photograph(image) for image in sorted(folder.glob("*/image.jpg")))


def find_clips(folder: Path) -> tuple[Clip, ...]:
    """Return the labelled clips of a folder, by name; none where it has another form.

    Raises:
        OSError: A file cannot be read.
        ValueError: A clip is too short, its first frame is not labelled, or a label map is not of
            the frames' size or no label map.
    """
    return tuple(_clip(name, *folders) for name, *folders in _clip_folders(folder))


def _photograph(image: Path) -> Photograph:
    size = _size(image)
    files = sorted(image.parent.glob("*.png"), key=_natural_order)
    if not files:
        raise ValueError(f"{image.parent} holds no masks: a PNG for each object is needed")
    for file in files:
        _check_size(file, size)
    objects = tuple(LabelledObject(file.stem, file) for file in files)
    return Photograph(image.parent.name, image, objects)


def _clip_folders(folder: Path) -> Iterator[tuple[str, Path, Path]]:
    """Give name, folder of the frames and folder of the label maps of each clip."""
    pictures = folder / "JPEGImages"
    if not pictures.is_dir():
        for masks in sorted(folder.glob("*/masks")):
            yield masks.parent.name, masks.parent, masks
        return
    maps = folder / "Annotations"
    # Where a folder has several resolutions, 480p is the one that results are published for.
    names = sorted(path.name for path in pictures.iterdir() if (maps / path.name).is_dir())
    if names:
        resolution = "480p" if "480p" in names else names[0]
        for frames in sorted((pictures / resolution).iterdir()):
            if (maps / resolution / frames.name).is_dir():
                yield frames.name, frames, maps / resolution / frames.name


def _clip(name: str, frames_folder: Path, maps_folder: Path) -> Clip:
    frames = _frame_files(frames_folder)
    numbers = {file.stem: number for number, file in enumerate(frames)}
    maps = {
        numbers[file.stem]: file
        for file in sorted(maps_folder.glob("*.png"))
        if file.stem in numbers
    }
    clip = Clip(name, frames, dict(sorted(maps.items())))
    if len(frames) < _LEAST_FRAMES or not clip.scored_frames:
        raise ValueError(
            f"the clip {name} has no labelled frame between its first and its last, "
            "which do not count"
        )
    if 0 not in maps:
        raise ValueError(f"the clip {name} has no label map for its first frame, {frames[0].name}")
    size = _size(frames[0])
    for file in maps.values():
        _check_size(file, size)
        _check_label_map(file)
    return clip


def _frame_files(folder: Path) -> tuple[Path, ...]:
    return tuple(
        sorted(file for file in folder.iterdir() if file.suffix.lower() in _FRAME_SUFFIXES)
    )


def _check_size(file: Path, expected: tuple[int, int]) -> None:
    width, height = _size(file)
    if (width, height) != expected:
        raise ValueError(
            f"{file} is {width} x {height} px, and its picture {expected[0]} x {expected[1]} px"
        )


def _check_label_map(file: Path) -> None:
    with Image.open(file) as picture:
        if picture.mode not in ("1", "L", "P"):
            raise ValueError(
                f"{file} is no label map: its pixels are {picture.mode}, "
                "not grey values or palette entries"
            )


def _size(file: Path) -> tuple[int, int]:
    """Return width and height as shown, from the header alone."""
    with Image.open(file) as picture:
        is_turned = picture.getexif().get(_ORIENTATION) in _TURNED
        return picture.size[::-1] if is_turned else picture.size


def _natural_order(file: Path) -> tuple[Any, ...]:
    """Sort 2 before 10, and numbers before names."""
    stem = file.stem
    return (0, int(stem), stem) if stem.isdecimal() else (1, stem)
