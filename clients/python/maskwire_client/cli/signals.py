"""What a signal does before the service that is to be run takes signals itself."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["ended_by_sigterm"]


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the process within the block, unless something there handles it.

    Importing the server takes seconds. Process 1 of a container would not notice a signal
    meanwhile: the kernel drops those that it has no handler for.
    """
    former = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _end(_number: int, _frame: FrameType | None) -> None:
    # Not an exception, which an import in progress might take for its own.
    os._exit(0)
