"""From prompts as sent to the objects that an engine decodes.

The rules are the contract's: prompts that share an object id refine the same object; boxes and
masks without one are objects of their own; points without one are one object together; ids that
the server assigns are the smallest that the request does not use, in the order of the prompts.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .errors import invalid_field
from .file_decoder import FileDecoder
from .geometry import Box, ImageSize, Point
from .logits import MaskLogits
from .mask_reading import SentMask, decode_masks
from .prompts import BoxPrompt, MaskPrompt, ObjectPrompts, PointPrompt, Prompt, PromptKind

_MAX_WINDOW_PX = 1 << 16
"""Longest side of a window of mask logits: far beyond any image, and within exact arithmetic."""


def prompt_kinds(prompts: Sequence[Prompt]) -> frozenset[PromptKind]:
    """Return the kinds of prompt that a model must serve to answer `prompts`."""
    return frozenset(_kind(prompt) for prompt in prompts)


def group_prompts(
    prompts: Sequence[Prompt], size: ImageSize, decoder: FileDecoder, *, first_free_id: int = 1
) -> tuple[ObjectPrompts, ...]:
    """Check visual prompts against the image and gather them into objects.

    Decodes mask prompts, so it blocks where there are any. Boxes are clipped to the image.

    Args:
        prompts: Points, boxes and masks.
        size: Size of the image.
        decoder: Decodes masks that are files.
        first_free_id: Smallest id to give to an object without one; a session passes one that it
            never used.

    Returns:
        The objects in the order of their first prompts.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` for a point outside the image, a box that does not
            overlap it, a mask of another size, a second box or mask for one object, or an object
            of which nothing but an empty mask is known.
    """
    used = {prompt.object_id for prompt in prompts if prompt.object_id is not None}
    free = (number for number in itertools.count(first_free_id) if number not in used)
    drafts: dict[int, _Draft] = {}
    shared_point_id: int | None = None
    for prompt in prompts:
        object_id = prompt.object_id
        if object_id is None and isinstance(prompt.content, PointPrompt):
            if shared_point_id is None:
                shared_point_id = next(free)
            object_id = shared_point_id
        elif object_id is None:
            object_id = next(free)
        drafts.setdefault(object_id, _Draft()).add(prompt, size)
    _read_masks(drafts.values(), size, decoder)
    return tuple(draft.finish(object_id) for object_id, draft in drafts.items())


@dataclass(slots=True)
class _Draft:
    points: list[Point] = field(default_factory=list)
    labels: list[bool] = field(default_factory=list)
    box: Box | None = None
    mask: NDArray[np.bool_] | MaskLogits | None = None
    sent_mask: SentMask | None = None
    mask_field: str = ""

    def add(self, prompt: Prompt, size: ImageSize) -> None:
        content = prompt.content
        if isinstance(content, PointPrompt):
            _check_inside(content.point, size, f"{prompt.field}.point.point")
            self.points.append(content.point)
            self.labels.append(content.is_foreground)
        elif isinstance(content, BoxPrompt):
            if self.box is not None:
                raise invalid_field(f"{prompt.field}.box", "an object takes one box only")
            self.box = clip_box(content.box, size, f"{prompt.field}.box")
        elif isinstance(content, MaskPrompt):
            if self.mask_field:
                raise invalid_field(f"{prompt.field}.mask", "an object takes one mask only")
            self.mask_field = f"{prompt.field}.mask"
            if isinstance(content.mask, MaskLogits):
                self.mask = _checked_logits(content.mask, size, f"{self.mask_field}.logits")
            else:
                self.sent_mask = SentMask(content.mask, f"{self.mask_field}.encoded")

    def finish(self, object_id: int) -> ObjectPrompts:
        if not self.points and self.box is None and self.mask is not None and _is_empty(self.mask):
            raise invalid_field(
                self.mask_field, "a mask alone must hold at least one pixel of the object"
            )
        coordinates = [(point.x, point.y) for point in self.points]
        return ObjectPrompts(
            object_id=object_id,
            points=np.array(coordinates, dtype=np.float32).reshape(-1, 2),
            point_labels=np.array(self.labels, dtype=np.bool_),
            box=self.box,
            mask=self.mask,
        )


def _kind(prompt: Prompt) -> PromptKind:
    match prompt.content:
        case PointPrompt():
            return PromptKind.POINT
        case BoxPrompt(is_positive=is_positive):
            return PromptKind.BOX if is_positive else PromptKind.NEGATIVE_BOX
        case MaskPrompt():
            return PromptKind.MASK
        case _:
            return PromptKind.TEXT


def _check_inside(point: Point, size: ImageSize, field_path: str) -> None:
    if not (0 <= point.x < size.width_px and 0 <= point.y < size.height_px):
        raise invalid_field(
            field_path,
            f"({point.x:g}, {point.y:g}) is outside the image of "
            f"{size.width_px} x {size.height_px} pixels",
        )


def clip_box(box: Box, size: ImageSize, field_path: str) -> Box:
    """Return the part of a box that lies in an image.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` where there is none.
    """
    clipped = Box(
        max(box.x_min, 0.0),
        max(box.y_min, 0.0),
        min(box.x_max, float(size.width_px)),
        min(box.y_max, float(size.height_px)),
    )
    if not (clipped.x_max > clipped.x_min and clipped.y_max > clipped.y_min):
        raise invalid_field(
            field_path,
            f"it does not overlap the image of {size.width_px} x {size.height_px} pixels",
        )
    return clipped


def _read_masks(drafts: Collection[_Draft], size: ImageSize, decoder: FileDecoder) -> None:
    """Decode the masks of all objects together."""
    sent = [one.sent_mask for one in drafts if one.sent_mask is not None]
    read = iter(decode_masks(sent, size, decoder))
    for one in drafts:
        if one.sent_mask is not None:
            one.mask = next(read)


def _checked_logits(logits: MaskLogits, size: ImageSize, field_path: str) -> MaskLogits:
    if not np.isfinite(logits.values).all():
        raise invalid_field(f"{field_path}.values", "every number must be finite")
    _check_window(logits.window, size, f"{field_path}.window")
    return logits


def _check_window(window: Box, size: ImageSize, field_path: str) -> None:
    clip_box(window, size, field_path)
    if min(window.width, window.height) < 1 or max(window.width, window.height) > _MAX_WINDOW_PX:
        raise invalid_field(field_path, f"its sides must measure 1 to {_MAX_WINDOW_PX} pixels")


def _is_empty(mask: NDArray[np.bool_] | MaskLogits) -> bool:
    return not (mask.values > 0 if isinstance(mask, MaskLogits) else mask).any()
