"""What is known of an object between frames. It never changes: each frame makes a new one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskwire_server.domain.logits import MaskLogits

from .appearance import Appearance
from .motion import STILL, Move
from .template import Template

VISIBLE_FROM = 0.5
"""Presence from which an object counts as seen."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """What an object looked like.

    Attributes:
        appearance: Its colours.
        template: The object itself.
        area: Pixels of the frame that it covered.
    """

    appearance: Appearance
    template: Template
    area: float


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """What is known of an object after a frame.

    Attributes:
        logits: Its mask when it was last seen.
        presence: Probability that it is visible in the frame, 0 to 1.
        sample: What it looks like; None while no pixel was ever its own.
        since: How it moved since the frame of the sample's template.
        last: How it moved into the frame where it was last seen.
        age: Frames in which it was seen since that template.
    """

    logits: MaskLogits
    presence: float
    sample: Sample | None
    since: Move = STILL
    last: Move = STILL
    age: int = 0

    @property
    def is_visible(self) -> bool:
        """Whether it was seen in the frame."""
        return self.presence >= VISIBLE_FROM

    def arrays(self) -> Iterator[NDArray[np.generic]]:
        """What it holds in memory."""
        yield self.logits.values
        if self.sample is not None:
            yield from self.sample.appearance.arrays()
            yield from self.sample.template.arrays()
