"""One call's search for everything in a picture: its batches, which masks count, their finishing.

Stepping through a run, and telling what changes, is `auto_segmentation_service.py`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..engine import ImageEmbedding
from ..errors import ErrorCode, MaskwireError
from ..executor import BoundedExecutor, Completed
from ..geometry import ImageSize
from ..image_access import EncodedImage, ImageAccess, LocatedImage
from ..inference_size import enlarge_proposals, reduce_points, shown_to_model
from ..models import ServedModel
from ..observer import Observer
from ..picture_delivery import PictureMaker
from ..pipelining import ahead
from ..renderings import Picture
from ..segmentation import Caller, MaskOptions, SegmentedMask, Timings
from .finishing import CleanMask, choose, clean, drawables, segmented
from .point_grid import Crop, crops, point_grid, points_per_side
from .proposal_pool import Candidate, ProposalPool, measure
from .proposals import ProposalBatch, proposing
from .requests import (
    AutoSegmentLimits,
    AutoSegmentOptions,
    AutoSegmentRequest,
    AutoSegmentResult,
    PointsDone,
)

_MASKS_AT_ONCE = 16
"""Masks that one call brings to the image's resolution."""

_Item = TypeVar("_Item")

_UPDATES = 16
"""How often a stream tells which masks count, over all of the points."""


@dataclass(frozen=True, slots=True)
class SearchedImage:
    """The image that is searched, its embedding, and whether that was in the cache."""

    located: LocatedImage
    encoded: EncodedImage
    is_cached: bool


@dataclass(slots=True)
class _Spent:
    """When a run began, on `time.perf_counter`'s clock, and where its time went, in seconds."""

    started: float
    queue_s: float = 0.0
    encode_s: float = 0.0
    prompt_s: float = 0.0
    postprocess_s: float = 0.0


