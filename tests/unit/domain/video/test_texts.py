"""Texts among the prompts of a video: when they are looked for, and the ids of what they find."""

from __future__ import annotations

import pytest

from maskwire_server.domain.concept_prompts import MAX_CONCEPTS
from maskwire_server.domain.concept_tracking import SoughtConcept
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import Box, Point
from maskwire_server.domain.prompts import AnyPrompt, BoxPrompt, PointPrompt, Prompt, TextPrompt
from maskwire_server.domain.video.found_ids import FoundIds
from maskwire_server.domain.video.plan import gather_concepts, number_prompts
from maskwire_server.domain.video.requests import FramePrompt
from tests.support.video_world import prompt_on, request, world

CLICK = PointPrompt(Point(1.0, 1.0))


def said(content: AnyPrompt, frame: int, object_id: int | None = None) -> FramePrompt:
    return FramePrompt(Prompt(content, object_id, "prompts[0]"), frame)


def test_texts_and_objects_go_their_own_ways():
    prompts = [said(TextPrompt("disc", 0.4), 3, 9), said(CLICK, 3), said(TextPrompt("wheel"), 5)]
    assert gather_concepts(prompts) == {
        3: (SoughtConcept("disc", 0.4, 9),),
        5: (SoughtConcept("wheel"),),
    }
    assert [one.object_id for one in number_prompts(prompts)[3]] == [1]
    assert 5 not in number_prompts(prompts)


@pytest.mark.parametrize(
    "wrong",
    [
        [said(TextPrompt("disc"), 3), said(TextPrompt("disc"), 3)],
        [said(TextPrompt("disc"), 3, 1), said(TextPrompt("wheel"), 3, 1)],
        [said(TextPrompt("  "), 3)],
    ],
)
def test_texts_of_one_frame_differ(wrong: list[FramePrompt]):
    with pytest.raises(MaskwireError) as raised:
        gather_concepts(wrong)
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT


def test_texts_of_all_frames_together_are_bounded():
    names = [f"disc {number}" for number in range(MAX_CONCEPTS)]
    many = [said(TextPrompt(name), frame) for frame, name in enumerate(names)]
    again = [said(TextPrompt("disc 0"), len(names))]
    assert len(gather_concepts([*many, *again])) == MAX_CONCEPTS + 1
    with pytest.raises(MaskwireError, match=f"{MAX_CONCEPTS + 1} texts"):
        gather_concepts([*many, said(TextPrompt("wheel"), 0)])


def test_texts_of_all_frames_have_ids_of_their_own():
    first, again = said(TextPrompt("disc"), 0, 7), said(TextPrompt(" disc", 0.9), 2, 7)
    assert len(gather_concepts([first, again])) == 2
    with pytest.raises(MaskwireError, match=r"prompts\[0\].object_id"):
        gather_concepts([first, said(TextPrompt("wheel"), 5, 7)])


def test_the_id_of_a_text_goes_to_what_begins_first_of_both_ways():
    sought = (SoughtConcept("disc", object_id=7), SoughtConcept("wheel", object_id=8))
    ids = FoundIds({7, 8})
    ids.begin_pass()
    assert ids.still_free(sought) == sought
    ids.end_frame([8])
    ids.end_frame([7, 8])
    ids.begin_pass()
    assert [one.object_id for one in ids.still_free(sought)] == [None, 8]


def test_found_objects_take_the_smallest_free_ids():
    ids = FoundIds({1, 3})
    assert [ids.new() for _ in range(3)] == [2, 4, 5]


def test_the_second_way_begins_with_the_ids_of_the_first():
    ids = FoundIds(())
    ids.begin_pass()
    assert [ids.new(), ids.new()] == [1, 2]
    ids.end_frame()
    assert ids.new() == 3
    ids.begin_pass()
    assert [ids.new(), ids.new()] == [1, 2]
    ids.end_frame()
    assert ids.new() == 4, "what only the second way finds is another object"


@pytest.mark.parametrize("content", [TextPrompt("disc"), BoxPrompt(Box(0, 0, 9, 9), False)])
async def test_a_model_that_takes_neither_says_what_would_help(content: AnyPrompt):
    async with world() as made:
        with pytest.raises(MaskwireError) as raised:
            await made.frames(request(prompt_on(0, content)))
    assert raised.value.code is ErrorCode.UNSUPPORTED_BY_MODEL
    if isinstance(content, TextPrompt):
        assert "maskwire models pull sam3" in raised.value.message
