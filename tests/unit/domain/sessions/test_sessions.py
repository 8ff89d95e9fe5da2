"""Live sessions over the colour engine: what is answered, in which order, and what is left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from maskwire_server.domain.errors import ErrorCode
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.masks import decode_mask
from maskwire_server.domain.postprocessing import PostprocessOptions
from maskwire_server.domain.segmentation import MaskOptions, ScoreKind
from maskwire_server.domain.sessions.messages import (
    Acknowledgement,
    ClearPrompts,
    DropPolicy,
    DropReason,
    EndSession,
    NewPrompts,
    RemoveObjects,
    ResetSession,
    ResponseSampling,
    SessionConfig,
    SessionEnded,
    SetPaused,
    StartSession,
)
from maskwire_server.domain.tracked_masks import MaskDelta, ObjectState
from tests.support.session_world import (
    World,
    click,
    frame,
    left_edge,
    picture,
    refused,
    result,
)

RED, BLUE = (255, 0, 0), (0, 0, 255)


async def test_an_object_is_followed_and_keeps_its_id(world: World) -> None:
    async with world.session() as talk:
        first = result(await talk.ask(frame(picture((2, RED), (20, BLUE)), 7, click(3))))
        assert (first.frame_id, first.capture_time_ns) == (7, 7000)
        assert [(one.mask.object_id, one.is_new) for one in first.masks] == [(1, True)]
        assert first.masks[0].mask.score_kind is ScoreKind.PREDICTED_IOU
        second = result(await talk.ask(frame(picture((5, RED), (20, BLUE)), 8)))
        assert left_edge(second.masks[0]) == 5
        assert not second.masks[0].is_new
        assert second.masks[0].mask.score_kind is ScoreKind.OBJECT_PRESENCE
        added = result(await talk.ask(NewPrompts((click(22),), None, replace=False)))
        assert [one.mask.object_id for one in added.masks] == [2]
        third = result(await talk.ask(frame(picture((8, RED), (24, BLUE)), 9)))
        assert {one.mask.object_id: left_edge(one) for one in third.masks} == {1: 8, 2: 24}


async def test_lost_and_found_again(world: World) -> None:
    async with world.session() as talk:
        await talk.ask(frame(picture((2, RED)), 1, click(3)))
        lost = result(await talk.ask(frame(picture(), 2))).masks[0]
        assert (lost.state, lost.mask.encoded, lost.mask.area_px) == (ObjectState.LOST, None, 0)
        found = result(await talk.ask(frame(picture((9, RED)), 3))).masks[0]
        assert found.state is ObjectState.FOUND_AGAIN
        assert result(await talk.ask(frame(picture((9, RED)), 4))).masks[0].state is (
            ObjectState.TRACKED
        )


async def test_prompts_on_an_earlier_frame_and_on_one_that_is_gone(world: World) -> None:
    async with world.session(SessionConfig(held_frames=1)) as talk:
        await talk.ask(frame(picture((2, RED)), 1))
        await talk.ask(frame(picture((5, RED)), 2))
        earlier = result(await talk.ask(NewPrompts((click(3),), 1, replace=False)))
        assert (earlier.frame_id, left_edge(earlier.masks[0])) == (1, 2)
        await talk.ask(frame(picture((8, RED)), 3))
        gone = refused(await talk.ask(NewPrompts((click(3),), 1, replace=False)))
        assert gone.code is ErrorCode.FRAME_NOT_HELD


async def test_alternatives_come_right_after_a_prompt_only(world: World) -> None:
    options = MaskOptions(return_multiple_masks=True, max_masks=2)
    async with world.session(SessionConfig(mask_options=options)) as talk:
        first = result(await talk.ask(frame(picture((2, RED)), 1, click(3))))
        assert [(one.mask.index, one.mask.alternative) for one in first.masks] == [(0, 0), (1, 1)]
        second = result(await talk.ask(frame(picture((2, RED)), 2)))
        assert len(second.masks) == 1


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: NewPrompts((click(3),), None, replace=False), ErrorCode.SESSION_STATE),
        (lambda: StartSession(SessionConfig()), ErrorCode.INVALID_ARGUMENT),
        (lambda: RemoveObjects((5,)), ErrorCode.OBJECT_NOT_FOUND),
        (lambda: ClearPrompts((5,)), ErrorCode.OBJECT_NOT_FOUND),
        (lambda: frame(b"no image", 1), ErrorCode.INVALID_ARGUMENT),
        (lambda: frame(picture(), 1, click(99)), ErrorCode.INVALID_ARGUMENT),
        (
            lambda: frame(picture(), 1, *(click(3, object_id=one) for one in range(1, 6))),
            ErrorCode.INVALID_ARGUMENT,
        ),
    ],
    ids=["no frame", "config", "remove", "clear", "no image", "outside", "too many objects"],
)
async def test_what_breaks_a_rule_is_answered_in_band_and_changes_nothing(
    world: World, make: Callable[[], object], code: ErrorCode
) -> None:
    async with world.session() as talk:
        assert refused(await talk.ask(make())).code is code  # type: ignore[arg-type]
        after = result(await talk.ask(frame(picture((2, RED)), 1, click(3))))
        assert [one.mask.object_id for one in after.masks] == [1]


async def test_a_frame_of_another_size_needs_a_reset(world: World) -> None:
    async with world.session() as talk:
        await talk.ask(frame(picture((2, RED)), 1, click(3)))
        error = refused(await talk.ask(frame(picture(side=40), 2)))
        assert error.violations[0].field == "frame.image"
        assert await talk.ask(ResetSession()) == Acknowledgement(())
        after = result(await talk.ask(frame(picture((2, RED), side=40), 2, click(3))))
        # Ids go on, so that none ever means two things.
        assert [one.mask.object_id for one in after.masks] == [2]


async def test_a_sequence_that_does_not_grow_is_refused(world: World) -> None:
    async with world.session() as talk:
        await talk.ask(frame(picture((2, RED)), 1))
        talk.say(frame(picture((2, RED)), 2), sequence=1)
        response = await talk.hear()
        assert response.sequence == 1
        assert refused(response.content).violations[0].field == "sequence"


async def test_a_frame_number_that_is_held_is_refused(world: World) -> None:
    async with world.session() as talk:
        await talk.ask(frame(picture((2, RED)), 1))
        error = refused(await talk.ask(frame(picture((2, RED)), 1)))
        assert error.violations[0].field == "frame.frame_id"


async def test_removed_objects_are_gone_and_their_ids_stay_theirs(world: World) -> None:
    async with world.session() as talk:
        await talk.ask(frame(picture((2, RED), (20, BLUE)), 1, click(3, object_id=4)))
        assert await talk.ask(RemoveObjects((4,))) == Acknowledgement(())
        assert result(await talk.ask(frame(picture((2, RED)), 2))).masks == ()
        again = result(await talk.ask(NewPrompts((click(3),), None, replace=False)))
        assert [(one.mask.object_id, one.is_new) for one in again.masks] == [(5, True)]


async def test_while_paused_frames_are_answered_without_masks(world: World) -> None:
    async with world.session() as talk:
        await talk.ask(frame(picture((2, RED)), 1, click(3)))
        await talk.ask(SetPaused(paused=True))
        encoded = world.engine.encoded
        paused = result(await talk.ask(frame(picture((5, RED)), 2)))
        assert (paused.masks, paused.processed) == ((), None)
        assert world.engine.encoded == encoded
        error = refused(await talk.ask(frame(picture((5, RED)), 3, click(6))))
        assert error.code is ErrorCode.SESSION_STATE
        corrected = result(await talk.ask(NewPrompts((click(3),), 1, replace=False)))
        assert left_edge(corrected.masks[0]) == 2
        await talk.ask(SetPaused(paused=False))
        assert left_edge(result(await talk.ask(frame(picture((8, RED)), 4))).masks[0]) == 8


async def test_only_the_latest_frame_waits_and_every_frame_is_accounted_for(world: World) -> None:
    config = SessionConfig(drop_policy=DropPolicy.LATEST_ONLY)
    async with world.session(config) as talk:
        await talk.ask(frame(picture((2, RED)), 1, click(3)))
        world.engine.gate.clear()
        world.engine.reached_gate.clear()
        talk.say(frame(picture((3, RED)), 2))
        assert await asyncio.to_thread(world.engine.reached_gate.wait, 30)
        sent = [talk.say(frame(picture((number, RED)), number)) for number in range(3, 9)]
        prompted = talk.say(frame(picture((9, RED)), 9, click(10)))
        last = talk.say(frame(picture((10, RED)), 10))
        await talk.all_read()
        world.engine.gate.set()
        second = await talk.hear()
        third = await talk.hear()
        fourth = await talk.hear()
        assert (third.sequence, fourth.sequence) == (prompted, last)
        dropped = [*result(second.content).dropped_frames, *result(third.content).dropped_frames]
        assert [(one.sequence, one.reason) for one in dropped] == [
            (sequence, DropReason.STALE) for sequence in sent
        ]
        ended = await talk.ask(EndSession())
        assert isinstance(ended, SessionEnded)
        assert (ended.counts.received, ended.counts.answered, ended.counts.dropped) == (10, 4, 6)


async def test_process_all_pushes_back_instead_of_dropping(
    make_world: Callable[..., World],
) -> None:
    world = make_world(max_frames=2)
    async with world.session() as talk:
        world.engine.gate.clear()
        for number in range(1, 9):
            talk.say(frame(picture((2, RED)), number))
        assert await asyncio.to_thread(world.engine.reached_gate.wait, 30)
        for _ in range(100):
            await asyncio.sleep(0)
        # One is worked on, two wait, one is held by the reader: the others were not even read.
        assert talk.requests.qsize() == 4
        world.engine.gate.set()
        frames = [result((await talk.hear()).content).frame_id for _ in range(8)]
        assert frames == list(range(1, 9))


async def test_frames_are_decoded_while_an_earlier_one_is_on_the_device(world: World) -> None:
    async with world.session() as talk:
        world.engine.gate.clear()
        for number in range(1, 4):
            talk.say(frame(picture((number, RED)), number))
        assert await asyncio.to_thread(world.engine.reached_gate.wait, 30)
        async with asyncio.timeout(30):
            while world.value("maskwire_queue_seconds_count", executor="pixels") != 3:
                await asyncio.to_thread(world.engine.gate.wait, 0.01)
        world.engine.gate.set()
        frames = [result((await talk.hear()).content).frame_id for _ in range(3)]
        assert frames == [1, 2, 3]


async def test_sampling_leaves_out_frames_and_tells_them_with_the_next_answer(world: World) -> None:
    config = SessionConfig(sampling=ResponseSampling(every_nth_frame=3))
    async with world.session(config) as talk:
        await talk.ask(frame(picture((2, RED)), 1, click(3)))
        for number in range(2, 4):
            talk.say(frame(picture((2, RED)), number))
        answer = result(await talk.ask(frame(picture((2, RED)), 4)))
        assert [one.frame_id for one in answer.dropped_frames] == [2, 3]
        assert {one.reason for one in answer.dropped_frames} == {DropReason.SAMPLED_OUT}


async def test_on_change_only_answers_when_a_mask_changed(world: World) -> None:
    config = SessionConfig(sampling=ResponseSampling(on_change_only=True))
    async with world.session(config) as talk:
        await talk.ask(frame(picture((2, RED)), 1, click(3)))
        talk.say(frame(picture((2, RED), (20, BLUE)), 2))
        moved = result(await talk.ask(frame(picture((3, RED)), 3)))
        assert [one.frame_id for one in moved.dropped_frames] == [2]
        lost = result(await talk.ask(frame(picture(), 4)))
        assert lost.masks[0].state is ObjectState.LOST


async def test_on_change_only_a_mask_that_is_dropped_changes_once(world: World) -> None:
    config = SessionConfig(
        sampling=ResponseSampling(on_change_only=True),
        postprocess=PostprocessOptions(min_score=0.5),
    )
    async with world.session(config) as talk:
        await talk.ask(frame(picture((2, RED)), 1, click(3)))
        gone = result(await talk.ask(frame(picture(), 2)))
        assert gone.masks == ()
        talk.say(frame(picture(), 3))
        talk.say(frame(picture(), 4))
        again = result(await talk.ask(frame(picture((2, RED)), 5)))
        assert [one.frame_id for one in again.dropped_frames] == [3, 4]
        assert again.masks[0].state is ObjectState.FOUND_AGAIN


async def test_a_mask_that_was_dropped_comes_back_whole(world: World) -> None:
    config = SessionConfig(
        mask_delta=MaskDelta(mark_unchanged=True), postprocess=PostprocessOptions(min_score=0.5)
    )
    async with world.session(config) as talk:
        await talk.ask(frame(picture((2, RED), (20, BLUE)), 1, click(3, object_id=1), click(22)))
        only = result(await talk.ask(frame(picture((20, BLUE)), 2)))
        assert [one.mask.object_id for one in only.masks] == [2], "clients forget the other"
        again = result(await talk.ask(frame(picture((2, RED), (20, BLUE)), 3)))
        assert [one.unchanged for one in again.masks] == [False, True]


async def test_unchanged_masks_are_marked_and_masks_cropped(world: World) -> None:
    config = SessionConfig(mask_delta=MaskDelta(mark_unchanged=True, crop_to_box=True))
    async with world.session(config) as talk:
        first = result(await talk.ask(frame(picture((2, RED)), 1, click(3)))).masks[0]
        assert first.crop is not None
        assert (first.crop.x_min, first.crop.y_min, first.crop.width) == (2, 8, 6)
        assert first.mask.encoded is not None
        assert decode_mask(first.mask.encoded, ImageSize(6, 6)).all()
        second = result(await talk.ask(frame(picture((2, RED)), 2))).masks[0]
        assert (second.unchanged, second.mask.encoded) == (True, None)


async def test_a_still_image_is_encoded_once_and_kept_for_others(world: World) -> None:
    still = picture((2, RED), (20, BLUE))
    async with world.session() as talk:
        await talk.ask(frame(still, 1))
        for _ in range(5):
            await talk.ask(NewPrompts((click(3, object_id=1),), None, replace=True))
    assert world.engine.encoded == 1
    async with world.session() as talk:
        answer = result(await talk.ask(frame(still, 1, click(3))))
        assert answer.processed is not None
        assert answer.processed.embedding_cached
    assert world.engine.encoded == 1


async def test_frames_of_a_video_do_not_fill_the_cache(world: World) -> None:
    async with world.session() as talk:
        await talk.ask(frame(picture((2, RED)), 1))
        await talk.ask(frame(picture((3, RED)), 2))
    async with world.session() as talk:
        answer = result(await talk.ask(frame(picture((3, RED)), 1)))
        assert answer.processed is not None
        assert not answer.processed.embedding_cached


async def test_the_end_answers_everything_first(world: World) -> None:
    async with world.session() as talk:
        talk.say(frame(picture((2, RED)), 1, click(3)))
        talk.say(frame(picture((3, RED)), 2))
        end = talk.say(EndSession())
        assert [result((await talk.hear()).content).frame_id for _ in range(2)] == [1, 2]
        assert (await talk.hear()).sequence == end
        assert [response async for response in talk.responses] == []
    assert world.engine.open_trackers == 0


async def test_half_closing_is_an_end_too(world: World) -> None:
    async with world.session() as talk:
        talk.say(frame(picture((2, RED)), 1, click(3)))
        talk.close()
        result((await talk.hear()).content)
        assert isinstance((await talk.hear()).content, SessionEnded)


async def test_a_failing_device_refuses_the_frame_and_the_session_lives_on(world: World) -> None:
    async with world.session() as talk:
        await talk.ask(frame(picture((2, RED)), 1, click(3)))
        world.engine.device_is_broken = True
        assert refused(await talk.ask(frame(picture((3, RED)), 2))).code is (
            ErrorCode.MODEL_UNAVAILABLE
        )
        world.engine.device_is_broken = False
        assert left_edge(result(await talk.ask(frame(picture((4, RED)), 3))).masks[0]) == 4
