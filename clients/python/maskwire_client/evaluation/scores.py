"""What objects score, and the means over many; ready for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .clicking import clicks_needed

__all__ = [
    "TARGET_IOU",
    "PromptedScores",
    "TrackedScores",
    "mean_curve",
    "prompted_summary",
    "tracked_summary",
]

TARGET_IOU = 0.8
"""What `noc_80` counts the clicks to."""


@dataclass(frozen=True, slots=True)
class PromptedScores:
    """IoU of the answers to prompts on one object of a photograph.

    Attributes:
        scene: The photograph.
        name: The object.
        box: For its tight box.
        click_1: For one click in its middle, the best of three answers.
        curve: For 1, 2, ... clicks with one answer, each correcting the one before; 5 or more.
    """

    scene: str
    name: str
    box: float
    click_1: float
    curve: tuple[float, ...]

    @property
    def noc_80(self) -> int:
        """Clicks to an IoU of 0.8; all that were made where it is not reached."""
        return clicks_needed(self.curve, TARGET_IOU, len(self.curve))

    def as_json(self) -> dict[str, Any]:
        """Return the scores with the names that the means have."""
        return {
            "scene": self.scene,
            "object": self.name,
            "box": _rounded(self.box),
            "click_1": _rounded(self.click_1),
            "click_1_single": _rounded(self.curve[0]),
            "click_3": _rounded(self.curve[2]),
            "click_5": _rounded(self.curve[4]),
            "noc_80": self.noc_80,
            "curve": [_rounded(value) for value in self.curve],
        }


@dataclass(frozen=True, slots=True)
class TrackedScores:
    """J and F of one object of a clip, a value for each frame that counts.

    Attributes:
        clip: The clip.
        name: The object.
        frames: Numbers of the frames.
        similarity: J of each: IoU.
        accuracy: F of each: the boundary measure.
    """

    clip: str
    name: str
    frames: tuple[int, ...]
    similarity: tuple[float, ...]
    accuracy: tuple[float, ...]

    @property
    def j(self) -> float:
        """Mean J."""
        return float(np.mean(self.similarity))

    @property
    def f(self) -> float:
        """Mean F."""
        return float(np.mean(self.accuracy))

    @property
    def j_and_f(self) -> float:
        """The mean of both."""
        return (self.j + self.f) / 2

    def as_json(self) -> dict[str, Any]:
        """Return the scores with the names that the means have."""
        return {
            "clip": self.clip,
            "object": self.name,
            "j": _rounded(self.j),
            "f": _rounded(self.f),
            "j_and_f": _rounded(self.j_and_f),
            "frames": len(self.frames),
        }


def prompted_summary(scores: Sequence[PromptedScores]) -> dict[str, float | int]:
    """Return the means over objects of photographs, of at least one, and their number.

    `box`, `click_1` (best of three), `click_1_single` (one answer), `click_3` and `click_5` are
    mean IoU, `noc_80` is the mean number of clicks to an IoU of 0.8.
    """
    return {
        "box": _mean([score.box for score in scores]),
        "click_1": _mean([score.click_1 for score in scores]),
        "click_1_single": _mean([score.curve[0] for score in scores]),
        "click_3": _mean([score.curve[2] for score in scores]),
        "click_5": _mean([score.curve[4] for score in scores]),
        "noc_80": _mean([score.noc_80 for score in scores]),
        "objects": len(scores),
    }


def tracked_summary(scores: Sequence[TrackedScores]) -> dict[str, float | int]:
    """Return J, F and J&F as means over objects of clips, of at least one, and their number."""
    return {
        "j": _mean([score.j for score in scores]),
        "f": _mean([score.f for score in scores]),
        "j_and_f": _mean([score.j_and_f for score in scores]),
        "objects": len(scores),
    }


def mean_curve(scores: Sequence[PromptedScores]) -> list[float]:
    """Return the mean IoU after 1, 2, ... clicks over objects with curves of one length."""
    return [float(value) for value in np.mean([score.curve for score in scores], axis=0)]


def _mean(values: Sequence[float]) -> float:
    return _rounded(float(np.mean(values)))


def _rounded(value: float) -> float:
    return round(value, 6)
