"""Runs the network over views twice: first as the prompts say, then closer, with the first answer.

The second look is taken in a mirror, so that what the network gets wrong one way only, it sees
differently the second time.

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
from maskwire_server.engines.nano.network import MASKS, SINGLE, NanoNetwork, WindowPrompts
from maskwire_server.engines.nano.views import View

WINDOW_SIZE = 128
"""Side of the square that the network looks at, in pixels."""

LARGEST_BATCH = 32
"""Windows in one pass of the network; more are looked at one batch after another."""


_SECOND_QUALITY = np.float32(0.85)
"""What a second look thinks of itself on average: with an answer before it, it is too sure. The
first look's estimate is right on average; both together tell good from bad best."""

_CORRECTED_TRUST = 0.8
"""What is to be made of the quality of a corrected mask beside that of a fresh answer: with an
answer before it, the network is too sure. Five clicks, photographs and synthetic: 0.782 and 0.780;
without asking whether a click explains the change 0.764 and 0.780, and on the weights before, 0.753
and 0.752 against 0.724 and 0.747 with the corrected mask always."""

_COMPARED_CELLS = 64
"""Cells on each side of the grid on which an earlier mask and what would follow are compared."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the network said about one view: logits (masks, s, s) and IoU estimates (masks,)."""

    view: View
    logits: NDArray[np.float32]
    quality: NDArray[np.float32]

    def candidate(self, mask: int) -> MaskCandidate:
        """One of the masks with its quality."""
        window = views.window_box(self.view.window)
        return MaskCandidate(MaskLogits(self.logits[mask], window), float(self.quality[mask]))


@dataclass(frozen=True, slots=True)
class _Draft:
    """A first answer and the view that improves on it; None where the answer is empty."""

    first: Answer
    closer: View | None


class NanoPredictor:
    """The network with its windows: prompts of several objects in, candidates out."""

    def __init__(self, network: NanoNetwork, placement: Placement) -> None:
        self._placement = placement
        # Not autocast, which would round all weights anew for each look.
        moved = network.to(  # type: ignore[call-overload]
            device=placement.device, dtype=placement.dtype, memory_format=torch.channels_last
        )
        self._network: NanoNetwork = moved.eval()

    def predict(
        self, pixels: NDArray[np.uint8], objects: Sequence[ObjectPrompts], *, multimask: bool
    ) -> list[ObjectPrediction]:
        """Answer the prompts of each object; see `SegmentationEngine.decode`."""
        image = ImageSize(pixels.shape[1], pixels.shape[0])
        first = [_first_views(prompts, image, multimask=multimask) for prompts in objects]
        answers = iter(self.look(pixels, [view for group in first for view in group]))
        drafts: list[list[_Draft]] = []
        for prompts, group in zip(objects, first, strict=True):
            seen = [next(answers) for _ in group]
            is_all = multimask or prompts.mask is not None
            chosen = seen if is_all else [max(seen, key=_worth)]
            drafts.append([_draft(prompts, answer, image) for answer in chosen])
        closer = [draft.closer for row in drafts for draft in row if draft.closer is not None]
        again = iter(self.look(pixels, closer))
        predictions = []
        for prompts, row in zip(objects, drafts, strict=True):
            final = [
                draft.first if draft.closer is None else confirmed(draft.first, next(again))
                for draft in row
            ]
            if prompts.mask is not None and len(final) > 1:
                final = [_agreed(prompts, row, final, image)]
            candidates = _candidates(final, multimask=multimask)
            predictions.append(ObjectPrediction(prompts.object_id, candidates))
        return predictions

    def look(self, pixels: NDArray[np.uint8], chosen: Sequence[View]) -> list[Answer]:
        """Run the network over views of one picture, once."""
        answers: dict[int, Answer] = {}
        for size in sorted({view.size for view in chosen}):
            alike = [index for index, view in enumerate(chosen) if view.size == size]
            for start in range(0, len(alike), LARGEST_BATCH):
                batch = alike[start : start + LARGEST_BATCH]
                seen = self._run(pixels, [chosen[index] for index in batch])
                answers.update(zip(batch, seen, strict=True))
        return [answers[index] for index in range(len(chosen))]

    def _run(self, pixels: NDArray[np.uint8], batch: Sequence[View]) -> list[Answer]:
        """Look at views of one size."""
        colours = _seen(pixels, batch)
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
        with torch.inference_mode():
            logits, quality = self._network(scaled, prompts)
        masks, scores = logits.cpu().numpy(), quality.sigmoid().cpu().numpy()
        return [
            Answer(view, mask[..., ::-1] if view.is_mirrored else mask, score)
            for view, mask, score in zip(batch, masks, scores, strict=True)
        ]


