"""The interface through which automatic segmentation asks an engine for masks at many points.

An engine that can do better than decode every point by itself implements `ProposingEngine`; every
other one is served by `DecodedProposals`. Choosing among the masks is not done here.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..engine import ImageEmbedding, SegmentationEngine
from ..geometry import ImageSize
from ..logits import MaskLogits
from ..prompts import ObjectPrompts

_POINTS_AT_ONCE = 16
"""Points that one call decodes for engines without proposals of their own: other callers wait."""

_MEASURING_SIDE_PX = 1024


@dataclass(frozen=True, slots=True)
class ProposalCriteria:
    """What masks are wanted; the fields are the contract's.

    Attributes:
        multimask: Whether each point may give several masks.
        pred_iou_thresh: Masks of this predicted IoU or less are not wanted; 0 wants all.
        stability_score_thresh: Masks of a lower stability score are not wanted.
        stability_score_offset: Shift of the threshold for the stability score, in logits.
    """

    multimask: bool = True
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0


@dataclass(frozen=True, slots=True)
class Proposal:
    """A mask that one point led to.

    Attributes:
        point: Index of the point.
        logits: The mask, in the frame of the encoded picture. A shift of one logit means the same
            for every engine: the outline of a mask that is sure moves little.
        predicted_iou: The model's own estimate of the mask's IoU, 0 to 1.
    """

    point: int
    logits: MaskLogits
    predicted_iou: float


@dataclass(frozen=True, slots=True)
class ProposalBatch:
    """What one call on the device found.

    Attributes:
        points_done: Points that are settled now and were not before.
        proposals: Masks that meet the criteria on predicted IoU, and may meet those on stability,
            which the caller measures.
    """

    points_done: int
    proposals: tuple[Proposal, ...]


class ProposingEngine(abc.ABC):
    """An engine with a way of its own from a grid of points to masks."""

    @abc.abstractmethod
    def propose(
        self,
        embedding: ImageEmbedding,
        points: NDArray[np.float32],
        criteria: ProposalCriteria,
    ) -> Iterator[ProposalBatch]:
        """Look for masks at points, one batch for each step of the iterator.

        Each step blocks, runs on the executor that owns the engine's device, and takes a fraction
        of a second, so that other callers are served in between. What is remembered from step to
        step belongs to the iterator alone. The points done sum to the number of points.

        Args:
            embedding: What this engine's `encode` returned.
            points: Shape (n, 2), float32, x and y in the frame of the encoded picture.
            criteria: What masks are wanted. An engine whose predicted IoU is not on the scale of
                SAM's, where 0.88 is what a good mask gets, reads the threshold on its own scale.

        Raises:
            MaskwireError: `MODEL_UNAVAILABLE` where the device fails.
        """


class DecodedProposals(ProposingEngine):
    """Proposals of an engine that has no way of its own: every point is decoded as a click."""

    def __init__(self, engine: SegmentationEngine) -> None:
        self._engine = engine

    def propose(
        self,
        embedding: ImageEmbedding,
        points: NDArray[np.float32],
        criteria: ProposalCriteria,
    ) -> Iterator[ProposalBatch]:
        """Decode the points in batches; see `ProposingEngine.propose`."""
        step = min(_POINTS_AT_ONCE, self._engine.description.max_objects)
        for start in range(0, len(points), step):
            chunk = points[start : start + step]
            yield ProposalBatch(len(chunk), self._decode(embedding, chunk, start, criteria))

    def _decode(
        self,
        embedding: ImageEmbedding,
        chunk: NDArray[np.float32],
        start: int,
        criteria: ProposalCriteria,
    ) -> tuple[Proposal, ...]:
        objects = [
            ObjectPrompts(start + number, point[None], np.array([True]), box=None, mask=None)
            for number, point in enumerate(chunk)
        ]
        answers = self._engine.decode(embedding, objects, multimask=criteria.multimask)
        return tuple(
            Proposal(answer.object_id, candidate.logits, candidate.predicted_iou)
            for answer in answers
            for candidate in answer.candidates
            if candidate.predicted_iou > criteria.pred_iou_thresh or criteria.pred_iou_thresh == 0
        )


def measuring_size(region: ImageSize) -> ImageSize:
    """Return the size at which masks over a region of the image are measured.

    It is the region's own as far as 1024 px: stability and boxes on a model's own coarse grid are
    off by enough to change which masks stay, and beyond it boxes are off by a pixel or two.
    """
    scale = min(1.0, _MEASURING_SIDE_PX / max(region.width_px, region.height_px))
    return ImageSize(
        width_px=max(1, round(region.width_px * scale)),
        height_px=max(1, round(region.height_px * scale)),
    )


def proposing(engine: SegmentationEngine) -> ProposingEngine:
    """Return an engine's own proposals, or else those that decoding gives."""
    return engine if isinstance(engine, ProposingEngine) else DecodedProposals(engine)
