"""Prompts as the domain sees them, and the rule that groups them into objects.

Parsing them from the wire and checking them against an image live elsewhere (`transport/`,
`segmentation.py`); this module says only what they are.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .geometry import Box, Point
from .logits import MaskLogits
from .masks import EncodedMask


class PromptKind(enum.Enum):
    """The kinds of prompt that a model may serve."""

    POINT = "point"
    BOX = "box"
    NEGATIVE_BOX = "negative_box"
    MASK = "mask"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class PointPrompt:
    """A click: the pixel belongs to the object (`is_foreground`) or does not."""

    point: Point
    is_foreground: bool = True


@dataclass(frozen=True, slots=True)
class BoxPrompt:
    """A box around an object, or (`is_positive` false) an exemplar of what is not wanted."""

    box: Box
    is_positive: bool = True


@dataclass(frozen=True, slots=True)
class MaskPrompt:
    """A mask of the object, to refine.

    Attributes:
        mask: An encoded mask of exactly the image's size, or mask logits of an earlier answer.
    """

    mask: EncodedMask | MaskLogits


@dataclass(frozen=True, slots=True)
class TextPrompt:
    """A concept in words; every instance scoring at least `score_threshold` is an object."""

    text: str
    score_threshold: float | None = None


AnyPrompt = PointPrompt | BoxPrompt | MaskPrompt | TextPrompt


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt as sent: what it says, which object it belongs to, and where it stood.

    Attributes:
        content: The prompt itself.
        object_id: The object that it refines, or None where the caller gave none.
        field: Path of the prompt in the request (`prompts[3]`), for error messages.
    """

    content: AnyPrompt
    object_id: int | None
    field: str


@dataclass(frozen=True, slots=True)
class ObjectPrompts:
    """All visual prompts of one object: what an engine decodes into masks.

    Attributes:
        object_id: The caller's id, or one that the server assigned.
        points: Shape (n, 2), float32, x and y in the image frame; n may be 0.
        point_labels: Shape (n,), bool, True for foreground.
        box: The box around the object, or None.
        mask: A bitmap (height, width) of the image, or earlier logits, or None.
    """

    object_id: int
    points: NDArray[np.float32]
    point_labels: NDArray[np.bool_]
    box: Box | None
    mask: NDArray[np.bool_] | MaskLogits | None
