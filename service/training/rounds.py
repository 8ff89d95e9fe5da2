"""Later rounds of clicking: windows that go on with the answer they got, as at inference.

A window goes on with a corrective click and its last answer, or, as in the engine's second look,
with that answer alone; often it is cut closer around the answer.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskwire_server.engines.nano import windows
from maskwire_server.engines.nano.network import SINGLE
from maskwire_server.engines.nano.windows import Window
from training import prompts
from training.dataset import MAXIMUM_CLICKS, SMALLEST_SEEN, Chunk, join
from training.losses import best_mask

SINGLE_SHARE = 0.6
"""Share of windows that go on with the single answer; the others with the best alternative, as
where a person picks one of three."""

SECOND_LOOK_SHARE = 0.15
"""Share of windows that get no new click, only a closer look."""

CLOSER_SHARE = 0.4
"""Share of the clicked windows that are cut closer around answer and clicks."""

_CLOSEST = 0.35
"""Least side of a closer cut over the window's side: closer, only blur would be seen."""


def continue_round(
    rng: np.random.Generator, chunk: Chunk, logits: Tensor, iou: Tensor, count: int
) -> Chunk | None:
    """Up to `count` windows of a chunk, each with the answer just given and one more click.

    Windows whose answer is right, or whose clicks are used up, are not continued.
    """
    picked = np.where(rng.random(len(iou)) < SINGLE_SHARE, SINGLE, best_mask(iou).cpu().numpy())
    rows = torch.arange(len(iou), device=logits.device)
    chosen = logits[rows, torch.from_numpy(picked).to(logits.device)]
    answers = chosen.sigmoid().float().cpu().numpy().astype(np.float32)
    used = (chunk.clicks[..., 2] >= 0).sum(1)
    # Fresh windows go on a little more often than those that had their turn.
    weight = np.where(used <= 1, 1.0, 0.8) * (used < MAXIMUM_CLICKS)
    order = np.argsort(-weight * rng.random(len(weight)))
    continued: list[Chunk] = []
    for row in order:
        if len(continued) == count:
            break
        if weight[row] == 0:
            continue
        following = _continue(rng, _row(chunk, int(row)), answers[row], int(used[row]))
        if following is not None:
            continued.append(following)
    return join(continued) if continued else None


def _row(chunk: Chunk, row: int) -> Chunk:
    view = slice(row, row + 1)
    return Chunk(
        chunk.colours[view],
        chunk.targets[view],
        chunk.boxes[view],
        chunk.clicks[view].copy(),
        chunk.previous[view],
    )


def _continue(
    rng: np.random.Generator, sample: Chunk, answer: NDArray[np.float32], used: int
) -> Chunk | None:
    """One window's next round; None where its answer is right."""
    size = answer.shape[0]
    following = Chunk(sample.colours, sample.targets, sample.boxes, sample.clicks, answer[None])
    if rng.random() < SECOND_LOOK_SHARE:
        return closer(following, rng.uniform(1.15, 1.5)) or following
    click = prompts.corrective_click(sample.targets[0] > 127, answer > 0.5, rng)
    if click is None:
        return None
    following.clicks[0, used] = [click[0] / size, click[1] / size, click[2]]
    if rng.random() < CLOSER_SHARE:
        return closer(following, rng.uniform(1.2, 3.0)) or following
    return following


def closer(sample: Chunk, margin: float) -> Chunk | None:
    """The window cut anew around its answer, its clicks and its box, and enlarged.

    Returns:
        None where it would hardly be closer, or would show next to nothing of the target.
    """
    size = sample.colours.shape[1]
    box = windows.mask_box(sample.previous[0] > 0.5)
    if box is None:
        return None
    clicks = sample.clicks[0]
    corners = [np.reshape(box, (2, 2)), clicks[clicks[:, 2] == 1, :2] * size]
    if not np.isnan(sample.boxes[0, 0]):
        corners.append(sample.boxes[0].reshape(2, 2) * size)
    points = np.clip(np.concatenate(corners), 0, size)
    low, high = points.min(0), points.max(0)
    side = max(margin * float((high - low).max()), _CLOSEST * size)
    if side > 0.92 * size:
        return None
    centre = (low + high) / 2
    window = windows.window_around(float(centre[0]), float(centre[1]), side, size, size)
    return _cut(sample, window)


def _cut(sample: Chunk, window: Window) -> Chunk | None:
    size = sample.colours.shape[1]
    targets = windows.cut(sample.targets[0], window, size, padding=0)
    if int((targets > 127).sum()) < SMALLEST_SEEN:
        return None
    offset = np.array([window.left, window.top], np.float32) / size
    scale = np.float32(size / window.side)
    boxes = (sample.boxes.reshape(1, 2, 2) - offset) * scale
    clicks = sample.clicks.copy()
    used = clicks[..., 2] >= 0
    clicks[used, :2] = (clicks[used, :2] - offset) * scale
    rows = slice(window.top, window.top + window.side)
    columns = slice(window.left, window.left + window.side)
    previous = cv2.resize(np.ascontiguousarray(sample.previous[0, rows, columns]), (size, size))
    return Chunk(
        windows.cut(sample.colours[0], window, size)[None],
        targets[None],
        boxes.reshape(1, 4).astype(np.float32),
        clicks,
        np.asarray(previous, np.float32)[None],
    )
