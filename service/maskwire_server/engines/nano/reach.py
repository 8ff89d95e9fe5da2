"""What clicks say of places far from them: alike in colour, or reached without crossing an edge.

A convolution sees a click's disc only nearby, and a small network learns slowly to carry the
clicked colour across its window. These channels carry it: they are computed, not learnt.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

CLUE_CHANNELS = 4
"""Likeness to foreground and to background clicks, and reach from either."""

_CLICKS_AT_ONCE = 16

_LIKENESS_SPREAD = 0.12
"""Distance of colours (RGB in 0..1) at which likeness has fallen to 0.6."""

_EDGE_SPREAD = 0.08
"""Change of colours between neighbouring cells that stops all but a third of the reach."""

_REACH_PER_CELL = 0.96
"""What is left of the reach from one cell to the next where nothing changes."""

_FRAME = (1, 1, 1, 1)

_CELL_PX = 4
"""Side of a cell of the reach, in pixels of the window."""


def click_clues(colours: Tensor, clicks: Tensor) -> Tensor:
    """Draw what the clicks of a batch of windows say of the rest of the window.

    Args:
        colours: Shape (batch, 3, size, size), RGB in 0..1; `size` a multiple of 4.
        clicks: Shape (batch, clicks, 3), x and y in window coordinates 0..1 and label (1
            foreground, 0 background, -1 for an unused row); those beyond the window say nothing.

    Returns:
        Shape (batch, 4, size, size), float32 in 0..1: likeness to the foreground clicks and to the
        background clicks, and reach from the foreground clicks and from the background clicks.
    """
    size = colours.shape[-1]
    if not clicks.shape[1]:
        return colours.new_zeros(len(colours), CLUE_CHANNELS, size, size)
    with torch.no_grad():
        like = _likeness(functional.avg_pool2d(colours, 2), clicks)
        reach = _reach(functional.avg_pool2d(colours, _CELL_PX), clicks)
        return torch.cat(
            [
                functional.interpolate(like, size=(size, size), mode="nearest"),
                functional.interpolate(reach, size=(size, size), mode="nearest"),
            ],
            1,
        )


def _cells(clicks: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Index of the cell of each click in a grid of `size` rows and columns, and its sides.

    The sides, shape (batch, 2, clicks), say whether it is a foreground and a background click in
    the window.
    """
    places = torch.floor(clicks[..., :2] * size)
    inside = ((places >= 0) & (places < size)).all(-1)
    columns, rows = places.clamp(0, size - 1).long().unbind(-1)
    label = clicks[..., 2]
    return rows * size + columns, torch.stack([inside & (label == 1), inside & (label == 0)], 1)


def _likeness(cells: Tensor, clicks: Tensor) -> Tensor:
    """How like the colours of the most alike click each cell is: (batch, 2, cells, cells)."""
    batch, _, size, _ = cells.shape
    values = cells.flatten(2)
    best = cells.new_zeros(batch, 2, size * size)
    # A few at a time: thousands of clicks at once would take gigabytes.
    for start in range(0, clicks.shape[1], _CLICKS_AT_ONCE):
        index, sides = _cells(clicks[:, start : start + _CLICKS_AT_ONCE], size)
        clicked = values.gather(2, index[:, None].expand(-1, 3, -1))
        # No matrix product, which would be of half the precision under autocast.
        distance = ((clicked[..., None] - values[:, :, None]) ** 2).sum(1)
        like = torch.exp(-distance / (2 * _LIKENESS_SPREAD**2))
        for side in range(2):
            found = (like * sides[:, side, :, None]).amax(1)
            best[:, side] = torch.maximum(best[:, side], found)
    return best.view(batch, 2, size, size)


def _reach(cells: Tensor, clicks: Tensor) -> Tensor:
    """How much of each click gets to each cell, less with every step and every edge on the way."""
    batch, _, size, _ = cells.shape
    index, sides = _cells(clicks, size)
    reach = cells.new_zeros(batch, 2, size * size)
    reach.scatter_reduce_(2, index[:, None].expand(-1, 2, -1), sides.float(), "amax")
    reach = reach.view(batch, 2, size, size)
    brightest = _greatest_around(functional.pad(cells, _FRAME, mode="replicate"))
    darkest = -_greatest_around(functional.pad(-cells, _FRAME, mode="replicate"))
    changes = (brightest - darkest).amax(1, keepdim=True) / 2
    passed = _REACH_PER_CELL * torch.exp(-changes / _EDGE_SPREAD)
    return _spread(reach, passed, steps=size)


def _greatest_around(framed: Tensor) -> Tensor:
    """The greatest of each cell of a framed grid and its neighbours: rows, then columns.

    A tenth of the time of `max_pool2d`.
    """
    across = torch.maximum(torch.maximum(framed[..., :-2], framed[..., 2:]), framed[..., 1:-1])
    return torch.maximum(torch.maximum(across[:, :, :-2], across[:, :, 2:]), across[:, :, 1:-1])


def _spread(reach: Tensor, passed: Tensor, steps: int) -> Tensor:
    """Let each cell's reach go to its eight neighbours, step by step, so much as these let pass.

    In place, on views that are made once: the steps are short.
    """
    framed = functional.pad(reach, _FRAME)
    across, around = torch.empty_like(framed[..., 1:-1]), torch.empty_like(reach)
    left, middle, right = framed[..., :-2], framed[..., 1:-1], framed[..., 2:]
    above, level, below = across[:, :, :-2], across[:, :, 1:-1], across[:, :, 2:]
    here = middle[:, :, 1:-1]
    for _ in range(steps):
        torch.maximum(left, right, out=across)
        torch.maximum(across, middle, out=across)
        torch.maximum(above, below, out=around)
        torch.maximum(around, level, out=around)
        torch.maximum(here, around.mul_(passed), out=here)
    return here