def _seen(pixels: NDArray[np.uint8], batch: Sequence[View]) -> NDArray[np.uint8]:
    """What the views show; a window that several share, as clicks share the widest, is cut once."""
    size = batch[0].size
    cut = {window: windows.cut(pixels, window, size) for window in {v.window for v in batch}}
    shown = [(cut[view.window], view.is_mirrored) for view in batch]
    return np.stack([colours[:, ::-1] if mirrored else colours for colours, mirrored in shown])


def _first_views(prompts: ObjectPrompts, image: ImageSize, *, multimask: bool) -> list[View]:
    """Where to look first; where a mask is corrected, its own view comes before the fresh one."""
    chosen = views.first_views(prompts, image, WINDOW_SIZE)
    fresh = None if multimask else views.fresh_view(prompts, image, WINDOW_SIZE)
    return chosen if fresh is None else [*chosen, fresh]


def _worth(answer: Answer) -> float:
    """What an answer is thought to be worth beside those of other windows."""
    return float(answer.quality[SINGLE]) * (1 - cut_off(answer.logits[SINGLE]))


def _agreed(
    prompts: ObjectPrompts, drafts: Sequence[_Draft], final: Sequence[Answer], image: ImageSize
) -> Answer:
    """Of the corrected mask and the fresh answer, what is worth more and goes with the clicks."""

    def worth(index: int) -> float:
        answer = final[index]
        mask = answer.candidate(SINGLE).logits
        agreement = views.agreement(prompts, mask)
        explanation = views.explanation(prompts, mask, image, _COMPARED_CELLS)
        seen_whole = 1 - cut_off(drafts[index].first.logits[SINGLE])
        trust = _CORRECTED_TRUST if index == 0 else 1.0
        return trust * _worth(answer) * seen_whole * agreement**2 * explanation

    return final[max(range(len(final)), key=worth)]


def _draft(prompts: ObjectPrompts, answer: Answer, image: ImageSize) -> _Draft:
    mask = answer.candidate(SINGLE).logits
    closer = views.closer_view(prompts, mask, image, WINDOW_SIZE)
    return _Draft(answer, None if closer is None else views.mirrored(closer))


def confirmed(first: Answer, second: Answer) -> Answer:
    """The second answer, with what both looks together say of its quality."""
    quality = first.quality[SINGLE] * second.quality / _SECOND_QUALITY
    return Answer(second.view, second.logits, np.minimum(quality, np.float32(1)))


def _candidates(answers: Sequence[Answer], *, multimask: bool) -> tuple[MaskCandidate, ...]:
    """One candidate of each view's answer; of a lone view all alternatives where wanted."""
    if multimask and len(answers) == 1:
        return tuple(answers[0].candidate(mask) for mask in range(SINGLE + 1, MASKS))
    return tuple(answer.candidate(SINGLE) for answer in answers)


def cut_off(values: NDArray[np.float32]) -> float:
    """How much of the window's edge the mask runs into, 0..1: it goes on beyond what was seen."""
    mask = values > 0
    edge = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return float(edge.mean())
