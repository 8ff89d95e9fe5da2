"""What nano proposes at a grid of points: few looks, from coarse to fine, where there is something.

A look costs the same wherever it is taken, and a window shows only objects of about its own size.
First come regions of like colour, as if each had been boxed: a box tells nano much more than a
click. Then the points are taken in levels: a few of them with windows as large as the image, four
times as many with windows half as large, and so on. Points inside a mask of that size that was
accepted already, and points around which the image is plain, are settled without a look; of those
that are left at a level, the ones with the most to see are looked at. A first answer that is good
enough gets the second, closer look that prompts get too, and a mask that ends where there is
nothing to see is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isqrt

import cv2
import numpy as np
from numpy.typing import NDArray

from maskwire_server.domain.auto_segmentation.box_suppression import suppress
from maskwire_server.domain.auto_segmentation.proposals import (
    Proposal,
    ProposalBatch,
    ProposalCriteria,
)
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.engines.device import reporting_device_failure

from . import views, windows
from .network import MASKS, SINGLE
from .predictor import LARGEST_BATCH, WINDOW_SIZE, Answer, NanoPredictor, confirmed, cut_off
from .regions import Region, find_regions
from .views import View
from .windows import Window

# Points along a side of the grid at each level, and the side of the windows there over the image's
# longer side; the last level takes all points.
_LEVELS = ((4, 1.0), (8, 0.5), (16, 0.25), (None, 0.125))

_LOOKS_SHARE = 16
"""At a level at most one point of the grid in so many is looked at, but never fewer than a batch:
those with the most to see."""

_PLAIN_DEVIATION = 6.0
"""Around a point where colours deviate by less than this (of 255), there is no object to find."""

_MOST_REGIONS = 96
"""Regions of like colour that are looked at before the levels."""

_FIRST_SHARE = 0.7
"""Share of the wanted quality that a first answer must have to be looked at again."""

_DUPLICATE_IOU = 0.6
"""First answers whose boxes overlap by more are taken for one object."""

_SAM_DEFAULT, _OWN_DEFAULT = 0.88, 0.45
"""Thresholds of predicted IoU that let the same kind of mask through: SAM's scores of good masks
lie around 0.9, nano's estimates, which are right on average, around half of that."""

_OUTLINE_CONTRAST = 8.0
"""Least change of colours across a mask's outline, of 255."""

_LOGIT_SCALE = np.float32(12.0)
"""Nano's logits rise slowly across an outline. So scaled, an outline that moves little when the
threshold is shifted by one has the stability that SAM's masks have."""


@dataclass(frozen=True, slots=True)
class _Draft:
    """A first answer at a point, with the box of its mask in the image."""

    point: int
    answer: Answer
    quality: float
    box: NDArray[np.float32]


def propose(
    predictor: NanoPredictor,
    pixels: NDArray[np.uint8],
    points: NDArray[np.float32],
    criteria: ProposalCriteria,
    model: str,
) -> Iterator[ProposalBatch]:
    """Look for masks from coarse to fine, at most 32 windows a step; see `ProposingEngine.propose`.

    Args:
        predictor: The network with its windows.
        pixels: Shape (height, width, 3), uint8, RGB.
        points: Shape (n, 2), float32, a square grid row by row, in the image frame.
        criteria: What masks are wanted.
        model: Name of the model, for errors.
    """
    search = _Search(predictor, pixels, points, criteria)
    with reporting_device_failure(model):
        regions = find_regions(pixels, points, _MOST_REGIONS)
    for start in range(0, len(regions), LARGEST_BATCH):
        with reporting_device_failure(model):
            drafts = search.looks_at_regions(regions[start : start + LARGEST_BATCH])
        yield ProposalBatch(0, ())
        with reporting_device_failure(model):
            found = search.second_looks(drafts)
        yield ProposalBatch(0, found)
    settled = np.zeros(len(points), dtype=np.bool_)
    for level, share in enumerate(side for _, side in _LEVELS):
        members = _members(level, len(points))
        new = members[~settled[members]]
        looked_at = search.worth_looking(members, share)
        batches = [
            looked_at[start : start + LARGEST_BATCH]
            for start in range(0, len(looked_at), LARGEST_BATCH)
        ] or [looked_at]
        for number, batch in enumerate(batches):
            with reporting_device_failure(model):
                drafts = search.first_looks(batch, share)
            yield ProposalBatch(_part(len(new), number, 2 * len(batches)), ())
            with reporting_device_failure(model):
                found = search.second_looks(drafts)
            done = _part(len(new), number + len(batches), 2 * len(batches))
            yield ProposalBatch(done, found)
        settled[members] = True


