"""The masks that automatic segmentation holds while it runs, and which of them count.

Masks are held at the model's resolution and only as far as they reach; their stability and boxes
are measured once, at a resolution close to the image's, and the choice works on these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry import Box, ImageSize, Point
from ..logits import MaskLogits
from ..mask_measures import stability_score
from ..packed_masks import Window
from .box_suppression import suppress
from .point_grid import Crop
from .proposals import Proposal, ProposalCriteria, measuring_size

_EDGE_PX = 20.0
"""A mask that comes so close to the edge of its crop goes on beyond it and is not wanted."""

_OUTSIDE = np.float32(-32.0)


@dataclass(frozen=True, slots=True, eq=False)
class HeldLogits:
    """Logits of a mask without the cells that cannot matter to where they are above 0.

    Attributes:
        shape: Rows and columns of the whole grid.
        window: What part of the image the whole grid covers.
        row: First row that is held.
        column: First column that is held.
        values: The cells above 0 and one more around them.
    """

    shape: tuple[int, int]
    window: Box
    row: int
    column: int
    values: NDArray[np.float32]

    @classmethod
    def of(cls, logits: MaskLogits) -> HeldLogits:
        """Copy what matters of some logits."""
        left, top, width, height = cv2.boundingRect((logits.values > 0).view(np.uint8))
        row, column = max(0, top - 1), max(0, left - 1)
        held = logits.values[row : top + height + 1, column : left + width + 1].copy()
        rows, columns = logits.values.shape
        return cls((rows, columns), logits.window, row, column, held)

    def restore(self) -> MaskLogits:
        """Return logits over the whole window that are above 0 where the first ones were."""
        values = np.full(self.shape, _OUTSIDE, dtype=np.float32)
        rows, columns = self.values.shape
        values[self.row : self.row + rows, self.column : self.column + columns] = self.values
        return MaskLogits(values, self.window)


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A mask that meets the criteria.

    Attributes:
        logits: The mask, in the image frame.
        predicted_iou: The model's own estimate of its IoU, 0 to 1.
        stability_score: IoU of the masks at a higher and a lower threshold, 0 to 1.
        box: Shape (4,), float32, x_min y_min x_max y_max in pixels of the image, the last two those
            of the last column and row, as SAM's automatic mask generation compares boxes.
        point: The grid point that found it, in the image frame.
    """

    logits: HeldLogits
    predicted_iou: float
    stability_score: float
    box: NDArray[np.float32]
    point: Point


def measure(
    proposals: Sequence[Proposal],
    points: NDArray[np.float32],
    crop: Crop,
    image: ImageSize,
    criteria: ProposalCriteria,
) -> list[Candidate]:
    """Return the proposals that are stable and lie within their crop, with their measures.

    Blocks, and runs on the executor for pixels; takes about 1 ms for each.

    Args:
        proposals: In the frame of the crop.
        points: The grid that their points are of, in the frame of the crop.
        crop: Where they were found.
        image: Size of the whole image.
        criteria: What is wanted of their stability.
    """
    found = []
    for proposal in proposals:
        measured = _measure(proposal.logits, crop.size, criteria)
        if measured is None:
            continue
        stability, box = measured
        corner = np.array([crop.window.left, crop.window.top], dtype=np.float32)
        box += np.tile(corner, 2)
        if _is_cut_off(box, crop.window, image):
            continue
        x, y = points[proposal.point] + corner
        found.append(
            Candidate(
                logits=HeldLogits.of(_moved(proposal.logits, crop.window)),
                predicted_iou=proposal.predicted_iou,
                stability_score=stability,
                box=box,
                point=Point(float(x), float(y)),
            )
        )
    return found


def _measure(
    logits: MaskLogits, size: ImageSize, criteria: ProposalCriteria
) -> tuple[float, NDArray[np.float32]] | None:
    """Return stability and box; None for a mask that is not stable or has no pixel."""
    region = _pixels_of(logits.window, size)
    if region is None:
        return None
    grid = measuring_size(ImageSize(int(region.width), int(region.height)))
    values = logits.resample(region, grid.width_px, grid.height_px)
    stability = stability_score(values, criteria.stability_score_offset)
    if stability < criteria.stability_score_thresh:
        return None
    left, top, width, height = cv2.boundingRect((values > 0).view(np.uint8))
    if width == 0:
        return None
    step = np.array(
        [region.width / grid.width_px, region.height / grid.height_px], dtype=np.float32
    )
    corners = np.array([[left, top], [left + width, top + height]], dtype=np.float32) * step
    corners[1] -= 1
    box = corners + np.array([region.x_min, region.y_min], dtype=np.float32)
    return stability, box.ravel()


