"""From a model's answers to finished masks: ranked, cleaned up, measured and encoded.

Masks are finished one at a time: of a full-resolution bitmap only the packed bits are kept, and
only where pictures or overlaps need them. Blocks, and runs on the executor for pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .engine import MaskCandidate, ObjectPrediction
from .errors import ErrorCode, MaskwireError
from .geometry import ImageSize
from .mask_measures import area, bounding_box, stability_score
from .masks import MaskEncoding, encode_mask
from .packed_masks import DrawableMask, PackedMask
from .postprocessing import (
    PostprocessOptions,
    ScoredMask,
    is_good_enough,
    to_bitmap,
    without_overlaps,
)
from .segmentation import MaskOptions, ScoreKind, SegmentedMask


@dataclass(frozen=True, slots=True)
class FinishedMasks:
    """Masks that are ready to be sent, and what their pictures are drawn from.

    Attributes:
        masks: In the order of the objects, alternatives best first.
        drawables: The same masks, packed; none where they were not asked for.
    """

    masks: tuple[SegmentedMask, ...]
    drawables: tuple[DrawableMask, ...]


def finish_masks(
    predictions: Iterable[ObjectPrediction],
    size: ImageSize,
    options: MaskOptions,
    postprocess: PostprocessOptions,
    *,
    keep_drawables: bool,
    budget_bytes: int,
) -> FinishedMasks:
    """Finish a model's answers.

    Args:
        predictions: The answers for each object.
        size: Size of the image.
        options: Which masks, and in which encoding.
        postprocess: What to change in them first.
        keep_drawables: Whether pictures are to be drawn of them.
        budget_bytes: Memory for masks that are kept, packed, for pictures and to find overlaps.

    Raises:
        MaskwireError: `PAYLOAD_TOO_LARGE` where the masks take more than that.
    """
    masks: list[SegmentedMask] = []
    drawables: list[DrawableMask] = []
    ranks: Counter[int] = Counter()
    budget = _Budget(budget_bytes)
    chosen = list(_chosen(predictions, options, postprocess))
    for (found, candidate), bitmap, packed in _bitmaps(chosen, size, postprocess, budget):
        object_id = found.object_id
        index, alternative = len(masks), ranks[object_id]
        ranks[object_id] += 1
        mask = finish_mask(candidate, bitmap, options, index, object_id, alternative)
        if found.confidence is not None:
            kind = ScoreKind.CONCEPT_CONFIDENCE
            mask = replace(mask, score=found.confidence, score_kind=kind, text=found.text)
        masks.append(mask)
        if keep_drawables:
            kept = packed if packed is not None else budget.pack(bitmap)
            drawables.append(DrawableMask(index, object_id, kept, alternative, mask.score))
    return FinishedMasks(tuple(masks), tuple(drawables))


class _Budget:
    """Packs masks as long as they fit into memory that is set aside for them."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._used_bytes = 0

    def pack(self, bitmap: NDArray[np.bool_]) -> PackedMask:
        packed = PackedMask.pack(bitmap)
        self._used_bytes += packed.bits.nbytes
        if self._used_bytes > self._budget_bytes:
            raise MaskwireError(
                ErrorCode.PAYLOAD_TOO_LARGE,
                f"the masks of this request take more than {self._budget_bytes} bytes: "
                "send a smaller image, fewer objects, or no renderings and no max_overlap_iou",
            )
        return packed


def best_candidates(
    prediction: ObjectPrediction, options: MaskOptions
) -> tuple[MaskCandidate, ...]:
    """Return as many answers for an object as are wanted, best first."""
    most = options.max_masks if options.return_multiple_masks else 1
    ranked = sorted(prediction.candidates, key=lambda one: -one.predicted_iou)
    return tuple(ranked[:most])


_Choice = tuple[ObjectPrediction, MaskCandidate]
"""All answers for an object, and one of them."""


def _chosen(
    predictions: Iterable[ObjectPrediction], options: MaskOptions, postprocess: PostprocessOptions
) -> Iterator[_Choice]:
    """Yield the answers that are good enough, best first for each object, as many as are wanted."""
    for prediction in predictions:
        for candidate in best_candidates(prediction, options):
            if is_good_enough(_score(prediction, candidate), postprocess):
                yield prediction, candidate


def _bitmaps(
    chosen: Sequence[_Choice], size: ImageSize, postprocess: PostprocessOptions, budget: _Budget
) -> Iterator[tuple[_Choice, NDArray[np.bool_], PackedMask | None]]:
    """Yield each answer that overlaps no better one with its bitmap, packed too where it is."""
    if postprocess.max_overlap_iou is None:
        for one in chosen:
            yield one, to_bitmap(one[1].logits, size, postprocess), None
        return
    packed = [
        ScoredMask(
            budget.pack(to_bitmap(candidate.logits, size, postprocess)),
            found.object_id,
            _score(found, candidate),
        )
        for found, candidate in chosen
    ]
    for index in without_overlaps(packed, postprocess):
        yield chosen[index], packed[index].mask.unpack(), packed[index].mask


def _score(found: ObjectPrediction, candidate: MaskCandidate) -> float:
    return candidate.predicted_iou if found.confidence is None else found.confidence


def finish_mask(
    candidate: MaskCandidate,
    bitmap: NDArray[np.bool_],
    options: MaskOptions,
    index: int,
    object_id: int,
    alternative: int,
) -> SegmentedMask:
    """Measure and encode one answer.

    Args:
        candidate: The answer.
        bitmap: Its mask at the image's resolution, with everything changed that is to be.
        options: What of it is wanted.
        index: Its position in the response.
        object_id: The object.
        alternative: Its rank among the object's answers.
    """
    wants_mask = options.encoding is not MaskEncoding.NONE
    return SegmentedMask(
        index=index,
        object_id=object_id,
        alternative=alternative,
        score=candidate.predicted_iou,
        score_kind=ScoreKind.PREDICTED_IOU,
        stability_score=stability_score(candidate.logits.values),
        area_px=area(bitmap),
        box=bounding_box(bitmap),
        encoded=encode_mask(bitmap, options.encoding) if wants_mask else None,
        logits=candidate.logits if options.include_logits else None,
        is_refined=candidate.is_refined,
    )
