"""The plan of an object: which outlines make which part, before anything is painted."""

from __future__ import annotations

from dataclasses import dataclass

from training.shapes import Outline


@dataclass(frozen=True, slots=True)
class Part:
    """One surface of an object.

    `outlines` are filled together; `slot` names the colour that the part shares with its kin;
    `group` is the index of the larger piece that the part belongs to; `hole` cuts the outlines
    out of everything that the object painted before.
    """

    outlines: tuple[Outline, ...]
    slot: int = 0
    group: int = 0
    hole: bool = False


@dataclass(frozen=True, slots=True)
class ObjectPlan:
    """The parts of an object, back to front; `flat` objects take no rounded shading."""

    parts: tuple[Part, ...]
    flat: bool = False
    upright: bool = False
