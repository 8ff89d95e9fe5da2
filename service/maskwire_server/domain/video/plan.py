"""Which frames of a video are visited in which order, and what prompts begin or correct where.

Everything here is pure: it knows how many frames a video has and nothing else of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ..concept_prompts import MAX_CONCEPTS, read_sought
from ..concept_tracking import SoughtConcept
from ..errors import MaskwireError, invalid_field
from ..prompts import PointPrompt, Prompt, TextPrompt
from .requests import FramePrompt, FrameRange, TrackDirection


@dataclass(frozen=True, slots=True)
class FrameSupply:
    """How many frames a video has.

    Attributes:
        stated: As the container tells; None where it does not.
        readable: How many are there to be decoded.
        is_whole: Whether none is known to be missing.
    """

    stated: int | None
    readable: int
    is_whole: bool


@dataclass(frozen=True, slots=True)
class TrackPass:
    """One way through the video, from prompts on.

    Attributes:
        order: The frames, in the order of the visit.
        answers_first: Whether the first frame is answered; not where another pass answered it.
    """

    order: range
    answers_first: bool = True


@dataclass(frozen=True, slots=True)
class TrackPlan:
    """All ways through the video, one after the other.

    Attributes:
        passes: At most two.
        frames_total: Frames that are to be answered; None while that is not known.
        is_cut_short: Whether frames that were asked for are missing from the file.
    """

    passes: tuple[TrackPass, ...]
    frames_total: int | None
    is_cut_short: bool


def plan_tracking(
    prompts: Sequence[FramePrompt],
    direction: TrackDirection,
    frames: FrameRange,
    supply: FrameSupply,
) -> TrackPlan:
    """Decide which frames to visit.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` for a range that begins past the end of the video, and for
            a prompt on a frame that is not there or that the range leaves out.
    """
    if supply.stated is not None and frames.start >= supply.stated:
        raise invalid_field("frame_range.start_frame", _frame_count_rule(supply.stated))
    end = _earliest(frames.end, supply.stated)
    for one in prompts:
        _check_frame(one, frames, end, supply.stated)
    prompted = sorted(one.frame_index for one in prompts)
    readable_end = min(supply.readable, supply.readable if end is None else end)
    readable = [index for index in prompted if index < readable_end]
    passes = _passes(readable, direction, frames, readable_end) if readable else ()
    goes_to_end = direction is not TrackDirection.BACKWARD
    ends_early = goes_to_end and (end is None or end > supply.readable)
    return TrackPlan(
        passes=tuple(passes),
        frames_total=_total(prompted, direction, frames, end),
        is_cut_short=not supply.is_whole and (ends_early or len(readable) < len(prompted)),
    )


def number_prompts(prompts: Sequence[FramePrompt]) -> Mapping[int, tuple[Prompt, ...]]:
    """Gather prompts by frame, each with the id of its object; texts are left out.

    Points without an id are one object together where they are on one frame; everything else
    without one is an object of its own. Ids given here are the smallest that no prompt uses, in
    the order of the prompts.
    """
    used = {one.prompt.object_id for one in prompts}
    free = (number for number in itertools.count(1) if number not in used)
    shared_by_frame: dict[int, int] = {}
    numbered: dict[int, list[Prompt]] = {}
    for one in prompts:
        object_id = one.prompt.object_id
        if isinstance(one.prompt.content, TextPrompt):
            continue
        if object_id is None and isinstance(one.prompt.content, PointPrompt):
            if one.frame_index not in shared_by_frame:
                shared_by_frame[one.frame_index] = next(free)
            object_id = shared_by_frame[one.frame_index]
        elif object_id is None:
            object_id = next(free)
        numbered.setdefault(one.frame_index, []).append(replace(one.prompt, object_id=object_id))
    return {frame: tuple(some) for frame, some in numbered.items()}


def gather_concepts(prompts: Sequence[FramePrompt]) -> Mapping[int, tuple[SoughtConcept, ...]]:
    """Gather texts by the frame that they are looked for from.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` for a text that is twice on one frame, for two texts of
            one object id, and for too many texts.
    """
    _check_texts([one.prompt for one in prompts])
    sought: dict[int, list[Prompt]] = {}
    for one in prompts:
        if isinstance(one.prompt.content, TextPrompt):
            sought.setdefault(one.frame_index, []).append(one.prompt)
    return {frame: read_sought(some) for frame, some in sought.items()}


def _check_texts(prompts: Sequence[Prompt]) -> None:
    """Check the texts of all frames together."""
    texts: set[str] = set()
    text_of_id: dict[int, str] = {}
    for one in prompts:
        if not isinstance(one.content, TextPrompt):
            continue
        text = one.content.text.strip()
        texts.add(text)
        if one.object_id is not None and text_of_id.setdefault(one.object_id, text) != text:
            raise invalid_field(f"{one.field}.object_id", "another text has it")
    if len(texts) > MAX_CONCEPTS:
        raise invalid_field("prompts", f"{len(texts)} texts are more than {MAX_CONCEPTS}")


def _passes(
    prompted: Sequence[int], direction: TrackDirection, frames: FrameRange, end: int
) -> Iterator[TrackPass]:
    first, last = prompted[0], prompted[-1]
    if direction is TrackDirection.BACKWARD:
        yield TrackPass(range(last, frames.start - 1, -frames.stride))
        return
    yield TrackPass(range(first, end, frames.stride))
    if direction is TrackDirection.BOTH and first > frames.start:
        yield TrackPass(range(first, frames.start - 1, -frames.stride), answers_first=False)


def _total(
    prompted: Sequence[int], direction: TrackDirection, frames: FrameRange, end: int | None
) -> int | None:
    if direction is TrackDirection.BACKWARD:
        return len(range(prompted[-1], frames.start - 1, -frames.stride))
    if end is None:
        return None
    start = prompted[0] if direction is TrackDirection.FORWARD else frames.start
    return len(range(start, end, frames.stride))


def _check_frame(one: FramePrompt, frames: FrameRange, end: int | None, stated: int | None) -> None:
    index, path = one.frame_index, f"{one.prompt.field}.frame_index"
    if stated is not None and index >= stated:
        raise invalid_field(path, _frame_count_rule(stated))
    is_inside = index >= frames.start and (end is None or index < end)
    if not is_inside or (index - frames.start) % frames.stride:
        raise _left_out(path, index)


def _left_out(path: str, index: int) -> MaskwireError:
    return invalid_field(path, f"frame {index} is one that frame_range leaves out")


def _frame_count_rule(count: int) -> str:
    return f"the video has {count} frames, counted from 0"


def _earliest(first: int | None, second: int | None) -> int | None:
    known = [end for end in (first, second) if end is not None]
    return min(known) if known else None
