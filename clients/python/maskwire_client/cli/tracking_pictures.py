"""The overlay video and the contact sheet of a tracked video.

The frames of a video that is a file here are decoded and painted here: that has no limit on the
size or length of the result, costs the server nothing, and works for whatever part of the video was
tracked before something went wrong. For a video that is elsewhere the server sends its overlay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..frames import VideoFile
from ..geometry import Box, Point
from ..sessions import ObjectState, TrackedMask
from ..videos import VideoFrame
from .contact_sheet import Note, Panel, contact_sheet, evenly_spaced, thumbnail
from .drawing import draw_prompts, object_colour, overlay

__all__ = ["PaintedFrame", "TrackingPictures", "frames_of_overlay", "painted_frames"]

_PANELS = 12

PaintedFrame = tuple[VideoFrame, NDArray[np.uint8]]
"""A tracked frame and its overlay, shape (height, width, 3), uint8, RGB."""


def painted_frames(file: Path, frames: Sequence[VideoFrame]) -> Iterator[PaintedFrame]:
    """Give tracked frames with their overlays, painted over the frames of the video file.

    Args:
        file: The video.
        frames: Its tracked frames in the order in which the video shows them. Where the file
            cannot be read on, the rest is left out.

    Raises:
        ModuleNotFoundError: The package `av` is not installed.
    """
    wanted = {frame.frame_index: frame for frame in frames}
    last = max(wanted, default=-1)
    for number, pixels in enumerate(_pictures(file)):
        if number in wanted:
            yield wanted[number], overlay(pixels, _bitmaps(wanted[number].masks))
        if number >= last:
            return


def frames_of_overlay(file: Path, frames: Sequence[VideoFrame]) -> Iterator[PaintedFrame]:
    """Give tracked frames with their overlays out of a video that holds just those.

    Args:
        file: The overlay video that the server made.
        frames: The tracked frames in the order in which the video shows them.

    Raises:
        ModuleNotFoundError: The package `av` is not installed.
    """
    yield from zip(frames, _pictures(file), strict=False)


class TrackingPictures:
    """Takes painted frames one by one and puts some of them onto a contact sheet.

    Args:
        frame_indices: The frames that will come, in order.
        prompts: Points and boxes, drawn on the frames that they are about; of such frames as many
            as possible are on the sheet.
    """

    def __init__(self, frame_indices: Sequence[int], prompts: Sequence[Point | Box]) -> None:
        self._prompts = prompts
        prompted = {prompt.frame_index for prompt in prompts if prompt.frame_index is not None}
        self._chosen = _chosen_frames(frame_indices, prompted)
        self._panels: list[Panel] = []

    def add(self, frame: VideoFrame, pixels: NDArray[np.uint8]) -> None:
        """Take the next frame and its overlay."""
        if frame.frame_index in self._chosen:
            self._panels.append(self._panel(frame, pixels))

    def save_sheet(self, path: Path) -> bool:
        """Write the contact sheet; return whether there was anything to show."""
        if self._panels:
            contact_sheet(self._panels).save(path)
        return bool(self._panels)

    def _panel(self, frame: VideoFrame, pixels: NDArray[np.uint8]) -> Panel:
        picture, scale = thumbnail(Image.fromarray(pixels))
        here = [prompt for prompt in self._prompts if prompt.frame_index == frame.frame_index]
        draw_prompts(picture, here, scale)
        caption = f"frame {frame.frame_index}, {frame.time_s:.2f} s"
        return Panel(picture, caption, tuple(_note(mask) for mask in frame.masks))


def _chosen_frames(frame_indices: Sequence[int], prompted: AbstractSet[int]) -> set[int]:
    """Return evenly spaced frames, each prompted one in place of the nearest."""
    chosen = [frame_indices[place] for place in evenly_spaced(len(frame_indices), _PANELS)]
    for frame in sorted(prompted & set(frame_indices) - set(chosen)):
        others = [other for other in chosen if other not in prompted]
        if others:
            nearest = min(others, key=lambda other: abs(other - frame))
            chosen[chosen.index(nearest)] = frame
    return set(chosen)


def _note(mask: TrackedMask) -> Note:
    score = "" if mask.score is None else f" {mask.score:.2f}"
    text = f"{mask.object_id} {mask.state.value.replace('_', ' ')}{score}"
    return Note(text, object_colour(mask.object_id), mask.state is ObjectState.LOST)


def _bitmaps(masks: Sequence[TrackedMask]) -> dict[int, NDArray[np.bool_]]:
    # Decoded here and not by `Mask.bitmap`, which would keep every bitmap of the video.
    return {
        mask.object_id: mask.encoded.decode()
        for mask in masks
        if mask.encoded is not None and mask.area_px > 0
    }


def _pictures(file: Path) -> Iterator[NDArray[np.uint8]]:
    """Give the pictures of a video file as far as it can be read."""
    try:
        for frame in VideoFile(file):
            assert isinstance(frame.image, np.ndarray)
            yield frame.image
    except ValueError:
        return
