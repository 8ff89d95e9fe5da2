"""From what a tracker saw to the masks of an answer; runs on the executor for pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..engine import MaskCandidate
from ..geometry import ImageSize
from ..mask_measures import area, bounding_box, stability_score
from ..masks import MaskEncoding, encode_mask
from ..postprocessing import to_bitmap
from ..segmentation import ScoreKind, SegmentedMask
from ..tracked_masks import ObjectHistory, TrackedMask
from ..tracking import ObjectSighting, PromptedObject
from .messages import SessionConfig


@dataclass(frozen=True, slots=True)
class Sightings:
    """What a tracker saw in one frame.

    Attributes:
        tracked: The objects that it followed there.
        prompted: The objects that were prompted there.
    """

    tracked: tuple[ObjectSighting, ...] = ()
    prompted: tuple[PromptedObject, ...] = ()

    def merged(self) -> tuple[ObjectSighting, ...]:
        """All objects once, in the order in which they came; prompts have the last word."""
        sightings = {sighting.object_id: sighting for sighting in self.tracked}
        for one in self.prompted:
            best = one.best
            sightings[one.object_id] = ObjectSighting(one.object_id, best.logits, one.presence)
        return tuple(sightings.values())


def make_masks(
    seen: Sightings,
    size: ImageSize,
    config: SessionConfig,
    history: ObjectHistory,
    *,
    on_change_only: bool,
) -> tuple[TrackedMask, ...] | None:
    """Make the masks of an answer.

    Args:
        seen: What the tracker saw.
        size: Size of the frame.
        config: The session's config.
        history: What was answered before; it is brought up to date.
        on_change_only: Whether no answer is due where nothing changed.

    Returns:
        The masks, or None where no answer is due.
    """
    observations = history.observe(seen.merged(), size)
    if on_change_only:
        threshold = config.sampling.change_iou_threshold
        if not history.has_changed(observations, threshold):
            return None
    options = config.mask_options
    sent = history.send(observations, options, config.mask_delta)
    prompted = {one.object_id: one for one in seen.prompted}
    masks: list[TrackedMask] = []
    for mask in sent:
        one = prompted.get(mask.mask.object_id)
        if one is None:
            masks.append(mask)
        else:
            masks.append(_scored(mask, one.best))
            masks += _alternatives(mask, one, size, config)
    return tuple(
        replace(mask, mask=replace(mask.mask, index=index)) for index, mask in enumerate(masks)
    )


def _scored(mask: TrackedMask, candidate: MaskCandidate) -> TrackedMask:
    scored = replace(
        mask.mask,
        score=candidate.predicted_iou,
        score_kind=ScoreKind.PREDICTED_IOU,
        stability_score=stability_score(candidate.logits.values),
    )
    return replace(mask, mask=scored)


def _alternatives(
    mask: TrackedMask, one: PromptedObject, size: ImageSize, config: SessionConfig
) -> Sequence[TrackedMask]:
    options = config.mask_options
    if not options.return_multiple_masks:
        return ()
    others = [candidate for candidate in one.candidates if candidate is not one.best]
    others.sort(key=lambda candidate: -candidate.predicted_iou)
    return [
        TrackedMask(
            mask=_alternative(one.object_id, rank, candidate, size, config),
            state=mask.state,
            unchanged=False,
            crop=None,
            is_new=mask.is_new,
        )
        for rank, candidate in enumerate(others[: options.max_masks - 1], start=1)
    ]


def _alternative(
    object_id: int, rank: int, candidate: MaskCandidate, size: ImageSize, config: SessionConfig
) -> SegmentedMask:
    options = config.mask_options
    bitmap = to_bitmap(candidate.logits, size, config.postprocess)
    wants_mask = options.encoding is not MaskEncoding.NONE
    return SegmentedMask(
        index=0,
        object_id=object_id,
        alternative=rank,
        score=candidate.predicted_iou,
        score_kind=ScoreKind.PREDICTED_IOU,
        stability_score=stability_score(candidate.logits.values),
        area_px=area(bitmap),
        box=bounding_box(bitmap),
        encoded=encode_mask(bitmap, options.encoding) if wants_mask else None,
        logits=candidate.logits if options.include_logits else None,
    )