def _pixels_of(window: Box, size: ImageSize) -> Box | None:
    """Return the whole pixels of a window that lie in a picture; None where there is none."""
    left, top = max(0.0, np.floor(window.x_min)), max(0.0, np.floor(window.y_min))
    right = min(float(size.width_px), np.ceil(window.x_max))
    bottom = min(float(size.height_px), np.ceil(window.y_max))
    return Box(left, top, right, bottom) if right > left and bottom > top else None


def _is_cut_off(box: NDArray[np.float32], crop: Window, image: ImageSize) -> bool:
    """Whether a box comes close to an edge of its crop that is no edge of the image."""
    edges = np.array([crop.left, crop.top, crop.right, crop.bottom], dtype=np.float32)
    borders = np.array([0, 0, image.width_px, image.height_px], dtype=np.float32)
    is_near_edge = np.abs(box - edges) <= _EDGE_PX
    is_near_border = np.abs(box - borders) <= _EDGE_PX
    return bool((is_near_edge & ~is_near_border).any())


def _moved(logits: MaskLogits, window: Window) -> MaskLogits:
    """Bring logits from a crop's frame to the image's."""
    box = logits.window
    moved = Box(
        box.x_min + window.left,
        box.y_min + window.top,
        box.x_max + window.left,
        box.y_max + window.top,
    )
    return MaskLogits(logits.values, moved)


class ProposalPool:
    """Candidates crop by crop, and the choice among them.

    As long as the budget lasts, the choice is that of SAM's automatic mask generation, which holds
    everything until the end of a crop. Beyond it, masks go early: first those that better ones
    overlap, then those with the lowest predicted IoU.
    """

    def __init__(self, *, box_nms_thresh: float, crop_nms_thresh: float, budget_bytes: int) -> None:
        self._box_nms_thresh = box_nms_thresh
        self._crop_nms_thresh = crop_nms_thresh
        self._budget_bytes = budget_bytes
        self._finished: list[tuple[Candidate, int]] = []
        self._current: list[Candidate] = []
        self._current_pixels = 1
        self._is_cropped = False

    def start_crop(self, crop: Crop) -> None:
        """Note which crop is searched from now on."""
        self._current_pixels = crop.size.pixels
        self._is_cropped |= crop.layer > 0

    def add(self, candidates: Sequence[Candidate]) -> None:
        """Take candidates of the crop that is being searched."""
        self._current += candidates
        if self._held_bytes() > self._budget_bytes:
            self._current = self._best_of_crop()
            while self._current and self._held_bytes() > self._budget_bytes:
                self._current.pop()

    def finish_crop(self) -> None:
        """Note that the crop has been searched: what better masks of it overlap is dropped."""
        self._finished += [(one, self._current_pixels) for one in self._best_of_crop()]
        self._current = []

    def chosen(self) -> list[Candidate]:
        """Return the candidates that count so far; between crops, smaller ones are preferred."""
        current = [(one, self._current_pixels) for one in self._best_of_crop()]
        together = self._finished + current
        if not self._is_cropped:
            return [one for one, _ in together]
        boxes = _stacked([one for one, _ in together])
        scores = np.array([1 / pixels for _, pixels in together], dtype=np.float32)
        return [together[index][0] for index in suppress(boxes, scores, self._crop_nms_thresh)]

    def _best_of_crop(self) -> list[Candidate]:
        scores = np.array([one.predicted_iou for one in self._current], dtype=np.float32)
        kept = suppress(_stacked(self._current), scores, self._box_nms_thresh)
        return [self._current[index] for index in kept]

    def _held_bytes(self) -> int:
        finished = sum(one.logits.values.nbytes for one, _ in self._finished)
        return finished + sum(one.logits.values.nbytes for one in self._current)


def _stacked(candidates: Sequence[Candidate]) -> NDArray[np.float32]:
    if not candidates:
        return np.empty((0, 4), dtype=np.float32)
    return np.stack([one.box for one in candidates])
