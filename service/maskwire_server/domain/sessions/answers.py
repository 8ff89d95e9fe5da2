"""From what a tracker saw to the masks of an answer; runs on the executor for pixels."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from ..engine import MaskCandidate
from ..finishing import finish_mask
from ..geometry import ImageSize
from ..mask_measures import stability_score
from ..postprocessing import to_bitmap
from ..segmentation import ScoreKind
from ..tracked_masks import VISIBLE_FROM, ObjectHistory, TrackedMask
from ..tracking import ObjectSighting, PromptedObject
from .messages import SessionConfig


@dataclass(frozen=True, slots=True)
class Sightings:
    """What a tracker saw in one frame.

    Attributes:
        tracked: The objects that it followed there or found by text.
        prompted: The objects that were prompted there.
    """

    tracked: tuple[ObjectSighting, ...] = ()
    prompted: tuple[PromptedObject, ...] = ()

    def merged(self) -> tuple[ObjectSighting, ...]:
        """All objects once, in the order in which they came; prompts have the last word."""
        sightings = {sighting.object_id: sighting for sighting in self.tracked}
        for one in self.prompted:
            sightings[one.object_id] = one.as_sighting(sightings.get(one.object_id))
        return tuple(sightings.values())

    def with_visible(self, object_ids: Collection[int]) -> tuple[ObjectSighting, ...]:
        """All objects once, of which some count as visible."""
        return tuple(
            replace(one, presence=max(one.presence, VISIBLE_FROM))
            if one.object_id in object_ids
            else one
            for one in self.merged()
        )


def make_masks(
    seen: Sightings,
    size: ImageSize,
    config: SessionConfig,
    history: ObjectHistory,
    *,
    is_whole: bool,
    on_change_only: bool,
) -> tuple[TrackedMask, ...] | None:
    """Make the masks of an answer.

    Args:
        seen: What the tracker saw.
        size: Size of the frame.
        config: The session's config.
        history: What was answered before; it is brought up to date.
        is_whole: Whether these are all objects: then clients forget masks that are left out.
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
    if is_whole:
        history.keep_sent([one.object_id for one in observations])
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
    made = []
    for rank, candidate in enumerate(others[: options.max_masks - 1], start=1):
        bitmap = to_bitmap(candidate.logits, size, config.postprocess)
        finished = finish_mask(candidate, bitmap, options, 0, one.object_id, rank)
        made.append(replace(mask, mask=finished, unchanged=False, crop=None))
    return made
