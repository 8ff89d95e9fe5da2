"""When calls arrive and what they are: all drawn from the seed before the run begins.

A server that slows down changes nothing about the arrivals, so their latencies, which run from the
drawn instants, hold the waiting that users would have had: there is no coordinated omission.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .plan import ARRIVING, Kind, LoadPlan, PromptForm

__all__ = ["Arrival", "Schedule", "draw_schedule"]

MAX_ARRIVALS = 10_000_000
"""Most arrivals of one run: their table is held in memory, 18 bytes each."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One call to be made.

    Attributes:
        number: Counts the arrivals of the run, from 0.
        due_s: When it is to be made, in seconds after the beginning of the run.
        kind: Which call.
        picture: Number of the picture of the pool, to be taken modulo the pool's length.
        is_new: Whether the picture is to be changed, so that no server has seen it.
        prompt: The form of its prompt.
    """

    number: int
    due_s: float
    kind: Kind
    picture: int
    is_new: bool
    prompt: PromptForm


class Schedule:
    """The arrivals of a run in the order of their times; iterating gives them, any number of times.

    Args:
        due_s: Shape (n,), float64, rising: when, in seconds after the beginning.
        kinds: Shape (n,), uint8: index into `ARRIVING`.
        pictures: Shape (n,), uint32: number of a picture.
        are_new: Shape (n,), bool: whether the picture is a new one.
        prompts: Shape (n,), uint8: index into `forms`.
        forms: The forms of prompts.
    """

    def __init__(
        self,
        due_s: NDArray[np.float64],
        kinds: NDArray[np.uint8],
        pictures: NDArray[np.uint32],
        are_new: NDArray[np.bool_],
        prompts: NDArray[np.uint8],
        forms: tuple[PromptForm, ...],
    ) -> None:
        self.due_s = due_s
        self._kinds = kinds
        self._pictures = pictures
        self._are_new = are_new
        self._prompts = prompts
        self._forms = forms

    def __len__(self) -> int:
        """Number of arrivals."""
        return len(self.due_s)

    def __iter__(self) -> Iterator[Arrival]:
        """Give the arrivals."""
        for number in range(len(self)):
            yield Arrival(
                number=number,
                due_s=float(self.due_s[number]),
                kind=ARRIVING[self._kinds[number]],
                picture=int(self._pictures[number]),
                is_new=bool(self._are_new[number]),
                prompt=self._forms[self._prompts[number]],
            )


def draw_schedule(plan: LoadPlan) -> Schedule:
    """Draw the arrivals of a plan: a Poisson process, the same for the same seed.

    Raises:
        ValueError: There would be more than 10,000,000 arrivals.
    """
    expected = plan.rate_per_s * plan.length_s
    if expected > MAX_ARRIVALS:
        raise ValueError(f"{expected:.0f} arrivals are more than {MAX_ARRIVALS}: use a lower rate")
    draw = np.random.default_rng(plan.seed)
    # Given their number, the times of a Poisson process are uniform.
    count = int(draw.poisson(expected)) if plan.mix.arrives else 0
    due_s = np.sort(draw.uniform(0.0, plan.length_s, count))
    weights = np.array([plan.mix.weights.get(kind, 0.0) for kind in ARRIVING])
    shares = weights / weights.sum() if plan.mix.arrives else None
    return Schedule(
        due_s=due_s,
        kinds=draw.choice(len(ARRIVING), count, p=shares).astype(np.uint8),
        pictures=draw.integers(0, 2**32, count, dtype=np.uint32),
        are_new=draw.random(count) >= plan.mix.repeat_share,
        prompts=draw.integers(0, len(plan.mix.prompts), count).astype(np.uint8),
        forms=plan.mix.prompts,
    )
