"""Which of the objects that texts found are not shown: removed ones, and those gone for long."""

from __future__ import annotations

from collections.abc import Collection, Mapping

_FRAMES_UNSEEN = 30
"""Frames after which an object that is not seen may be forgotten."""


class OutOfSight:
    """For how many frames each object was not seen, and which ones were removed.

    A removed object stays known until it is out of sight for long, so that it is not found anew at
    once. Any other that is gone for long leaves its place to a new one where there is no other.
    """

    def __init__(self, most_removed: int) -> None:
        """Know nothing yet.

        Args:
            most_removed: Most removed objects that stay known.
        """
        self._most_removed = most_removed
        self._unseen: dict[int, int] = {}
        self._removed: list[int] = []

    @property
    def removed(self) -> Collection[int]:
        """The removed objects that are still known."""
        return self._removed

    @property
    def long_gone(self) -> list[int]:
        """Objects that were not removed and are gone for long, those first that are the longest."""
        gone = [one for one, frames in self._unseen.items() if frames > _FRAMES_UNSEEN]
        gone.sort(key=lambda one: -self._unseen[one])
        return [one for one in gone if one not in self._removed]

    def remove(self, internal_id: int) -> int | None:
        """Remove an object; return the one to forget for it where too many are removed."""
        self._removed.append(internal_id)
        return self._removed[0] if len(self._removed) > self._most_removed else None

    def note(self, is_seen: Mapping[int, bool]) -> list[int]:
        """Note which objects are seen in a frame; return removed ones that are to be forgotten."""
        for one, seen in is_seen.items():
            self._unseen[one] = 0 if seen else self._unseen.get(one, 0) + 1
        return [one for one in self._removed if self._unseen.get(one, 0) > _FRAMES_UNSEEN]

    def keep_only(self, known: Collection[int]) -> None:
        """Forget all objects but these."""
        self._unseen = {one: frames for one, frames in self._unseen.items() if one in known}
        self._removed = [one for one in self._removed if one in known]
