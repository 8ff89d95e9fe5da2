"""From an object's prompts to the windows that the network looks at, and back to candidates.

A view is one window with its prompts in window coordinates. Pure geometry over numpy; running the
network over views is `predictor`.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.engines.nano import windows
from maskwire_server.engines.nano.windows import Window

MARGIN = 1.6
"""Side of a window over the longer side of what it shows (a box, an earlier mask)."""

CORRECTION_MARGIN = 3.0
"""The same where clicks correct an earlier mask: the object may be larger than that mask."""

CLOSER_MARGIN = 1.25
"""The same for the second look, which has an answer to go by."""

FRESH_MARGIN = 4.0
"""Side of a window for clicks that may replace an earlier mask, over the distance between the
foreground clicks and the nearest background click: the object hardly reaches twice as far."""

CLICK_SCALES = (0.22, 0.45, 1.0)
"""Sides of the windows for clicks alone, over the image's longer side."""

WIDE_SIZE = 0.75
"""Size at which all but the narrowest of them are seen, over that of other windows: they are there
for what is large, and the second look sees that closer. It saves a fifth of the computation where
several objects are clicked; one click alone is hardly faster, in batches of two sizes."""


@dataclass(frozen=True, slots=True)
class View:
    """One window and its prompts.

    Attributes:
        window: Where in the image.
        box: Shape (4,), float32, x_min y_min x_max y_max in window coordinates 0..1; NaN for none.
        clicks: Shape (n, 3), float32, x and y in window coordinates and label 1 or 0.
        previous: Shape (size, size), float32, probability of the earlier mask; -1 for none.
        is_mirrored: Whether the window's pixels are seen in a mirror, as the prompts then are.
    """

    window: Window
    box: NDArray[np.float32]
    clicks: NDArray[np.float32]
    previous: NDArray[np.float32]
    is_mirrored: bool = False

    @property
    def size(self) -> int:
        """Side of the square that the network sees of the window, in pixels."""
        return len(self.previous)


def mirrored(view: View) -> View:
    """The same window seen in a mirror."""
    box = np.array([1 - view.box[2], view.box[1], 1 - view.box[0], view.box[3]], np.float32)
    clicks = view.clicks * np.array([-1, 1, 1], np.float32) + np.array([1, 0, 0], np.float32)
    return View(view.window, box, clicks, view.previous[:, ::-1], not view.is_mirrored)


def first_views(prompts: ObjectPrompts, image: ImageSize, size: int) -> list[View]:
    """The views that answer an object's prompts: one where they bound the object, else three."""
    extent = _extent(prompts, image)
    if extent is None and not len(prompts.points):  # a mask that shows nothing inside the image
        extent = Box.covering(image)
    if extent is not None:
        corrected = prompts.mask is not None and len(prompts.points) > 0
        margin = CORRECTION_MARGIN if corrected else MARGIN
        return [_view(prompts, window_on(extent, image, margin), prompts.mask, size)]
    narrow, *wide = _click_windows(prompts, image)
    wide_size = round(WIDE_SIZE * size)
    return [
        _view(prompts, narrow, None, size),
        *(_view(prompts, window, None, wide_size) for window in wide),
    ]


def fresh_view(prompts: ObjectPrompts, image: ImageSize, size: int) -> View | None:
    """A view that forgets the earlier mask: its clicks alone, as near as they let it be.

    A mask that went much too far is worn off by a click at a time only, and its window is too wide
    to see a small object in; background clicks say how far that goes at most.

    Returns:
        None without a mask, with a box, or without clicks of both kinds.
    """
    foreground = prompts.points[prompts.point_labels]
    background = prompts.points[~prompts.point_labels]
    is_corrected = prompts.mask is not None and prompts.box is None
    if not is_corrected or not len(foreground) or not len(background):
        return None
    centre = foreground.mean(0)
    nearest = float(np.hypot(*(background - centre).T).min())
    spread = float((foreground.max(0) - foreground.min(0)).max())
    window = windows.window_around(
        float(centre[0]),
        float(centre[1]),
        max(FRESH_MARGIN * nearest, MARGIN * spread),
        image.height_px,
        image.width_px,
    )
    return _view(prompts, window, None, size)


