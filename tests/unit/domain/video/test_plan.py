"""Which frames are visited in which order, and how prompts on frames become objects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwire_server.domain.errors import MaskwireError
from maskwire_server.domain.geometry import Box, Point
from maskwire_server.domain.prompts import AnyPrompt, BoxPrompt, PointPrompt, Prompt
from maskwire_server.domain.video.plan import (
    FrameSupply,
    TrackPass,
    TrackPlan,
    number_prompts,
    plan_tracking,
)
from maskwire_server.domain.video.requests import FramePrompt, FrameRange, TrackDirection

FORWARD, BACKWARD, BOTH = TrackDirection
WHOLE = FrameSupply(stated=20, readable=20, is_whole=True)
POINT = PointPrompt(Point(1, 1))
BOX = BoxPrompt(Box(0, 0, 2, 2))


def prompts_on(*frames: int) -> list[FramePrompt]:
    return [
        FramePrompt(Prompt(POINT, None, f"prompts[{index}]"), frame)
        for index, frame in enumerate(frames)
    ]


def plan(
    frames: tuple[int, ...],
    direction: TrackDirection = FORWARD,
    chosen: FrameRange | None = None,
    supply: FrameSupply = WHOLE,
) -> TrackPlan:
    return plan_tracking(prompts_on(*frames), direction, chosen or FrameRange(), supply)


@pytest.mark.parametrize(
    ("direction", "orders", "total"),
    [
        (FORWARD, [(range(5, 20), True)], 15),
        (BACKWARD, [(range(9, -1, -1), True)], 10),
        (BOTH, [(range(5, 20), True), (range(5, -1, -1), False)], 20),
    ],
)
def test_directions_start_from_the_prompts(direction, orders, total):
    made = plan((9, 5, 7), direction)
    assert made == TrackPlan(tuple(TrackPass(*one) for one in orders), total, False)


def test_both_ways_from_the_first_frame_is_forward():
    assert plan((0,), BOTH) == plan((0,), FORWARD)


@given(
    count=st.integers(1, 60),
    start=st.integers(0, 20),
    length=st.integers(1, 60) | st.none(),
    stride=st.integers(1, 7),
    picks=st.lists(st.integers(0, 30), min_size=1, max_size=4),
    direction=st.sampled_from(TrackDirection),
)
def test_every_frame_that_is_asked_for_is_answered_once(
    count, start, length, stride, picks, direction
):
    end = None if length is None else start + length
    allowed = range(start, count if end is None else min(count, end), stride)
    if not allowed:
        return
    frames = tuple(allowed[pick % len(allowed)] for pick in picks)
    made = plan(frames, direction, FrameRange(start, end, stride), FrameSupply(count, count, True))
    answered = [
        frame for one in made.passes for frame in one.order[0 if one.answers_first else 1 :]
    ]
    wanted = {
        FORWARD: [frame for frame in allowed if frame >= min(frames)],
        BACKWARD: [frame for frame in allowed if frame <= max(frames)],
        BOTH: list(allowed),
    }[direction]
    assert sorted(answered) == wanted
    assert made.frames_total == len(answered)
    assert not made.is_cut_short
    assert {frame for one in made.passes for frame in one.order} >= set(frames)


@pytest.mark.parametrize(
    ("frames", "chosen", "field"),
    [
        ((3, 20), FrameRange(), r"prompts\[1\].frame_index: the video has 20 frames"),
        ((3,), FrameRange(start=4), r"prompts\[0\].frame_index: frame 3 .* leaves out"),
        ((3, 9), FrameRange(end=9), r"prompts\[1\].frame_index: frame 9 .* leaves out"),
        ((4, 7), FrameRange(stride=2), r"prompts\[1\].frame_index: frame 7 .* leaves out"),
        ((20,), FrameRange(start=20), r"frame_range.start_frame: the video has 20 frames"),
    ],
)
def test_frames_that_are_not_visited_are_named(frames, chosen, field):
    with pytest.raises(MaskwireError, match=field):
        plan(frames, FORWARD, chosen)


def test_a_range_may_reach_past_the_end():
    assert plan((3,), FORWARD, FrameRange(end=99)) == plan((3,), FORWARD)


class TestCutOff:
    """Files of which a part is missing."""

    STATED = FrameSupply(stated=20, readable=12, is_whole=False)
    UNSTATED = FrameSupply(stated=None, readable=12, is_whole=False)

    def test_what_is_there_is_visited(self):
        made = plan((5,), FORWARD, supply=self.STATED)
        assert made == TrackPlan((TrackPass(range(5, 12)),), 15, True)
        made = plan((5,), FORWARD, supply=self.UNSTATED)
        assert made == TrackPlan((TrackPass(range(5, 12)),), None, True)

    @pytest.mark.parametrize("supply", [STATED, UNSTATED])
    def test_a_range_that_is_all_there_misses_nothing(self, supply):
        assert plan((5,), FORWARD, FrameRange(end=12), supply) == TrackPlan(
            (TrackPass(range(5, 12)),), 7, False
        )
        assert not plan((5,), BACKWARD, supply=supply).is_cut_short

    @pytest.mark.parametrize("supply", [STATED, UNSTATED])
    def test_prompts_on_missing_frames_begin_nothing(self, supply):
        made = plan((5, 15), BACKWARD, supply=supply)
        assert made.is_cut_short
        assert made.passes == (TrackPass(range(5, -1, -1)),)
        assert plan((15,), BOTH, supply=supply).passes == ()


def numbers(*prompts: tuple[int, AnyPrompt, int | None]) -> dict[int, list[int | None]]:
    given_prompts = [
        FramePrompt(Prompt(content, object_id, "prompts[0]"), frame)
        for frame, content, object_id in prompts
    ]
    numbered = number_prompts(given_prompts)
    return {frame: [one.object_id for one in some] for frame, some in numbered.items()}


def test_points_without_an_id_are_one_object_on_each_frame():
    assert numbers((0, POINT, None), (0, POINT, None), (4, POINT, None)) == {0: [1, 1], 4: [2]}


def test_everything_else_without_an_id_is_an_object_of_its_own():
    assert numbers((0, BOX, None), (0, BOX, None), (4, POINT, None), (4, BOX, None)) == {
        0: [1, 2],
        4: [3, 4],
    }


def test_ids_that_are_given_stay_and_are_used_for_nothing_else():
    assert numbers((3, BOX, None), (0, POINT, 1), (3, POINT, 1), (5, BOX, 2), (6, BOX, None)) == {
        3: [3, 1],
        0: [1],
        5: [2],
        6: [4],
    }
