"""The object ids of what texts find in a stored video."""

from __future__ import annotations

import itertools
from collections.abc import Collection


class FoundIds:
    """Gives ids that the request does not use, each to one object.

    Where the video is gone through twice, both ways begin with the same frame: what is found there
    is found again in the same order, and takes the same ids.
    """

    def __init__(self, used: Collection[int]) -> None:
        """Pass over the ids that the request uses."""
        self._free = (number for number in itertools.count(1) if number not in used)
        self._of_first_frame: list[int] = []
        self._again: list[int] = []
        self._is_first_frame = True

    def begin_pass(self) -> None:
        """Begin a way through the video."""
        self._again = self._of_first_frame.copy()
        self._is_first_frame = True

    def end_frame(self) -> None:
        """End a frame; only the first of a way may have been seen before."""
        self._again.clear()
        self._is_first_frame = False

    def new(self) -> int:
        """Return the id of an object that begins."""
        if self._again:
            return self._again.pop(0)
        number = next(self._free)
        if self._is_first_frame:
            self._of_first_frame.append(number)
        return number