class AutoSegmentRun:
    """One call's work: the search for masks, which of them count, and their finishing."""

    def __init__(
        self,
        *,
        request: AutoSegmentRequest,
        caller: Caller,
        model: ServedModel,
        image: SearchedImage,
        images: ImageAccess,
        pixel_executor: BoundedExecutor,
        pictures: PictureMaker,
        observer: Observer,
        limits: AutoSegmentLimits,
        started: float,
    ) -> None:
        self._request = request
        self._caller = caller
        self._model = model
        self._image = image
        self._images = images
        self._pixels = pixel_executor
        self._pictures = pictures
        self._observer = observer
        self._budget_bytes = limits.budget_bytes
        options = request.options
        self.size: ImageSize = image.encoded.info.size
        self.mask_options: MaskOptions = request.mask_options
        self._crops = crops(self.size, options.crop_n_layers, options.crop_overlap_ratio)
        self._pool = ProposalPool(
            box_nms_thresh=options.box_nms_thresh,
            crop_nms_thresh=options.crop_nms_thresh,
            budget_bytes=limits.budget_bytes,
        )
        self._cleaned: dict[Candidate, CleanMask] = {}
        self._spent = _Spent(started)
        self._updates_made = 0

    async def search(self) -> AsyncGenerator[PointsDone, None]:
        """Look at every point of every crop, and tell after each batch how far it is."""
        options = self._request.options
        total, done = _points_in_all(options, self._crops), 0
        for crop in self._crops:
            self._pool.start_crop(crop)
            embedding: ImageEmbedding = self._image.encoded.embedding
            if crop.layer:
                pixels = await self._images.pixels(self._image.located, self._caller)
                embedding = await self._encode(pixels, crop)
            async for settled in self._search_crop(crop, embedding):
                done += settled
                yield PointsDone(done, total)
            self._pool.finish_crop()
        self._observer.stage_finished("prompt", self._model.description.name, self._spent.prompt_s)

    async def _search_crop(
        self, crop: Crop, embedding: ImageEmbedding
    ) -> AsyncGenerator[int, None]:
        options, criteria = self._request.options, self._request.options.criteria
        points = point_grid(points_of_layer(options, crop.layer), crop.size)
        seen = embedding.image_size
        shown = points if seen == crop.size else reduce_points(points, crop.size, seen)
        batches = proposing(self._model.engine).propose(embedding, shown, criteria)
        # Masks are measured while the device is at the next points.
        async with aclosing(ahead(self._asked(batches), 1)) as answers:
            async for batch in answers:
                proposals = batch.proposals
                if seen != crop.size:
                    proposals = enlarge_proposals(proposals, seen, crop.size)
                if proposals:
                    measured = await self._pixels.run(
                        lambda: measure(proposals, points, crop, self.size, criteria),  # noqa: B023
                        is_refusable=False,
                    )
                    self._note_pixel_work(measured)
                    self._pool.add(measured.value)
                yield batch.points_done

    async def _asked(self, batches: Iterator[ProposalBatch]) -> AsyncGenerator[ProposalBatch, None]:
        while (batch := await self._next(batches)) is not None:
            yield batch

    async def _next(self, batches: Iterator[ProposalBatch]) -> ProposalBatch | None:
        ran = await self._model.run(lambda: next(batches, None), is_refusable=False)
        self._spent.queue_s += ran.queue_s
        self._spent.prompt_s += ran.run_s
        if ran.value is not None:
            self._observer.batch_decoded(self._model.description.name, ran.value.points_done)
        return ran.value

    async def _encode(self, pixels: NDArray[np.uint8], crop: Crop) -> ImageEmbedding:
        longest = self._request.inference_size_px
        part = await self._pixels.run(
            lambda: shown_to_model(pixels[crop.window.slices], longest), is_refusable=False
        )
        encoded = await self._model.run(
            lambda: self._model.engine.encode(part.value), is_refusable=False
        )
        self._spent.queue_s += part.queue_s + encoded.queue_s
        self._spent.encode_s += encoded.run_s
        name = self._model.description.name
        self._observer.stage_finished("encode", name, encoded.run_s, encoded.ended_s)
        return encoded.value

    def is_update_due(self, done: PointsDone) -> bool:
        """Whether so many points are done that a stream should tell which masks count."""
        reached = done.done * _UPDATES // max(done.total, 1)
        is_due = self._updates_made < reached < _UPDATES
        if is_due:
            self._updates_made = reached
        return is_due

    async def counting(self) -> list[CleanMask]:
        """Return the masks that count so far, best first."""
        options, postprocess = self._request.options, self._request.postprocess
        chosen = self._pool.chosen()
        await self._clean([one for one in chosen if one not in self._cleaned])
        self._cleaned = {one: self._cleaned[one] for one in chosen}
        held = list(self._cleaned.values())
        picked = await self._pixels.run(
            lambda: choose(held, options, postprocess), is_refusable=False
        )
        self._note_pixel_work(picked)
        return picked.value

    async def _clean(self, candidates: Sequence[Candidate]) -> None:
        area, postprocess = self._request.options.min_mask_region_area, self._request.postprocess
        for chunk in in_chunks(candidates):
            cleaned = await self._pixels.run(
                lambda: clean(chunk, self.size, area, postprocess),  # noqa: B023
                is_refusable=False,
            )
            self._note_pixel_work(cleaned)
            self._cleaned.update(zip(chunk, cleaned.value, strict=True))
            if sum(one.mask.bits.nbytes for one in self._cleaned.values()) > self._budget_bytes:
                raise MaskwireError(
                    ErrorCode.PAYLOAD_TOO_LARGE,
                    f"the masks of this image take more than {self._budget_bytes} bytes: "
                    "send a smaller image or raise options.pred_iou_thresh",
                )

    async def told(self, masks: Sequence[CleanMask], first_index: int) -> tuple[SegmentedMask, ...]:
        """Return masks as they are told, with indices from the first one on."""
        options = self.mask_options
        made: list[SegmentedMask] = []
        for chunk in in_chunks(list(enumerate(masks, first_index))):
            encoded = await self._pixels.run(
                lambda: [segmented(one, index, options) for index, one in chunk],  # noqa: B023
                is_refusable=False,
            )
            self._note_pixel_work(encoded)
            made += encoded.value
        return tuple(made)

    async def result(
        self, masks: tuple[SegmentedMask, ...], indices: Sequence[int] | None = None
    ) -> AutoSegmentResult:
        """Return the end of the run.

        Args:
            masks: Masks to tell now.
            indices: Index of each mask that counts, as it was told; None for their positions.
        """
        pictures = await self._draw(indices)
        description, encoded, spent = self._model.description, self._image.encoded, self._spent
        self._observer.stage_finished("postprocess", description.name, spent.postprocess_s)
        cached = self._image.is_cached
        encode_s = spent.encode_s + (0.0 if cached else encoded.encode_s)
        return AutoSegmentResult(
            masks=masks,
            mask_options=self.mask_options,
            pictures=pictures,
            image=encoded.info,
            model=description.name,
            checkpoint_digest=description.checkpoint_digest,
            embedding_cached=cached,
            timings=Timings(
                decode_s=None if cached else encoded.decode_s,
                queue_s=spent.queue_s + (0.0 if cached else encoded.queue_s),
                encode_s=encode_s or None,
                prompt_s=spent.prompt_s,
                postprocess_s=spent.postprocess_s,
                total_s=time.perf_counter() - spent.started,
            ),
        )

    async def _draw(self, indices: Sequence[int] | None) -> tuple[Picture, ...]:
        renderings = self._request.renderings
        if not renderings:
            return ()
        masks = await self.counting()
        shown = drawables(masks, indices if indices is not None else range(len(masks)))
        decoded, delivery = self._image.located.decoded, self._request.delivery
        pixels = decoded.value if decoded is not None else None
        made = await self._pictures.make(
            renderings, delivery, self.size, pixels, shown, self._caller
        )
        self._spent.queue_s += made.queue_s
        self._spent.postprocess_s += made.run_s
        return made.pictures

    def _note_pixel_work(self, work: Completed[Any]) -> None:
        self._spent.queue_s += work.queue_s
        self._spent.postprocess_s += work.run_s


def points_of_layer(options: AutoSegmentOptions, layer: int) -> int:
    """Return how many points a side of the grid of a layer has."""
    return points_per_side(layer, options.points_per_side, options.crop_n_points_downscale_factor)


def _points_in_all(options: AutoSegmentOptions, searched: Sequence[Crop]) -> int:
    return sum(points_of_layer(options, crop.layer) ** 2 for crop in searched)


def in_chunks(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    """Yield as many items at a time as one call on the pixel executor finishes."""
    for start in range(0, len(items), _MASKS_AT_ONCE):
        yield items[start : start + _MASKS_AT_ONCE]
