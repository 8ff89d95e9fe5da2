"""Windows for a second pass: where they lie, what is asked in them, and how answers come back.

Pure geometry; a window is a part of the image in whole pixels, never beyond it. Blocks, and runs on
the executor for pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .engine import MaskCandidate, ObjectPrediction
from .geometry import Box, ImageSize
from .logits import MaskLogits
from .packed_masks import Window
from .prompts import ObjectPrompts, PromptKind

MARGIN = 1.5
"""Side of a window over the longer side of what it shows."""

LARGEST_SHARE = 2 / 3
"""Of the image's longer side that a window's may have; beyond, it shows hardly more."""

SMALLEST_PX = 128
"""Least side of a window, where the image has it: a smaller one holds nothing to tell by."""

SHARED_SIDE = 1.25
"""How much larger a window may be than a mask's own for the mask to share it."""

_NO_POINTS = np.empty((0, 2), np.float32)
_NO_LABELS = np.empty(0, np.bool_)


class FirstMask(NamedTuple):
    """Which mask: the position of the object's prediction, and of the answer in it."""

    prediction: int
    candidate: int


@dataclass(frozen=True, slots=True)
class Question:
    """A mask that is to be drawn anew.

    Attributes:
        mask: Which one.
        first: The mask as it is.
        score: How good it is.
        prompts: What was said about its object, or None where a concept found it.
        area: The part of the image to look at.
    """

    mask: FirstMask
    first: MaskLogits
    score: float
    prompts: ObjectPrompts | None
    area: Window


@dataclass(slots=True)
class SharedWindow:
    """A part of the image, and the masks that are drawn anew from it.

    Attributes:
        area: The part.
        questions: The masks.
    """

    area: Window
    questions: list[Question] = field(default_factory=list)

    @property
    def size(self) -> ImageSize:
        """Its size."""
        return ImageSize(self.area.right - self.area.left, self.area.bottom - self.area.top)

    @property
    def box(self) -> Box:
        """The same as a box of the image."""
        area = self.area
        return Box(float(area.left), float(area.top), float(area.right), float(area.bottom))

    def has_room_for(self, question: Question) -> bool:
        """Whether a mask may be drawn from this window rather than from its own."""
        own, area = question.area, self.area
        holds = (
            area.left <= own.left
            and area.top <= own.top
            and area.right >= own.right
            and area.bottom >= own.bottom
        )
        return holds and _longer_side(area) <= SHARED_SIDE * _longer_side(own)


def plan_windows(
    predictions: Sequence[ObjectPrediction],
    prompts: Mapping[int, ObjectPrompts],
    size: ImageSize,
    max_masks: int,
    max_objects: int,
) -> list[SharedWindow]:
    """Return the windows that are worth a look, with the masks that share them.

    Args:
        predictions: All answers.
        prompts: What was said about objects, by their ids.
        size: Size of the image.
        max_masks: Most masks to draw anew; the best scores go first.
        max_objects: Most masks that share a window.
    """
    questions = [
        question
        for number, prediction in enumerate(predictions)
        for question in _questions(number, prediction, prompts.get(prediction.object_id), size)
    ]
    best = sorted(questions, key=lambda one: -one.score)[:max_masks]
    windows: list[SharedWindow] = []
    for question in sorted(best, key=lambda one: -_longer_side(one.area)):
        shared = next(
            (
                window
                for window in windows
                if len(window.questions) < max_objects and window.has_room_for(question)
            ),
            None,
        )
        if shared is None:
            shared = SharedWindow(question.area)
            windows.append(shared)
        shared.questions.append(question)
    return windows


def prompts_inside(window: SharedWindow, kinds: frozenset[PromptKind]) -> list[ObjectPrompts]:
    """Return what is asked in a window, in its frame, mask by mask.

    Points outside it are left out, boxes are cut off at its edges. The first mask is said where
    the model takes masks. Where nothing else is said, or the model takes no masks and no box was
    given, the first mask's box is.

    Args:
        window: The window.
        kinds: What the model takes.
    """
    return [_prompts_inside(one, window.box, kinds) for one in window.questions]


def merged(
    window: SharedWindow, answers: Sequence[ObjectPrediction], least_agreement: float
) -> dict[FirstMask, MaskCandidate]:
    """Return the masks that were drawn anew, in the frame of the image.

    An answer without a pixel, or one whose IoU with the first mask is less than `least_agreement`,
    is not what was asked for: that mask is left out.
    """
    drawn: dict[FirstMask, MaskCandidate] = {}
    for question, answer in zip(window.questions, answers, strict=True):
        best = max(answer.candidates, key=lambda one: one.predicted_iou)
        logits = _within(_shifted(best.logits, window.area.left, window.area.top), window.box)
        if logits is None:
            continue
        if _agreement(question.first, logits, window) >= max(least_agreement, 1e-9):
            drawn[question.mask] = MaskCandidate(logits, best.predicted_iou, is_refined=True)
    return drawn


