"""The seed of a fault, where a test draws from one; `python -m tests.robustness` sets it."""

from __future__ import annotations

import os

VARIABLE = "MASKWIRE_FAULT_SEED"


def fault_seed(default: int = 0) -> int:
    """Return the seed; `default` where none is set."""
    return int(os.environ.get(VARIABLE, default))
