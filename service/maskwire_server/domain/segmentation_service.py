"""Segmenting a still image: find the image, encode it once, decode prompts, finish the masks.

This is the one place that knows the order of things; it owns no thread and no device, and knows
no transport.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .concept_prompts import asks_for_concepts
from .concept_segmentation import ConceptSegmentation, PreparedImage
from .decoding import Decoded, decode_objects
from .engine import ObjectPrediction
from .errors import invalid_field
from .executor import BoundedExecutor, Completed
from .file_decoder import FileDecoder
from .finishing import FinishedMasks, best_candidates, finish_masks
from .geometry import ImageSize
from .grouping import group_prompts, prompt_kinds
from .image_access import EncodedImage, ImageAccess, LocatedImage
from .models import ModelRegistry, ServedModel
from .observer import Observer
from .picture_delivery import DeliveredPictures, PictureMaker
from .prompts import MaskPrompt, ObjectPrompts, Prompt, PromptKind
from .refinement import ImageToRefine, Refined, Refinement
from .renderings import check_renderings, needs_image
from .segmentation import (
    Caller,
    SegmentRequest,
    SegmentResult,
    Timings,
)

_CONCEPT_KINDS = frozenset({PromptKind.TEXT, PromptKind.NEGATIVE_BOX, PromptKind.BOX})


@dataclass(frozen=True, slots=True)
class _Plan:
    """The models that serve a request.

    Attributes:
        first: The one that sees the image first.
        second: The one that draws anew what the first found, where the request names it.
        finds_concepts: Whether the first finds concepts.
    """

    first: ServedModel
    second: ServedModel | None = None
    finds_concepts: bool = False


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the models of a plan made of an image.

    Attributes:
        first: The embedding of the first model.
        second: That of the second, where there is one.
        made: Those of both that were not in the cache.
    """

    first: EncodedImage
    second: EncodedImage | None
    made: tuple[EncodedImage, ...]


