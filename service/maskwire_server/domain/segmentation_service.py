"""Segmenting a still image: find the image, encode it once, decode prompts, finish the masks.

This is the one place that knows the order of things; it owns no thread and no device, and knows
no transport.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from .engine import ObjectPrediction
from .errors import invalid_field
from .executor import BoundedExecutor, Completed
from .finishing import FinishedMasks, finish_masks
from .geometry import ImageSize
from .grouping import group_prompts, prompt_kinds
from .image_access import EncodedImage, ImageAccess, LocatedImage
from .models import ModelRegistry, ServedModel
from .observer import Observer
from .prompts import MaskPrompt, ObjectPrompts, Prompt
from .renderings import Picture, RenderingRequest, check_renderings, draw, needs_image
from .segmentation import (
    Caller,
    MaskOptions,
    SegmentRequest,
    SegmentResult,
    Timings,
)


class SegmentationService:
    """Answers segmentation requests on the served models."""

    def __init__(
        self,
        models: ModelRegistry,
        images: ImageAccess,
        pixel_executor: BoundedExecutor,
        observer: Observer,
        *,
        max_prompts: int,
    ) -> None:
        self._models = models
        self._images = images
        self._pixels = pixel_executor
        self._observer = observer
        self._max_prompts = max_prompts

    async def segment(self, request: SegmentRequest, caller: Caller) -> SegmentResult:
        """Segment the prompted objects of an image.

        Raises:
            MaskwireError: `INVALID_ARGUMENT` naming the field and the rule, `MODEL_NOT_FOUND`,
                `UNSUPPORTED_BY_MODEL`, `IMAGE_NOT_FOUND`, `PAYLOAD_TOO_LARGE`, `SOURCE_DISABLED`,
                `OVERLOADED`, `MODEL_UNAVAILABLE`.
        """
        started = time.perf_counter()
        model = self._models.resolve(request.model)
        self._check_prompts(request.prompts, model)
        located = await self._images.locate(request.image)
        encoded, cached = await self._images.embedding(located, model, caller)
        objects = await self._group(request.prompts, encoded.info.size, model)
        decoded = await self._decode(model, encoded, objects, request.mask_options)
        finished = await self._finish(request, encoded, decoded.value)
        pictures = await self._draw(
            request.renderings, located, encoded.info.size, finished.value, caller
        )
        name = model.description.name
        self._observer.stage_finished("postprocess", name, finished.run_s)
        return SegmentResult(
            masks=finished.value.masks,
            mask_options=request.mask_options,
            pictures=pictures,
            image=encoded.info,
            model=name,
            checkpoint_digest=model.description.checkpoint_digest,
            embedding_cached=cached,
            timings=Timings(
                decode_s=None if cached else encoded.decode_s,
                queue_s=decoded.queue_s + finished.queue_s + (0 if cached else encoded.queue_s),
                encode_s=None if cached else encoded.encode_s,
                prompt_s=decoded.run_s,
                postprocess_s=finished.run_s,
                total_s=time.perf_counter() - started,
            ),
        )

    def _check_prompts(self, prompts: Sequence[Prompt], model: ServedModel) -> None:
        if not prompts:
            raise invalid_field("prompts", "at least one prompt is needed")
        if len(prompts) > self._max_prompts:
            raise invalid_field(
                "prompts", f"{len(prompts)} prompts are more than the limit of {self._max_prompts}"
            )
        self._models.require(model, prompt_kinds(prompts))

    async def _group(
        self, prompts: Sequence[Prompt], size: ImageSize, model: ServedModel
    ) -> tuple[ObjectPrompts, ...]:
        if any(isinstance(prompt.content, MaskPrompt) for prompt in prompts):
            objects = (await self._pixels.run(lambda: group_prompts(prompts, size))).value
        else:
            objects = group_prompts(prompts, size)
        most = model.description.max_objects
        if len(objects) > most:
            raise invalid_field("prompts", f"{len(objects)} objects are more than the limit {most}")
        return objects

    async def _decode(
        self,
        model: ServedModel,
        encoded: EncodedImage,
        objects: tuple[ObjectPrompts, ...],
        options: MaskOptions,
    ) -> Completed[list[ObjectPrediction]]:
        multimask = options.return_multiple_masks
        decoded = await model.executor.run(
            lambda: model.engine.decode(encoded.embedding, objects, multimask=multimask)
        )
        self._observer.stage_finished("prompt", model.description.name, decoded.run_s)
        self._observer.batch_decoded(model.description.name, len(objects))
        return decoded

    async def _finish(
        self, request: SegmentRequest, encoded: EncodedImage, predictions: list[ObjectPrediction]
    ) -> Completed[FinishedMasks]:
        return await self._pixels.run(
            lambda: finish_masks(
                predictions,
                encoded.info.size,
                request.mask_options,
                request.postprocess,
                keep_drawables=bool(request.renderings),
            )
        )

    async def _draw(
        self,
        renderings: tuple[RenderingRequest, ...],
        image: LocatedImage,
        size: ImageSize,
        finished: FinishedMasks,
        caller: Caller,
    ) -> tuple[Picture, ...]:
        if not renderings:
            return ()
        check_renderings(renderings, size)
        pixels = await self._images.pixels(image, caller) if needs_image(renderings) else None
        drawn = await self._pixels.run(
            lambda: tuple(draw(renderings, size, pixels, finished.drawables))
        )
        return drawn.value
