from __future__ import annotations

import pytest
import torch

from maskwire_server.engines.sam2.object_memory import FrameOutput, MemoryRules, ObjectMemory

PUBLISHED = MemoryRules(
    memory_count=7,
    stride=1,
    closest_conditioning=-1,
    pointer_count=16,
    only_past_pointers=True,
    signed_distances=True,
)


def rules(**changes: object) -> MemoryRules:
    values = {name: getattr(PUBLISHED, name) for name in PUBLISHED.__dataclass_fields__}
    return MemoryRules(**{**values, **changes})


def output(frame: int) -> FrameOutput:
    """An output whose every tensor tells its frame."""
    return FrameOutput(
        logits=torch.full((1, 1, 2, 2), float(frame)),
        pointer=torch.full((1, 4), float(frame)),
        object_score=torch.zeros(1, 1),
        memory=torch.full((3, 2), float(frame), dtype=torch.bfloat16),
    )


def memory(conditioning: tuple[int, ...], followed: tuple[int, ...]) -> ObjectMemory:
    return ObjectMemory(
        conditioning={frame: output(frame) for frame in conditioning},
        followed={frame: output(frame) for frame in followed},
    )


def frames_of(tensors: tuple[torch.Tensor, ...]) -> list[int]:
    return [int(tensor.flatten()[0]) for tensor in tensors]


def test_the_conditioning_frame_and_the_last_six_are_attended_to():
    recalled = memory((0,), tuple(range(1, 20))).recall(20, PUBLISHED)
    assert frames_of(recalled.memories) == [0, 14, 15, 16, 17, 18, 19]
    assert recalled.positions == (0, 1, 2, 3, 4, 5, 6)
    assert frames_of(recalled.pointers) == [0, *range(19, 4, -1)]
    assert recalled.distances == (20, *range(1, 16))
    assert recalled.structure == (7, 16)


def test_a_young_object_has_fewer_memories():
    recalled = memory((10,), (11, 12)).recall(13, PUBLISHED)
    assert frames_of(recalled.memories) == [10, 11, 12]
    assert recalled.positions == (0, 5, 6)
    assert recalled.distances == (3, 1, 2)


def test_memories_farther_apart_end_with_the_last_frame():
    recalled = memory((0,), tuple(range(1, 20))).recall(20, rules(memory_count=4, stride=3))
    assert frames_of(recalled.memories) == [0, 15, 18, 19]


def test_a_later_conditioning_frame_gives_its_memory_but_no_pointer():
    recalled = memory((0, 9), (1, 2)).recall(3, PUBLISHED)
    assert frames_of(recalled.memories) == [0, 9, 1, 2]
    assert frames_of(recalled.pointers) == [0, 2, 1]
    everything = memory((0, 9), ()).recall(3, rules(only_past_pointers=False))
    assert everything.distances == (3, -6)
    unsigned = rules(only_past_pointers=False, signed_distances=False)
    assert memory((0, 9), ()).recall(3, unsigned).distances == (3, 6)


def test_conditioning_frames_that_are_not_chosen_count_as_followed_ones():
    recalled = memory((0, 5, 7, 8), (6,)).recall(9, rules(closest_conditioning=2))
    assert frames_of(recalled.memories) == [8, 7, 5, 6]
    assert recalled.positions == (0, 0, 3, 4)
    assert recalled.distances == (1, 2, 3, 4, 9)


def test_networks_without_pointers_recall_none():
    assert memory((0,), (1,)).recall(2, rules(pointer_count=0)).pointers == ()


@pytest.mark.parametrize("held_frames", [0, 5])
def test_what_is_pruned_is_never_recalled(held_frames: int):
    whole, pruned = memory((0,), tuple(range(1, 40))), memory((0,), tuple(range(1, 40)))
    pruned.prune(39, held_frames, PUBLISHED)
    assert len(pruned.followed) == 16 + held_frames
    for frame in (*range(39 - held_frames, 40), 40):
        expected, kept = whole.recall(frame, PUBLISHED), pruned.recall(frame, PUBLISHED)
        assert frames_of(kept.memories) == frames_of(expected.memories)
        assert frames_of(kept.pointers) == frames_of(expected.pointers)


def test_logits_stay_only_for_frames_that_are_held():
    kept = memory((0,), tuple(range(1, 10)))
    kept.prune(9, 2, PUBLISHED)
    assert [frame for frame, each in kept.followed.items() if each.logits is not None] == [7, 8, 9]
    assert kept.conditioning[0].logits is None
    assert kept.conditioning[0].memory is not None
    with pytest.raises(ValueError, match="no longer held"):
        kept.conditioning[0].held_logits()


def test_the_first_and_the_newest_conditioning_frames_stay():
    kept = memory(tuple(range(0, 60, 5)), ())
    kept.prune(60, 0, PUBLISHED)
    assert sorted(kept.conditioning) == [0, 25, 30, 35, 40, 45, 50, 55]


def test_prompts_correct_where_the_object_was_followed_and_begin_it_elsewhere():
    known = memory((0,), (1, 2))
    assert known.begins_with(0)
    assert not known.begins_with(2)
    known.settle(2, output(2))
    known.settle(5, output(5))
    assert sorted(known.conditioning) == [0, 5]
    assert sorted(known.followed) == [1, 2]