class SegmentationService:
    """Answers segmentation requests on the served models."""

    def __init__(
        self,
        models: ModelRegistry,
        images: ImageAccess,
        pixel_executor: BoundedExecutor,
        pictures: PictureMaker,
        observer: Observer,
        *,
        max_prompts: int,
        mask_budget_bytes: int,
        max_refined_masks: int,
    ) -> None:
        self._models = models
        self._images = images
        self._pixels = pixel_executor
        self._pictures = pictures
        self._observer = observer
        self._concepts = ConceptSegmentation(pixel_executor, observer)
        self._refinement = Refinement(pixel_executor, observer, max_masks=max_refined_masks)
        self._max_prompts = max_prompts
        self._mask_budget_bytes = mask_budget_bytes

    async def segment(self, request: SegmentRequest, caller: Caller) -> SegmentResult:
        """Segment the prompted objects of an image.

        Raises:
            MaskwireError: `INVALID_ARGUMENT` naming the field and the rule, `MODEL_NOT_FOUND`,
                `UNSUPPORTED_BY_MODEL`, `IMAGE_NOT_FOUND`, `PAYLOAD_TOO_LARGE`, `SOURCE_DISABLED`,
                `OVERLOADED`, `MODEL_UNAVAILABLE`.
        """
        started = time.perf_counter()
        plan = self._plan(request)
        self._pictures.check(request.delivery)
        image = await self._images.locate(request.image, caller)
        if needs_image(request.renderings) or request.postprocess.refine:
            image = await self._images.decode(image, caller)
        seen = await self._look(request, plan, image, caller)
        encoded = seen.first
        check_renderings(request.renderings, encoded.info.size)
        decoded = await self._predict(request, plan, seen, self._images.decoder_of(caller))
        refined = await self._refine(request, plan, seen, image, decoded.value)
        finished = await self._finish(request, encoded, refined.predictions)
        drawn = await self._draw(request, image, encoded.info.size, finished.value, caller)
        name = plan.first.description.name
        postprocess_s = refined.pixels_s + finished.run_s + drawn.run_s
        self._observer.stage_finished("postprocess", name, postprocess_s)
        waited_s = decoded.queue_s + refined.queue_s + finished.queue_s + drawn.queue_s
        encode_s = refined.encode_s + sum(one.encode_s for one in seen.made)
        return SegmentResult(
            masks=finished.value.masks,
            mask_options=request.mask_options,
            pictures=drawn.pictures,
            image=encoded.info,
            model=name,
            checkpoint_digest=plan.first.description.checkpoint_digest,
            further_models=() if plan.second is None else (plan.second.description,),
            embedding_cached=not seen.made,
            timings=Timings(
                decode_s=_decode_s(image, seen.made),
                queue_s=waited_s + sum(one.queue_s for one in seen.made),
                encode_s=encode_s if seen.made or refined.encode_s else None,
                prompt_s=decoded.run_s + refined.prompt_s,
                postprocess_s=postprocess_s,
                total_s=time.perf_counter() - started,
            ),
        )

    def _plan(self, request: SegmentRequest) -> _Plan:
        """Check the prompts, and choose the models that serve them."""
        prompts = request.prompts
        if not prompts:
            raise invalid_field("prompts", "at least one prompt is needed")
        if len(prompts) > self._max_prompts:
            raise invalid_field(
                "prompts", f"{len(prompts)} prompts are more than the limit of {self._max_prompts}"
            )
        model, kinds = self._models.resolve(request.model), prompt_kinds(prompts)
        if not asks_for_concepts(prompts):
            self._models.require(model, kinds)
            return _Plan(model)
        detector = self._models.concept_model(model)
        draws_anew = request.model is not None and detector is not model
        second = model if draws_anew else None
        self._models.require(second or detector, kinds - _CONCEPT_KINDS)
        return _Plan(detector, second, finds_concepts=True)

    async def _look(
        self, request: SegmentRequest, plan: _Plan, image: LocatedImage, caller: Caller
    ) -> _Seen:
        """Return the image as the models see it."""
        longest_px = request.inference_size_px
        first, first_cached = await self._images.embedding(
            image, plan.first, caller, longest_side_px=longest_px
        )
        made = () if first_cached else (first,)
        if plan.second is None:
            return _Seen(first, None, made)
        second, second_cached = await self._images.embedding(
            image, plan.second, caller, longest_side_px=longest_px
        )
        return _Seen(first, second, made if second_cached else (*made, second))

    async def _predict(
        self, request: SegmentRequest, plan: _Plan, seen: _Seen, decoder: FileDecoder
    ) -> Completed[Decoded]:
        if not plan.finds_concepts:
            size = seen.first.info.size
            objects = await self._group(request.prompts, size, plan.first, decoder)
            multimask = request.mask_options.return_multiple_masks
            answered = await decode_objects(
                plan.first, seen.first, objects, self._observer, multimask=multimask
            )
            return Completed(Decoded(answered.value, objects), answered.queue_s, answered.run_s)
        detector = refiner = PreparedImage(plan.first, seen.first)
        if plan.second is not None and seen.second is not None:
            refiner = PreparedImage(plan.second, seen.second)
        return await self._concepts.predict(
            request.prompts,
            request.mask_options,
            detector,
            refiner,
            decoder,
            refines_all=plan.second is not None,
        )

    async def _refine(
        self,
        request: SegmentRequest,
        plan: _Plan,
        seen: _Seen,
        image: LocatedImage,
        decoded: Decoded,
    ) -> Refined:
        """Draw the masks that are to be returned a second time, where the request asks for it."""
        if not request.postprocess.refine:
            return Refined(decoded.predictions)
        assert image.decoded is not None
        options = request.mask_options
        wanted = [
            replace(one, candidates=best_candidates(one, options)) for one in decoded.predictions
        ]
        looked_at = ImageToRefine(
            model=plan.second or plan.first,
            encoded=seen.second or seen.first,
            pixels=image.decoded.value,
            longest_side_px=request.inference_size_px,
        )
        prompts = {one.object_id: one for one in decoded.prompts}
        return await self._refinement.refine(looked_at, wanted, prompts)

    async def _group(
        self, prompts: Sequence[Prompt], size: ImageSize, model: ServedModel, decoder: FileDecoder
    ) -> tuple[ObjectPrompts, ...]:
        if any(isinstance(prompt.content, MaskPrompt) for prompt in prompts):
            grouped = await self._pixels.run(lambda: group_prompts(prompts, size, decoder))
            objects = grouped.value
        else:
            objects = group_prompts(prompts, size, decoder)
        most = model.description.max_objects
        if len(objects) > most:
            raise invalid_field("prompts", f"{len(objects)} objects are more than the limit {most}")
        return objects

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
                budget_bytes=self._mask_budget_bytes,
            )
        )

    async def _draw(
        self,
        request: SegmentRequest,
        image: LocatedImage,
        size: ImageSize,
        finished: FinishedMasks,
        caller: Caller,
    ) -> DeliveredPictures:
        if not request.renderings:
            return DeliveredPictures()
        pixels = None if image.decoded is None else image.decoded.value
        return await self._pictures.make(
            request.renderings, request.delivery, size, pixels, finished.drawables, caller
        )


def _decode_s(image: LocatedImage, made: Sequence[EncodedImage]) -> float | None:
    """Return how long the image was decoded, for its pictures or else for its embeddings."""
    if image.decoded is not None:
        return image.decoded.run_s
    return sum(one.decode_s for one in made) if made else None
