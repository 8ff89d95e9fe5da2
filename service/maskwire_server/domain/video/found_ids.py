"""The object ids of what texts find in a stored video."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import replace

from ..concept_tracking import SoughtConcept


class FoundIds:
    """Gives ids that the request does not use, each to one object.

    Where the video is gone through twice, both ways begin with the same frame: what is found there
    is found again in the same order, and takes the same ids. What begins later is not known to be
    the same object both ways: the id of a text goes to the first instance of the first way.
    """

    def __init__(self, used: Collection[int]) -> None:
        """Pass over the ids that the request uses."""
        self._used = frozenset(used)
        self._in_first_frame: frozenset[int] = frozenset()
        self._begun_later: frozenset[int] = frozenset()
        self._free = (number for number in itertools.count(1) if number not in used)
        self._of_first_frame: list[int] = []
        self._again: list[int] = []
        self._is_first_frame = True

    def begin_pass(self) -> None:
        """Begin a way through the video."""
        self._again = self._of_first_frame.copy()
        self._is_first_frame = True

    def still_free(self, concepts: Sequence[SoughtConcept]) -> tuple[SoughtConcept, ...]:
        """Return concepts without the ids that objects of later frames have taken."""
        return tuple(
            replace(one, object_id=None) if one.object_id in self._begun_later else one
            for one in concepts
        )

    def end_frame(self, object_ids: Collection[int] = ()) -> None:
        """End a frame with these objects; only the first of a way may have been seen before."""
        own = self._used.intersection(object_ids)
        if self._is_first_frame:
            self._in_first_frame |= own
        self._begun_later |= own - self._in_first_frame
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
