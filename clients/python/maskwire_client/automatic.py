"""What `stream_auto_segment` of the clients gives while everything in a picture is being found."""

from __future__ import annotations

from dataclasses import dataclass, field

from .masks import Mask

__all__ = ["AutoSegmentUpdate"]


@dataclass(frozen=True, slots=True, eq=False)
class AutoSegmentUpdate:
    """How far the work is, and what changed in the set of masks.

    Attributes:
        points_done: Grid points done.
        points_total: Grid points in all; 0 while it is not known.
        accepted: Masks that count from now on; their `index` and `object_id` are theirs for good.
        withdrawn: Masks given before that better ones replaced.
    """

    points_done: int
    points_total: int
    accepted: tuple[Mask, ...] = field(default=(), repr=False)
    withdrawn: tuple[Mask, ...] = field(default=(), repr=False)
