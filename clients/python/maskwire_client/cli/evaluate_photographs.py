"""Asks a server for the objects of labelled photographs and scores its answers.

Each object is asked for by its tight box, by one click with three alternatives, and by clicks that
correct one answer after another, as a user would: all clicks so far, and the last answer's mask.
The photograph itself goes to the server once, which keeps its embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._client import Client
from ..evaluation import (
    Click,
    LabelledObject,
    Photograph,
    PromptedScores,
    first_click,
    iou,
    next_click,
)
from ..geometry import Box, Point, PointLabel
from ..images import EncodedImage, load_image
from ..masks import Mask
from ..options import Postprocess
from ..prompts import MaskPrompt
from ..results import Model, ProcessingInfo, PromptKind
from .evaluate_sheets import View

__all__ = ["LEAST_CLICKS", "JudgedObject", "PhotographJudge", "tight_box"]

LEAST_CLICKS = 5
_ALTERNATIVES = 3
_OBJECT_ID = 1


@dataclass(frozen=True, slots=True, eq=False)
class JudgedObject:
    """An object's scores, its answers to look at, and how they came about.

    Attributes:
        scores: IoU of all answers.
        boxed: The answer to the box.
        clicked: The answer to five clicks.
        info: Of the answer to the box.
    """

    scores: PromptedScores
    boxed: View
    clicked: View
    info: ProcessingInfo


@dataclass(frozen=True, slots=True)
class _Corrected:
    """Answers to more and more clicks: the IoU after each, and what there was after five."""

    curve: tuple[float, ...]
    clicks: tuple[Click, ...]
    answer: Mask | None


class PhotographJudge:
    """Scores the answers of one model.

    Args:
        client: Of the server.
        model: The model, which is asked by its name.
        most_clicks: Clicks on each object, 5 or more.
        timeout_s: How long a call may take.
        postprocess: What is changed in the answers.
    """

    def __init__(
        self,
        client: Client,
        model: Model,
        most_clicks: int,
        timeout_s: float,
        postprocess: Postprocess | None = None,
    ) -> None:
        self._client = client
        self._model = model
        self._most_clicks = most_clicks
        self._timeout_s = timeout_s
        self._postprocess = postprocess

    def judge(
        self, photographs: Sequence[Photograph], skip: Callable[[str], None]
    ) -> Iterator[JudgedObject]:
        """Score object by object.

        Args:
            photographs: What to score.
            skip: Called with the name of an object that is left out because its mask is empty.

        Raises:
            MaskwireError: A call failed.
            OSError: A file cannot be read.
        """
        for photograph in photographs:
            image = load_image(photograph.image)
            assert isinstance(image, EncodedImage)
            for labelled in photograph.objects:
                truth = labelled.read()
                if truth.any():
                    yield self._judge(photograph, labelled, image, truth)
                else:
                    skip(f"{photograph.name}/{labelled.name}")

    def _judge(
        self,
        photograph: Photograph,
        labelled: LabelledObject,
        image: EncodedImage,
        truth: NDArray[np.bool_],
    ) -> JudgedObject:
        box = tight_box(truth)
        answered = self._client.segment(
            image,
            boxes=[box],
            model=self._model.name,
            postprocess=self._postprocess,
            timeout_s=self._timeout_s,
        )
        boxed = answered.masks[0] if answered.masks else None
        corrected = self._correct(image, truth)
        scores = PromptedScores(
            scene=photograph.name,
            name=labelled.name,
            box=_score(boxed, truth),
            click_1=self._best_of_alternatives(image, truth),
            curve=corrected.curve,
        )
        clicks = tuple(_point(click) for click in corrected.clicks)
        return JudgedObject(
            scores,
            _view(photograph, labelled, boxed, (box,), scores.box),
            _view(photograph, labelled, corrected.answer, clicks, scores.curve[4]),
            answered.info,
        )

    def _best_of_alternatives(self, image: EncodedImage, truth: NDArray[np.bool_]) -> float:
        """Return the best IoU of three answers to the first click."""
        result = self._client.segment(
            image,
            points=[_point(first_click(truth))],
            model=self._model.name,
            return_multiple_masks=True,
            max_masks=_ALTERNATIVES,
            postprocess=self._postprocess,
            timeout_s=self._timeout_s,
        )
        return max((_score(mask, truth) for mask in result), default=0.0)

    def _correct(self, image: EncodedImage, truth: NDArray[np.bool_]) -> _Corrected:
        """Click until all clicks are made or nothing is wrong; then the last IoU stays."""
        clicks = [first_click(truth)]
        answer = self._answer(image, clicks, None)
        curve = [_score(answer, truth)]
        at_five = (tuple(clicks), answer)
        while len(curve) < self._most_clicks:
            click = next_click(truth, _bitmap(answer, truth.shape), clicks)
            if click is None:
                break
            clicks.append(click)
            answer = self._answer(image, clicks, answer)
            curve.append(_score(answer, truth))
            if len(clicks) <= LEAST_CLICKS:
                at_five = (tuple(clicks), answer)
        curve += [curve[-1]] * (self._most_clicks - len(curve))
        return _Corrected(tuple(curve), *at_five)

    def _answer(
        self, image: EncodedImage, clicks: Sequence[Click], previous: Mask | None
    ) -> Mask | None:
        """Return the one answer to all clicks so far and the mask of the answer before."""
        takes_masks = PromptKind.MASK in self._model.prompt_kinds
        masks = [MaskPrompt(previous, _OBJECT_ID)] if previous is not None and takes_masks else []
        result = self._client.segment(
            image,
            points=[_point(click) for click in clicks],
            masks=masks,
            model=self._model.name,
            include_logits=takes_masks,
            postprocess=self._postprocess,
            timeout_s=self._timeout_s,
        )
        return result.masks[0] if result.masks else None


def tight_box(mask: NDArray[np.bool_], object_id: int | None = None) -> Box:
    """Return the box around a mask that is not empty, shape (height, width)."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Box(
        x_min=float(columns[0]),
        y_min=float(rows[0]),
        x_max=float(columns[-1] + 1),
        y_max=float(rows[-1] + 1),
        object_id=object_id,
    )


def _point(click: Click) -> Point:
    label = PointLabel.FOREGROUND if click.is_foreground else PointLabel.BACKGROUND
    return Point(click.x, click.y, label, object_id=_OBJECT_ID)


def _bitmap(answer: Mask | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return np.zeros(shape, dtype=np.bool_) if answer is None else answer.bitmap


def _score(answer: Mask | None, truth: NDArray[np.bool_]) -> float:
    return iou(_bitmap(answer, truth.shape), truth)


def _view(
    photograph: Photograph,
    labelled: LabelledObject,
    answer: Mask | None,
    prompts: tuple[Point | Box, ...],
    score: float,
) -> View:
    # The mask as it came, of a kilobyte or so: the logits and the bitmap are not kept.
    encoded = answer.encoded if answer is not None else None
    caption = f"{photograph.name}/{labelled.name}, IoU {score:.3f}"
    return View(caption, photograph.image, labelled.read, encoded, prompts)
