"""A second pass over masks: the model sees a window around each at higher resolution.

Knows no engine: a window is an image of its own, encoded and prompted like any other, through the
executor of the model. Which windows there are and how prompts and answers move between them and the
image is `refinement_windows`. The embedding of a window serves this one answer, so that it is not
kept: in the cache it would only push images out. One is held at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .decoding import decode_objects
from .engine import MaskCandidate, ObjectPrediction
from .executor import BoundedExecutor, Completed
from .image_access import EncodedImage
from .inference_size import shown_to_model
from .models import ServedModel
from .observer import Observer
from .prompts import ObjectPrompts
from .refinement_windows import (
    FirstMask,
    SharedWindow,
    merged,
    plan_windows,
    prompts_inside,
)


@dataclass(frozen=True, slots=True)
class ImageToRefine:
    """An image as the model that draws masks saw it first, and its pixels.

    Attributes:
        model: The model.
        encoded: What it made of the image.
        pixels: Shape (height, width, 3), uint8, RGB.
        longest_side_px: Longest side of what the model gets to see; None means as it is.
    """

    model: ServedModel
    encoded: EncodedImage
    pixels: NDArray[np.uint8]
    longest_side_px: int | None


@dataclass(frozen=True, slots=True)
class Refined:
    """What came of a second pass, and where its time went, in seconds."""

    predictions: list[ObjectPrediction]
    queue_s: float = 0.0
    encode_s: float = 0.0
    prompt_s: float = 0.0
    pixels_s: float = 0.0


class Refinement:
    """Draws masks anew from windows around them."""

    def __init__(
        self,
        pixel_executor: BoundedExecutor,
        observer: Observer,
        *,
        max_masks: int,
        least_agreement: float = 0.5,
    ) -> None:
        """Take what bounds the work.

        Args:
            pixel_executor: Where windows are cut and answers are put back.
            observer: Hears how long the stages took.
            max_masks: Most masks of a request that are drawn anew, the best first.
            least_agreement: IoU with the first mask below which a second one is another object.
        """
        self._pixels = pixel_executor
        self._observer = observer
        self._max_masks = max_masks
        self._least_agreement = least_agreement

    async def refine(
        self,
        image: ImageToRefine,
        predictions: Sequence[ObjectPrediction],
        prompts: Mapping[int, ObjectPrompts],
    ) -> Refined:
        """Draw the answers for each object anew where a window shows more than the image did.

        Args:
            image: The image.
            predictions: The answers, of which all are to be returned.
            prompts: What was said about objects, by their ids; objects that are missing were
                found by a concept and are prompted by what was found.

        Returns:
            The same answers in the same order; those drawn anew have another mask and score and
            say so.

        Raises:
            MaskwireError: `MODEL_UNAVAILABLE`.
        """
        size, description = image.encoded.info.size, image.model.description
        plan = await self._pixels.run(
            lambda: plan_windows(
                predictions, prompts, size, self._max_masks, description.max_objects
            ),
            is_refusable=False,
        )
        spent = Refined([], queue_s=plan.queue_s, pixels_s=plan.run_s)
        anew: dict[FirstMask, MaskCandidate] = {}
        for window in plan.value:
            drawn, spent = await self._draw(image, window, spent)
            anew.update(drawn)
        return replace(spent, predictions=_replaced(predictions, anew))

    async def _draw(
        self, image: ImageToRefine, window: SharedWindow, spent: Refined
    ) -> tuple[dict[FirstMask, MaskCandidate], Refined]:
        """Look at one window; return its masks, and what was spent with it."""
        seen = await self._encode(image, window)
        objects = prompts_inside(window, image.model.description.prompt_kinds)
        decoded = await decode_objects(
            image.model,
            seen.value,
            objects,
            self._observer,
            multimask=False,
            is_refusable=False,
        )
        drawn = await self._pixels.run(
            lambda: merged(window, decoded.value, self._least_agreement), is_refusable=False
        )
        return drawn.value, replace(
            spent,
            queue_s=spent.queue_s + seen.queue_s + decoded.queue_s + drawn.queue_s,
            encode_s=spent.encode_s + seen.value.encode_s,
            prompt_s=spent.prompt_s + decoded.run_s,
            pixels_s=spent.pixels_s + seen.run_s + drawn.run_s,
        )

    async def _encode(self, image: ImageToRefine, window: SharedWindow) -> Completed[EncodedImage]:
        """Encode a window as an image of its own; the time counts what cutting it out took."""
        part = await self._pixels.run(
            lambda: shown_to_model(image.pixels[window.area.slices], image.longest_side_px),
            is_refusable=False,
        )
        encoded = await image.model.run(
            lambda: image.model.engine.encode(part.value), is_refusable=False
        )
        name = image.model.description.name
        self._observer.stage_finished("encode", name, encoded.run_s, encoded.ended_s)
        seen = replace(
            image.encoded,
            embedding=encoded.value,
            info=replace(image.encoded.info, size=window.size),
            encode_s=encoded.run_s,
        )
        return Completed(seen, part.queue_s + encoded.queue_s, part.run_s)


def _replaced(
    predictions: Sequence[ObjectPrediction], anew: Mapping[FirstMask, MaskCandidate]
) -> list[ObjectPrediction]:
    return [
        replace(
            prediction,
            candidates=tuple(
                anew.get(FirstMask(number, rank), candidate)
                for rank, candidate in enumerate(prediction.candidates)
            ),
        )
        for number, prediction in enumerate(predictions)
    ]
