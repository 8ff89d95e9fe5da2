"""The stages of upstream's estimator, and how they are watched while they run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from maskwire_server.engines.sam3d_upstream import Progress, replaced

FOUND = 0.1
"""How much of the work is done when the people are found."""
DECODED = 0.9
"""How much when the estimator is done."""

# The network's `forward_step` runs the decoder of the body, then the one of the hands for the left
# hands, then for the right ones.
_PASSES = (("body", FOUND), ("left_hands", 0.4), ("right_hands", 0.65))


@contextlib.contextmanager
def watched(estimator: Any, progress: Progress) -> Iterator[None]:
    """Report the stages while an image is processed; then leave the estimator as it was.

    Args:
        estimator: `SAM3DBodyEstimator`.
        progress: Hears of each stage's beginning.
    """

    def counting(original: Callable[..., Any]) -> Callable[..., Any]:
        passes = iter(_PASSES)

        def forward_step(*arguments: Any, **named: Any) -> Any:
            stage = next(passes, None)
            if stage is not None:
                progress(*stage)
            return original(*arguments, **named)

        return forward_step

    with replaced(estimator.model, "forward_step", counting):
        yield
