"""The prompts that are not plain geometry: masks and texts; points and boxes are in `geometry`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .geometry import Box, Point
from .masks import EncodedMask, Mask, MaskLogits

__all__ = ["BoxLike", "MaskPrompt", "PointLike", "PromptLike", "Text"]


@dataclass(frozen=True, slots=True, eq=False)
class MaskPrompt:
    """A mask of an object to refine.

    Attributes:
        mask: A bitmap of the image's size (height, width), bool; an encoded mask; the logits of an
            earlier answer; or that answer's mask itself, whose logits are sent if it has them (the
            most exact way to go on) and its encoding otherwise.
        object_id: The object that it refines, from 1; masks without one are separate objects.
        frame_index: The frame of a stored video that it is about, from 0; only for `track_video`,
            where None means the first.
    """

    mask: NDArray[np.bool_] | EncodedMask | MaskLogits | Mask
    object_id: int | None = None
    frame_index: int | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """A concept in words, every instance of which is an object.

    Attributes:
        text: A short noun phrase, 1 to 1024 bytes in UTF-8.
        score_threshold: Least confidence of an instance, 0 to 1; None is the model's own default.
        object_id: The id of its best instance, from 1; the boxes with it are exemplars of this text
            alone, points and masks with it refine its instances alone. Normally None: the server
            assigns ids.
        frame_index: As of `MaskPrompt`.
    """

    text: str
    score_threshold: float | None = None
    object_id: int | None = None
    frame_index: int | None = None


PointLike: TypeAlias = Point | tuple[float, float]
"""A `Point`, or x and y of a foreground point."""

BoxLike: TypeAlias = Box | tuple[float, float, float, float]
"""A `Box`, or x_min, y_min, x_max and y_max of one."""

PromptLike: TypeAlias = Point | Box | MaskPrompt | Text
"""A prompt of any kind."""
