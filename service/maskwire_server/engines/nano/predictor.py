"""Runs the network over views: where only clicks say where to look, first wide and then closer.

The look that counts is taken both ways, straight and mirrored, and the mean is the answer.

All views of a request go through the network together, and never with those of another, so that
an answer depends on its request alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from maskwire_server.engines.nano.network import MASKS, SINGLE, NanoNetwork, WindowPrompts
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


@dataclass(frozen=True, slots=True)
class _Draft:
    """A first candidate, where there is one, and the view that improves on it, where there is."""

    candidate: MaskCandidate | None
    view: View | None


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
        wide = iter(self._look(pixels, [v for group in first if len(group) > 1 for v in group]))
        drafts: list[list[_Draft]] = []
        for prompts, group in zip(objects, first, strict=True):
            if len(group) == 1:
                drafts.append([_Draft(None, group[0])])
                continue
            chosen = _choose([next(wide) for _ in group], multimask=multimask)
            closer = [views.closer_view(prompts, c.logits, image, WINDOW_SIZE) for c in chosen]
            drafts.append([_Draft(*pair) for pair in zip(chosen, closer, strict=True)])
        final = [draft.view for row in drafts for draft in row if draft.view is not None]
        answers = iter(self._look_both_ways(pixels, final))
        return [
            ObjectPrediction(prompts.object_id, tuple(_finish(row, answers, multimask=multimask)))
            for prompts, row in zip(objects, drafts, strict=True)
        ]

    def _look_both_ways(self, pixels: NDArray[np.uint8], chosen: Sequence[View]) -> list[_Answer]:
        """Look at each view and at its mirror image, and take the mean."""
        answers = self._look(pixels, [*chosen, *(views.mirrored(view) for view in chosen)])
        straight, turned = answers[: len(chosen)], answers[len(chosen) :]
        return [
            _Answer(one.view, _mean(one.logits, other.logits), _mean(one.quality, other.quality))
            for one, other in zip(straight, turned, strict=True)
        ]

    def _look(self, pixels: NDArray[np.uint8], chosen: Sequence[View]) -> list[_Answer]:
        answers: list[_Answer] = []
        for start in range(0, len(chosen), LARGEST_BATCH):
            answers += self._run(pixels, chosen[start : start + LARGEST_BATCH])
        return answers

    def _run(self, pixels: NDArray[np.uint8], batch: Sequence[View]) -> list[_Answer]:
        colours = np.stack([_seen(pixels, view) for view in batch])
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
        return [
            _Answer(view, mask[..., ::-1] if view.is_mirrored else mask, score)
            for view, mask, score in zip(batch, masks, scores, strict=True)
        ]


def _mean(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((first + second) * np.float32(0.5), np.float32)


def _seen(pixels: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    colours = windows.cut(pixels, view.window, WINDOW_SIZE)
    return colours[:, ::-1] if view.is_mirrored else colours


def _finish(
    drafts: Sequence[_Draft], answers: Iterator[_Answer], *, multimask: bool
) -> Iterator[MaskCandidate]:
    """The candidates for one object, from its drafts and the answers to their views."""
    for draft in drafts:
        if draft.view is None:
            if draft.candidate is not None:
                yield draft.candidate
            continue
        answer = next(answers)
        if draft.candidate is None and multimask:
            yield from (answer.candidate(mask) for mask in range(SINGLE + 1, MASKS))
        else:
            yield answer.candidate(SINGLE)


def _choose(answers: Sequence[_Answer], *, multimask: bool) -> list[MaskCandidate]:
    """What several views of one object's clicks saw: one candidate each, or the best alone."""
    candidates = [answer.candidate(SINGLE) for answer in answers]
    if multimask:
        return candidates
    scores = [c.predicted_iou * (1 - _cut_off(c.logits.values)) for c in candidates]
    return [candidates[int(np.argmax(scores))]]


def _cut_off(values: NDArray[np.float32]) -> float:
    """How much of the window's edge the mask runs into, 0..1: it goes on beyond what was seen."""
    mask = values > 0
    edge = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return float(edge.mean())
