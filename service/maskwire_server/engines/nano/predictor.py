"""Runs the network over views: first a look, then a closer one where the first was too wide.

All views of a request go through the network together, and never with those of another, so that
an answer depends on its request alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from maskwire_server.domain.engine import MaskCandidate, ObjectPrediction
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.engines.device import Placement
from maskwire_server.engines.nano import views, windows
from maskwire_server.engines.nano.network import SINGLE, NanoNetwork, WindowPrompts
from maskwire_server.engines.nano.views import View

WINDOW_SIZE = 128
"""Side of the square that the network looks at, in pixels."""

LARGEST_BATCH = 32
"""Windows in one pass of the network; more are looked at one batch after another."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the network said about one view: logits (masks, s, s) and IoU estimates (masks,)."""

    view: View
    logits: NDArray[np.float32]
    quality: NDArray[np.float32]

    def candidate(self, mask: int) -> MaskCandidate:
        window = views.window_box(self.view.window)
        return MaskCandidate(MaskLogits(self.logits[mask], window), float(self.quality[mask]))


class NanoPredictor:
    """The network with its windows: prompts of several objects in, candidates out."""

    def __init__(self, network: NanoNetwork, placement: Placement) -> None:
        self._placement = placement
        layout = torch.channels_last
        moved = network.to(device=placement.device, memory_format=layout)  # type: ignore[call-overload]
        self._network: NanoNetwork = moved.eval()

    def predict(
        self, pixels: NDArray[np.uint8], objects: Sequence[ObjectPrompts], *, multimask: bool
    ) -> list[ObjectPrediction]:
        """Answer the prompts of each object; see `SegmentationEngine.decode`."""
        image = ImageSize(pixels.shape[1], pixels.shape[0])
        first = [views.first_views(prompts, image, WINDOW_SIZE) for prompts in objects]
        answers = self._look(pixels, first)
        chosen = [_choose(each, multimask=multimask) for each in answers]
        closer = [
            [
                views.closer_view(prompts, candidate.logits, image, WINDOW_SIZE)
                if len(each) > 1
                else None
                for candidate in candidates
            ]
            for prompts, each, candidates in zip(objects, answers, chosen, strict=True)
        ]
        again = self._look(pixels, [[view for view in row if view is not None] for row in closer])
        predictions = []
        for prompts, candidates, row, second in zip(objects, chosen, closer, again, strict=True):
            answered = iter(second)
            merged = [
                candidate if view is None else next(answered).candidate(SINGLE)
                for candidate, view in zip(candidates, row, strict=True)
            ]
            predictions.append(ObjectPrediction(prompts.object_id, tuple(merged)))
        return predictions

    def _look(
        self, pixels: NDArray[np.uint8], grouped: Sequence[Sequence[View]]
    ) -> list[list[_Answer]]:
        """One pass over all views; the answers are grouped as the views were."""
        flat = [view for group in grouped for view in group]
        answers: list[_Answer] = []
        for start in range(0, len(flat), LARGEST_BATCH):
            answers += self._run(pixels, flat[start : start + LARGEST_BATCH])
        ordered = iter(answers)
        return [[next(ordered) for _ in group] for group in grouped]

    def _run(self, pixels: NDArray[np.uint8], batch: Sequence[View]) -> list[_Answer]:
        colours = np.stack([windows.cut(pixels, view.window, WINDOW_SIZE) for view in batch])
        most = max(1, *(len(view.clicks) for view in batch))
        clicks = np.full((len(batch), most, 3), -1, np.float32)
        for row, view in enumerate(batch):
            clicks[row, : len(view.clicks)] = view.clicks
        device = self._placement.device
        prompts = WindowPrompts(
            boxes=torch.from_numpy(np.stack([view.box for view in batch])).to(device),
            clicks=torch.from_numpy(clicks).to(device),
            previous=torch.from_numpy(np.stack([v.previous for v in batch])[:, None]).to(device),
        )
        scaled = torch.from_numpy(colours).to(device).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode(), self._placement.autocast():
            logits, quality = self._network(scaled, prompts)
        masks, scores = logits.cpu().numpy(), quality.sigmoid().cpu().numpy()
        return [_Answer(*row) for row in zip(batch, masks, scores, strict=True)]


def _choose(answers: Sequence[_Answer], *, multimask: bool) -> list[MaskCandidate]:
    """The candidates for one object: the best of one view, or of each view."""
    if len(answers) == 1:
        only = answers[0]
        if not multimask:
            return [only.candidate(SINGLE)]
        order = range(SINGLE + 1, len(only.quality))
        return [only.candidate(mask) for mask in order]
    best = [answer.candidate(SINGLE) for answer in answers]
    if multimask:
        return best
    scores = [
        candidate.predicted_iou * (1 - _cut_off(candidate.logits.values)) for candidate in best
    ]
    return [best[int(np.argmax(scores))]]


def _cut_off(values: NDArray[np.float32]) -> float:
    """How much of the window's edge the mask runs into, 0..1: it goes on beyond what was seen."""
    mask = values > 0
    edge = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return float(edge.mean())
