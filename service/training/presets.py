"""Sizes of a training run, by name.

The cpu preset fits an evening on two cores; the gpu preset makes use of a card.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preset:
    """Everything that decides what a run computes; the same preset and seed give the same weights.

    Attributes:
        steps: Optimiser steps.
        batch: Windows per step.
        fresh: Windows of a step that are new; the others go on from the step before with one more
            click and their last answer.
        peak_rate: Learning rate after the warm-up; it falls to `final_rate` along a cosine.
        coarse_size: Side of a window in pixels at first.
        fine_size: Side of a window from `coarse_share` of the steps on.
        average_decay: Decay of the moving average of the weights, which is what is kept.
        bf16: Whether to compute in bfloat16 (weights stay float32).
        workers: Processes that prepare samples.
        open_scenes: Scenes that the windows of a step are drawn from; each step replaces one.
        decay_steps: The rate stays at its peak until so many steps before the end; 0: it falls
            all the time.
        click_weight: What a click adds to the cross-entropy's weight of the pixels around it.
    """

    steps: int
    batch: int = 32
    fresh: int = 16
    peak_rate: float = 1.5e-3
    final_rate: float = 1e-5
    warmup_steps: int = 200
    coarse_size: int = 96
    fine_size: int = 128
    coarse_share: float = 0.4
    average_decay: float = 0.999
    weight_decay: float = 0.03
    bf16: bool = True
    workers: int = 1
    open_scenes: int = 64
    decay_steps: int = 0
    click_weight: float = 0.0

    def size_at(self, step: int) -> int:
        """Side of the windows of a step."""
        return self.coarse_size if step < self.coarse_share * self.steps else self.fine_size

    def rate_at(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, then a cosine."""
        if step < self.warmup_steps:
            return self.peak_rate * (step + 1) / self.warmup_steps
        falls_from = self.steps - self.decay_steps if self.decay_steps else self.warmup_steps
        progress = max(0, step - falls_from) / max(1, self.steps - falls_from)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return self.final_rate + (self.peak_rate - self.final_rate) * cosine


PRESETS = {
    "cpu": Preset(steps=7000, coarse_share=0.88),
    "gpu": Preset(steps=60000, batch=128, fresh=64, peak_rate=2e-3, fine_size=160, workers=12),
    # What the shipped weights came from, after a run of 6,900 steps; see their card.
    "more-clicks": Preset(
        steps=600,
        fresh=11,
        peak_rate=4e-4,
        final_rate=0.0,
        warmup_steps=50,
        coarse_share=1.0,
        decay_steps=1,
        click_weight=4.0,
    ),
    "clues": Preset(
        steps=700,
        fresh=11,
        peak_rate=4e-4,
        final_rate=0.0,
        warmup_steps=20,
        open_scenes=40,
        coarse_share=1.0,
        decay_steps=500,
        click_weight=4.0,
    ),
    "corrections": Preset(
        steps=3600,
        fresh=11,
        peak_rate=8e-4,
        final_rate=0.0,
        warmup_steps=100,
        open_scenes=40,
        coarse_share=1.0,
        click_weight=4.0,
    ),
    "smoke": Preset(
        steps=20, batch=4, fresh=2, warmup_steps=2, coarse_size=32, fine_size=64, open_scenes=4
    ),
}