def own_threshold(pred_iou_thresh: float) -> float:
    """Read a threshold of predicted IoU on SAM's scale as one on nano's: 0, the default and 1 fit.

    Nano's estimates are right on average, SAM's are not: masks that SAM scores 0.88 and nano
    `_OWN_DEFAULT` are about equally worth showing.
    """
    return float(np.interp(pred_iou_thresh, [0, _SAM_DEFAULT, 1], [0, _OWN_DEFAULT, 1]))


class _Search:
    """The looks at one image, and what they have found so far."""

    def __init__(
        self,
        predictor: NanoPredictor,
        pixels: NDArray[np.uint8],
        points: NDArray[np.float32],
        criteria: ProposalCriteria,
    ) -> None:
        self._predictor = predictor
        self._pixels = pixels
        self._image = ImageSize(width_px=pixels.shape[1], height_px=pixels.shape[0])
        self._longest = max(pixels.shape[:2])
        self._points = points
        self._criteria = criteria
        self._least = own_threshold(criteria.pred_iou_thresh)
        # Side of the smallest accepted mask over each point; infinite where there is none.
        self._covered = np.full(len(points), np.inf, dtype=np.float32)

    def worth_looking(self, members: NDArray[np.intp], share: float) -> NDArray[np.intp]:
        """Of some points, return those where a window of this size may show something new."""
        contrast = self._contrast(members, share * self._longest)
        is_new = self._covered[members] > share * self._longest
        may_show = np.flatnonzero(is_new & (contrast > _PLAIN_DEVIATION))
        most = max(LARGEST_BATCH, len(self._points) // _LOOKS_SHARE)
        clearest = may_show[np.argsort(-contrast[may_show], kind="stable")[:most]]
        return members[np.sort(clearest)]

    def first_looks(self, batch: NDArray[np.intp], share: float) -> list[_Draft]:
        """Look at points, and return the answers that deserve a second look, one for an object."""
        chosen = [
            views.click_view(self._points[point], share, self._image, WINDOW_SIZE)
            for point in batch
        ]
        return self._drafts(batch.tolist(), chosen)

    def looks_at_regions(self, regions: Sequence[Region]) -> list[_Draft]:
        """Look at regions as if they had been boxed; the rest as `first_looks`."""
        chosen = []
        for region in regions:
            click = self._click(region.point)
            boxed = ObjectPrompts(0, click.points, click.point_labels, region.box, mask=None)
            chosen += views.first_views(boxed, self._image, WINDOW_SIZE)
        return self._drafts([region.point for region in regions], chosen)

    def _drafts(self, points: Sequence[int], chosen: Sequence[View]) -> list[_Draft]:
        drafts = [
            _Draft(point, answer, quality, box)
            for point, answer in zip(
                points, self._predictor.look(self._pixels, chosen), strict=True
            )
            for quality, box in _judged(answer)
            if quality >= _FIRST_SHARE * self._least
        ]
        if not drafts:
            return []
        scores = np.array([draft.quality for draft in drafts], dtype=np.float32)
        boxes = np.stack([draft.box for draft in drafts])
        return [drafts[index] for index in suppress(boxes, scores, _DUPLICATE_IOU)]

    def second_looks(self, drafts: Sequence[_Draft]) -> tuple[Proposal, ...]:
        """Look closer at first answers, and return the masks that are good enough."""
        closer, looked_at = [], []
        for draft in drafts:
            view = views.closer_view(
                self._click(draft.point),
                draft.answer.candidate(SINGLE).logits,
                self._image,
                WINDOW_SIZE,
            )
            if view is not None:
                closer.append(views.mirrored(view))
                looked_at.append(draft)
        found = []
        for draft, second in zip(
            looked_at, self._predictor.look(self._pixels, closer), strict=True
        ):
            final = confirmed(draft.answer, second)
            for mask in range(MASKS if self._criteria.multimask else SINGLE + 1):
                candidate = final.candidate(mask)
                quality = candidate.predicted_iou * (1 - cut_off(candidate.logits.values))
                if quality > self._least and self._has_outline(candidate.logits):
                    found.append(self._accepted(draft.point, candidate.logits, quality))
        return tuple(found)

    def _has_outline(self, logits: MaskLogits) -> bool:
        """Whether there is anything to see where a mask ends; all masks have one where 0 is asked.

        A network that is asked for an object answers with one on an empty wall too.
        """
        if self._least == 0:
            return True
        side = round(logits.window.width)
        window = Window(round(logits.window.x_min), round(logits.window.y_min), side)
        seen = windows.cut(self._pixels, window, WINDOW_SIZE)
        return outline_contrast(seen, logits.values > 0) >= _OUTLINE_CONTRAST

    def _accepted(self, point: int, logits: MaskLogits, quality: float) -> Proposal:
        window = logits.window
        cells = (self._points - [window.x_min, window.y_min]) * (WINDOW_SIZE / window.width)
        is_inside = ((cells >= 0) & (cells < WINDOW_SIZE)).all(1)
        columns, rows = cells[is_inside].astype(np.intp).T
        is_object = np.zeros(len(self._points), dtype=np.bool_)
        is_object[is_inside] = logits.values[rows, columns] > 0
        area = np.count_nonzero(logits.values > 0) * (window.width / WINDOW_SIZE) ** 2
        side = np.float32(np.sqrt(area))
        self._covered[is_object] = np.minimum(self._covered[is_object], side)
        return Proposal(point, MaskLogits(logits.values * _LOGIT_SCALE, window), quality)

    def _click(self, point: int) -> ObjectPrompts:
        return ObjectPrompts(0, self._points[point][None], np.array([True]), box=None, mask=None)

    def _contrast(self, members: NDArray[np.intp], side: float) -> NDArray[np.float32]:
        """Return how much colours deviate in half a window around each point, 0 to 255."""
        reach = max(4, round(side / 4))
        deviations = np.empty(len(members), dtype=np.float32)
        for number, (x, y) in enumerate(self._points[members].astype(np.intp)):
            seen = self._pixels[max(0, y - reach) : y + reach, max(0, x - reach) : x + reach]
            step = max(1, reach // 16)
            deviations[number] = seen[::step, ::step].reshape(-1, 3).std(0).max()
        return deviations


def _judged(answer: Answer) -> Iterator[tuple[float, NDArray[np.float32]]]:
    """Yield the quality of an answer's mask and its box, where there is a mask."""
    box = views.logits_box(answer.candidate(SINGLE).logits)
    if box is not None:
        quality = float(answer.quality[SINGLE]) * (1 - cut_off(answer.logits[SINGLE]))
        yield quality, np.array([box.x_min, box.y_min, box.x_max, box.y_max], dtype=np.float32)


def outline_contrast(seen: NDArray[np.uint8], mask: NDArray[np.bool_]) -> float:
    """Return how much colours change across a mask's outline, less than inside, 0 to 255.

    Args:
        seen: Shape (side, side, 3), uint8.
        mask: Shape (side, side), bool. Its outline at the edges does not count.
    """
    changes = cv2.morphologyEx(seen, cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8)).max(axis=2)
    cells = mask.view(np.uint8)
    inner = cv2.erode(cells, np.ones((7, 7), np.uint8), borderType=cv2.BORDER_REPLICATE) > 0
    outline = (cv2.morphologyEx(cells, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0)[
        1:-1, 1:-1
    ]
    if not outline.any():
        return 0.0
    across = float(np.median(changes[1:-1, 1:-1][outline]))
    return across - 0.5 * float(np.median(changes[inner])) if inner.any() else across


def _members(level: int, count: int) -> NDArray[np.intp]:
    """Return the points of a level: every so many of a square grid."""
    side = isqrt(count)
    wanted, _ = _LEVELS[level]
    if wanted is None or side * side != count:
        return np.arange(count)
    step = max(1, side // wanted)
    ticks = np.arange(step // 2, side, step)
    return np.asarray((ticks[:, None] * side + ticks[None]).ravel(), np.intp)


def _part(whole: int, number: int, parts: int) -> int:
    """Return the size of one of nearly equal parts of a whole."""
    return whole * (number + 1) // parts - whole * number // parts
