"""Segmenting everything in a picture: finds the image and its embedding, steps through the run and
tells what it finds, at once or as a stream.

The device is asked for one batch of points at a time, so that other callers are served in between;
measuring and finishing masks runs on the executor for pixels. The search itself is
`auto_segmentation_run.py`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from ..errors import invalid_field
from ..executor import BoundedExecutor
from ..image_access import ImageAccess
from ..models import ModelRegistry
from ..observer import Observer
from ..picture_delivery import PictureMaker
from ..prompts import PromptKind
from ..renderings import check_renderings, needs_image
from ..segmentation import Caller
from .finishing import CleanMask
from .requests import (
    AutoSegmentEvent,
    AutoSegmentLimits,
    AutoSegmentOptions,
    AutoSegmentRequest,
    AutoSegmentResult,
    MasksAccepted,
    MasksWithdrawn,
    PointsDone,
)
from .run import AutoSegmentRun, SearchedImage, in_chunks, points_of_layer


class AutoSegmentationService:
    """Answers requests for everything in a picture on the served models."""

    def __init__(
        self,
        models: ModelRegistry,
        images: ImageAccess,
        pixel_executor: BoundedExecutor,
        pictures: PictureMaker,
        observer: Observer,
        limits: AutoSegmentLimits,
    ) -> None:
        self._models = models
        self._images = images
        self._pixels = pixel_executor
        self._pictures = pictures
        self._observer = observer
        self._limits = limits

    async def segment(
        self,
        request: AutoSegmentRequest,
        caller: Caller,
        on_progress: Callable[[PointsDone], None] | None = None,
    ) -> AutoSegmentResult:
        """Segment everything in a picture.

        Args:
            request: What to segment, and how.
            caller: Who asks.
            on_progress: Hears how far the work is; what it raises ends the work.

        Raises:
            MaskwireError: `INVALID_ARGUMENT` naming the field and the rule, `MODEL_NOT_FOUND`,
                `UNSUPPORTED_BY_MODEL`, `IMAGE_NOT_FOUND`, `PAYLOAD_TOO_LARGE`, `SOURCE_DISABLED`,
                `OVERLOADED`, `MODEL_UNAVAILABLE`.
        """
        run = await self._start(request, caller)
        async with aclosing(run.search()) as progress:
            async for done in progress:
                if on_progress is not None:
                    on_progress(done)
        masks = await run.told(await run.counting(), 0)
        return await run.result(masks)

    async def stream(
        self, request: AutoSegmentRequest, caller: Caller
    ) -> AsyncGenerator[AutoSegmentEvent, None]:
        """Segment everything in a picture and tell masks as they are chosen.

        What was accepted and not withdrawn is, at the end, what `segment` returns for the request.
        Closing the iterator ends the work within one batch of points.

        Raises:
            MaskwireError: As `segment`.
        """
        run = await self._start(request, caller)
        announced = _Announced()
        async with aclosing(run.search()) as progress:
            async for done in progress:
                yield done
                if run.is_update_due(done):
                    async for event in announced.changes(run):
                        yield event
        async for event in announced.changes(run):
            yield event
        yield await run.result((), announced.indices)

    async def _start(self, request: AutoSegmentRequest, caller: Caller) -> AutoSegmentRun:
        started = time.perf_counter()
        model = self._models.resolve(request.model)
        self._models.require(model, frozenset({PromptKind.POINT}))
        _check_points(request.options, self._limits.max_points)
        self._pictures.check(request.delivery)
        located = await self._images.locate(request.image, caller)
        if needs_image(request.renderings) or request.options.crop_n_layers:
            located = await self._images.decode(located, caller)
        encoded, cached = await self._images.embedding(
            located, model, caller, longest_side_px=request.inference_size_px
        )
        check_renderings(request.renderings, encoded.info.size)
        return AutoSegmentRun(
            request=request,
            caller=caller,
            model=model,
            image=SearchedImage(located, encoded, cached),
            images=self._images,
            pixel_executor=self._pixels,
            pictures=self._pictures,
            observer=self._observer,
            limits=self._limits,
            started=started,
        )


class _Announced:
    """The masks that a stream told and did not withdraw, and under which index."""

    def __init__(self) -> None:
        self._indices: dict[CleanMask, int] = {}
        self._next_index = 0
        self.indices: tuple[int, ...] = ()

    async def changes(self, run: AutoSegmentRun) -> AsyncGenerator[AutoSegmentEvent, None]:
        """Tell what changed since the last time."""
        counting = await run.counting()
        still = set(counting)
        gone = tuple(index for one, index in self._indices.items() if one not in still)
        if gone:
            yield MasksWithdrawn(gone)
        new = [one for one in counting if one not in self._indices]
        self._indices = {one: index for one, index in self._indices.items() if one in still}
        for chunk in in_chunks(new):
            masks = await run.told(chunk, self._next_index)
            self._indices.update(zip(chunk, (mask.index for mask in masks), strict=True))
            self._next_index += len(masks)
            yield MasksAccepted(masks, run.mask_options, run.size)
        self.indices = tuple(self._indices[one] for one in counting)


def _check_points(options: AutoSegmentOptions, most: int) -> None:
    points = sum(
        4**layer * points_of_layer(options, layer) ** 2
        for layer in range(options.crop_n_layers + 1)
    )
    if points > most:
        raise invalid_field(
            "options.crop_n_layers" if options.crop_n_layers else "options.points_per_side",
            f"{points} grid points in all crops together are more than the limit of {most}",
        )