def _questions(
    number: int, prediction: ObjectPrediction, prompts: ObjectPrompts | None, size: ImageSize
) -> list[Question]:
    """Return the answers for an object that a window would show better."""
    questions = []
    for rank, candidate in enumerate(prediction.candidates):
        extent = _object_box(candidate.logits)
        if extent is None:
            continue
        area = _window(_with_foreground(extent, prompts), size)
        if _longer_side(area) > LARGEST_SHARE * max(size.width_px, size.height_px):
            continue
        confidence = prediction.confidence
        score = candidate.predicted_iou if confidence is None else confidence
        mask = FirstMask(number, rank)
        questions.append(Question(mask, candidate.logits, score, prompts, area))
    return questions


def _prompts_inside(one: Question, box: Box, kinds: frozenset[PromptKind]) -> ObjectPrompts:
    said = one.prompts
    points, labels, given = _NO_POINTS, _NO_LABELS, None
    if said is not None:
        inside = _inside(said.points, box)
        shift = np.array([box.x_min, box.y_min], np.float32)
        points, labels = said.points[inside] - shift, said.point_labels[inside]
        given = None if said.box is None else _common(said.box, box)
    takes_mask = PromptKind.MASK in kinds
    has_foreground = bool(labels.any())
    if given is None and PromptKind.BOX in kinds and not (has_foreground and takes_mask):
        extent = _object_box(one.first)
        given = None if extent is None else _common(extent, box)
    return ObjectPrompts(
        object_id=1,
        points=np.asarray(points, np.float32),
        point_labels=labels,
        box=None if given is None else _moved(given, box.x_min, box.y_min),
        mask=_shifted(one.first, -box.x_min, -box.y_min) if takes_mask else None,
    )


def _object_box(logits: MaskLogits) -> Box | None:
    """The box, in the image, of the cells above 0; None where there is none."""
    rows = np.flatnonzero((logits.values > 0).any(axis=1))
    columns = np.flatnonzero((logits.values > 0).any(axis=0))
    if not len(rows):
        return None
    height, width = logits.values.shape
    step_x, step_y = logits.window.width / width, logits.window.height / height
    return Box(
        logits.window.x_min + float(columns[0]) * step_x,
        logits.window.y_min + float(rows[0]) * step_y,
        logits.window.x_min + float(columns[-1] + 1) * step_x,
        logits.window.y_min + float(rows[-1] + 1) * step_y,
    )


def _with_foreground(extent: Box, prompts: ObjectPrompts | None) -> Box:
    """The box, grown to hold the points that lie on the object."""
    if prompts is None or not prompts.point_labels.any():
        return extent
    clicked = prompts.points[prompts.point_labels]
    low, high = clicked.min(axis=0), clicked.max(axis=0)
    return Box(
        min(extent.x_min, float(low[0])),
        min(extent.y_min, float(low[1])),
        max(extent.x_max, float(high[0])),
        max(extent.y_max, float(high[1])),
    )


def _window(extent: Box, size: ImageSize) -> Window:
    """The square around a box with its margin, moved into the image, as far as it reaches."""
    side = max(SMALLEST_PX, round(MARGIN * max(extent.width, extent.height)))
    left, right = _span((extent.x_min + extent.x_max) / 2, side, size.width_px)
    top, bottom = _span((extent.y_min + extent.y_max) / 2, side, size.height_px)
    return Window(left, top, right, bottom)


def _span(centre: float, side: int, extent: int) -> tuple[int, int]:
    if side >= extent:
        return 0, extent
    start = min(max(round(centre - side / 2), 0), extent - side)
    return start, start + side


def _longer_side(area: Window) -> int:
    return max(area.right - area.left, area.bottom - area.top)


def _inside(points: NDArray[np.float32], box: Box) -> NDArray[np.bool_]:
    """Which points, shape (n, 2), lie in a box."""
    x, y = points[:, 0], points[:, 1]
    return np.asarray((x >= box.x_min) & (x < box.x_max) & (y >= box.y_min) & (y < box.y_max))


def _common(first: Box, second: Box) -> Box | None:
    """What two boxes share; None where that has no extent."""
    x_min, x_max = max(first.x_min, second.x_min), min(first.x_max, second.x_max)
    y_min, y_max = max(first.y_min, second.y_min), min(first.y_max, second.y_max)
    return Box(x_min, y_min, x_max, y_max) if x_max > x_min and y_max > y_min else None


def _moved(box: Box, left: float, top: float) -> Box:
    return Box(box.x_min - left, box.y_min - top, box.x_max - left, box.y_max - top)


def _shifted(logits: MaskLogits, right: float, down: float) -> MaskLogits:
    return MaskLogits(logits.values, _moved(logits.window, -right, -down))


def _within(logits: MaskLogits, box: Box) -> MaskLogits | None:
    """Logits cut off at the edges of a box, in cells of about their size; None outside it."""
    window = logits.window
    common = _common(window, box)
    if common is None or common == window:
        return None if common is None else logits
    rows, columns = logits.values.shape
    cells = (
        max(1, round(columns * common.width / window.width)),
        max(1, round(rows * common.height / window.height)),
    )
    return MaskLogits(logits.resample(common, *cells), common)


def _agreement(first: MaskLogits, second: MaskLogits, window: SharedWindow) -> float:
    """IoU of two masks of the image, whose window holds both, at the window's resolution."""
    left, top = float(window.area.left), float(window.area.top)
    before = _shifted(first, -left, -top).to_bitmap(window.size)
    now = _shifted(second, -left, -top).to_bitmap(window.size)
    return float((before & now).sum() / max(1, int((before | now).sum())))