def agreement(prompts: ObjectPrompts, answer: MaskLogits) -> float:
    """Share of the clicks that an answer has on their side, 0..1; 1 without clicks."""
    if not len(prompts.points):
        return 1.0
    rows, columns = answer.values.shape
    corner = np.array([answer.window.x_min, answer.window.y_min])
    scale = np.array([columns / answer.window.width, rows / answer.window.height])
    x, y = np.floor((prompts.points - corner) * scale).astype(np.int64).T
    is_known = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
    value = answer.values[y.clip(0, rows - 1), x.clip(0, columns - 1)]
    return float((((value > 0) & is_known) == prompts.point_labels).mean())


def explanation(prompts: ObjectPrompts, answer: MaskLogits, image: ImageSize, size: int) -> float:
    """How well the clicks say why the earlier mask should become this answer, 0..1.

    Whoever corrects a mask clicks well inside the largest thing that is wrong with it: so one of
    the clicks should lie about as deep as anything does in what the answer changes.

    Args:
        prompts: With an earlier mask, and with clicks.
        answer: What would come after it.
        image: Size of the image.
        size: Cells on each side of the grid on which both are compared.

    Returns:
        The distance of the deepest click to the rim of the changes over the greatest distance
        there is; 1 where nothing changes.
    """
    extent = _extent(prompts, image)
    shown = logits_box(answer)
    if extent is None or shown is None:
        return 1.0 if extent is shown else 0.0
    window = window_on(_union(extent, shown), image, 1.1)
    before = _previous(prompts.mask, window, size) > 0.5
    changed = before ^ (_previous(answer, window, size) > 0.5)
    depth = cv2.distanceTransform(np.pad(changed, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    greatest = float(depth.max())
    if greatest == 0:
        return 1.0
    corner = np.array([window.left, window.top])
    x, y = np.floor((prompts.points - corner) * (size / window.side)).astype(np.int64).T
    is_seen = (x >= 0) & (x < size) & (y >= 0) & (y < size)
    return float(depth[y[is_seen] + 1, x[is_seen] + 1].max(initial=0.0)) / greatest


def click_view(point: NDArray[np.float32], share: float, image: ImageSize, size: int) -> View:
    """A view with one foreground click; its side is this share of the image's longer side."""
    prompts = ObjectPrompts(0, point[None], np.array([True]), box=None, mask=None)
    side = share * max(image.width_px, image.height_px)
    window = windows.window_around(
        float(point[0]), float(point[1]), side, image.height_px, image.width_px
    )
    return _view(prompts, window, None, size)


def closer_view(
    prompts: ObjectPrompts, answer: MaskLogits, image: ImageSize, size: int
) -> View | None:
    """A view on the box and on a first answer, with that answer drawn; None if it is empty."""
    extent = logits_box(answer)
    if extent is None:
        return None
    if prompts.box is not None:
        extent = _union(extent, prompts.box)
    extent = _with_foreground(extent, prompts)
    return _view(prompts, window_on(extent, image, CLOSER_MARGIN), answer, size)


def logits_box(logits: MaskLogits) -> Box | None:
    """The box, in the image, of the cells above 0; None where there is none."""
    cells = windows.mask_box(logits.values > 0)
    if cells is None:
        return None
    rows, columns = logits.values.shape
    step_x, step_y = logits.window.width / columns, logits.window.height / rows
    return Box(
        logits.window.x_min + cells[0] * step_x,
        logits.window.y_min + cells[1] * step_y,
        logits.window.x_min + cells[2] * step_x,
        logits.window.y_min + cells[3] * step_y,
    )


def window_box(window: Window) -> Box:
    """The window as a box of the image."""
    left, top, side = float(window.left), float(window.top), float(window.side)
    return Box(left, top, left + side, top + side)


def _extent(prompts: ObjectPrompts, image: ImageSize) -> Box | None:
    """The box that box, mask and foreground clicks span together; None for clicks alone."""
    extent = prompts.box
    if prompts.mask is not None:
        seen = _mask_box(prompts.mask, image)
        if seen is not None:
            extent = seen if extent is None else _union(extent, seen)
    return None if extent is None else _with_foreground(extent, prompts)


def _with_foreground(extent: Box, prompts: ObjectPrompts) -> Box:
    for x, y in prompts.points[prompts.point_labels]:
        extent = _union(extent, Box(float(x), float(y), float(x), float(y)))
    return extent


def _mask_box(mask: NDArray[np.bool_] | MaskLogits, image: ImageSize) -> Box | None:
    """The box of what a mask shows inside the image; logits may reach far beyond it."""
    if not isinstance(mask, MaskLogits):
        cells = windows.mask_box(mask)
        return None if cells is None else Box(*(float(edge) for edge in cells))
    box = logits_box(mask)
    if box is None:
        return None
    x_min, y_min = max(box.x_min, 0.0), max(box.y_min, 0.0)
    x_max, y_max = min(box.x_max, image.width_px), min(box.y_max, image.height_px)
    return Box(x_min, y_min, x_max, y_max) if x_max > x_min and y_max > y_min else None


def _union(first: Box, second: Box) -> Box:
    return Box(
        min(first.x_min, second.x_min),
        min(first.y_min, second.y_min),
        max(first.x_max, second.x_max),
        max(first.y_max, second.y_max),
    )


def window_on(extent: Box, image: ImageSize, margin: float) -> Window:
    """The square around a box whose side is `margin` times the box's longer side."""
    side = margin * max(extent.width, extent.height)
    centre_x, centre_y = (extent.x_min + extent.x_max) / 2, (extent.y_min + extent.y_max) / 2
    return windows.window_around(centre_x, centre_y, side, image.height_px, image.width_px)


def _click_windows(prompts: ObjectPrompts, image: ImageSize) -> list[Window]:
    chosen = prompts.points[prompts.point_labels]
    points = chosen if len(chosen) else prompts.points
    low, high = points.min(0), points.max(0)
    centre, spread = (low + high) / 2, float((high - low).max())
    longest = max(image.width_px, image.height_px)
    return [
        windows.window_around(
            float(centre[0]),
            float(centre[1]),
            max(scale * longest, MARGIN * spread),
            image.height_px,
            image.width_px,
        )
        for scale in CLICK_SCALES
    ]


def _view(
    prompts: ObjectPrompts,
    window: Window,
    mask: NDArray[np.bool_] | MaskLogits | None,
    size: int,
) -> View:
    offset = np.array([window.left, window.top], np.float32)
    box = np.full(4, np.nan, np.float32)
    if prompts.box is not None:
        corners = np.array(
            [prompts.box.x_min, prompts.box.y_min, prompts.box.x_max, prompts.box.y_max],
            np.float32,
        )
        box = np.asarray(((corners.reshape(2, 2) - offset) / window.side).ravel(), np.float32)
    clicks = np.empty((len(prompts.points), 3), np.float32)
    clicks[:, :2] = (prompts.points - offset) / window.side
    clicks[:, 2] = prompts.point_labels
    return View(window, box, clicks, _previous(mask, window, size))


def _previous(
    mask: NDArray[np.bool_] | MaskLogits | None, window: Window, size: int
) -> NDArray[np.float32]:
    if mask is None:
        return np.full((size, size), -1, np.float32)
    if not isinstance(mask, MaskLogits):
        covered = windows.cut(mask.astype(np.uint8) * 255, window, size, padding=0)
        return np.asarray(covered / 255.0, np.float32)
    region = window_box(window)
    values = mask.resample(region, size, size)
    probability = 1 / (1 + np.exp(-np.clip(values, -30, 30)))
    # Beyond its own window an answer says that nothing is object.
    ticks = (np.arange(size) + 0.5) * window.side / size
    columns, rows = window.left + ticks, window.top + ticks
    known_x = (columns >= mask.window.x_min) & (columns < mask.window.x_max)
    known_y = (rows >= mask.window.y_min) & (rows < mask.window.y_max)
    return np.asarray(probability * (known_y[:, None] & known_x[None, :]), np.float32)
