"""Live sessions over the colour engine: what is answered, in which order, and what is left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.masks import decode_mask
from maskwire_server.domain.segmentation import Caller, MaskOptions, ScoreKind
from maskwire_server.domain.sessions.messages import (
    Acknowledgement,
    ClearPrompts,
    DrainNotice,
    DropPolicy,
    DropReason,
    EndSession,
    ExportSeed,
    FrameResult,
    NewPrompts,
    Refusal,
    RemoveObjects,
    ResetSession,
    ResponseSampling,
    SessionConfig,
    SessionEnded,
    SessionStarted,
    SetPaused,
    Snapshot,
    StartSession,
)
from maskwire_server.domain.tracked_masks import MaskDelta, ObjectState, TrackedMask
from tests.support.colour_engine import ColourEngine
from tests.support.session_world import CALLER, SIDE, Talk, World, click, frame, picture

RED, BLUE = (255, 0, 0), (0, 0, 255)
SIZE = ImageSize(SIDE, SIDE)


def left_edge(mask: TrackedMask) -> int:
    assert mask.mask.encoded is not None
    bitmap = decode_mask(mask.mask.encoded, SIZE)
    return int(np.flatnonzero(bitmap.any(0))[0])


def result(content: object) -> FrameResult:
    assert isinstance(content, FrameResult), content
    return content


def refused(content: object) -> MaskwireError:
    assert isinstance(content, Refusal), content
    return content.error


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


async def test_first_request_must_be_a_config(world: World) -> None:
    talk = Talk(world.service)
    talk.say(frame(picture(), 1))
    with pytest.raises(MaskwireError) as failure:
        await talk.hear()
    assert failure.value.code is ErrorCode.INVALID_ARGUMENT


async def test_limits_for_the_server_and_for_a_tenant(make_world: Callable[..., World]) -> None:
    world = make_world(max_sessions=3, max_sessions_per_tenant=2)
    async with world.session(), world.session():
        for caller, expected in ((CALLER, "tenant"), (Caller("other", "r"), None)):
            talk = Talk(world.service, caller)
            talk.say(StartSession(SessionConfig()))
            if expected is None:
                assert isinstance((await talk.hear()).content, SessionStarted)
                third = Talk(world.service, Caller("third", "r"))
                third.say(StartSession(SessionConfig()))
                with pytest.raises(MaskwireError, match="the server has its limit of 3"):
                    await third.hear()
                await talk.responses.aclose()
            else:
                with pytest.raises(MaskwireError, match="the tenant has its limit of 2") as failure:
                    await talk.hear()
                assert failure.value.retry_after is not None
    async with world.session():
        pass


async def test_an_idle_session_ends(make_world: Callable[..., World]) -> None:
    world = make_world(idle_timeout_s=0.05)
    talk = Talk(world.service)
    await talk.ask(StartSession(SessionConfig()))
    with pytest.raises(MaskwireError) as failure:
        await talk.hear()
    assert failure.value.code is ErrorCode.DEADLINE_EXCEEDED


async def test_a_lease_ends_after_a_notice_with_a_seed(make_world: Callable[..., World]) -> None:
    world = make_world(lease_s=0.4, notice_s=0.35)
    talk = Talk(world.service)
    await talk.ask(StartSession(SessionConfig()))
    await talk.ask(frame(picture((2, RED)), 1, click(3)))
    notice = (await talk.hear()).content
    assert isinstance(notice, DrainNotice)
    assert notice.seed is not None
    assert [one.object_id for one in notice.seed.objects] == [1]
    with pytest.raises(MaskwireError) as failure:
        await talk.hear()
    assert failure.value.code is ErrorCode.SESSION_OVER


async def test_draining_tells_sessions_and_refuses_new_ones(world: World) -> None:
    async with world.session() as talk:
        await talk.ask(frame(picture((2, RED)), 1, click(3)))
        world.service.begin_drain(grace_s=30)
        notice = (await talk.hear()).content
        assert isinstance(notice, DrainNotice)
        assert notice.seed is not None
        assert left_edge(result(await talk.ask(frame(picture((4, RED)), 2))).masks[0]) == 4
        fresh = Talk(world.service)
        fresh.say(StartSession(SessionConfig()))
        with pytest.raises(MaskwireError) as failure:
            await fresh.hear()
        assert failure.value.code is ErrorCode.SHUTTING_DOWN
        assert isinstance(await talk.ask(EndSession()), SessionEnded)


async def test_draining_ends_a_session_that_stays(world: World) -> None:
    talk = Talk(world.service)
    await talk.ask(StartSession(SessionConfig()))
    world.service.begin_drain(grace_s=0.01)
    assert isinstance((await talk.hear()).content, DrainNotice)
    with pytest.raises(MaskwireError) as failure:
        await talk.hear()
    assert failure.value.code is ErrorCode.SHUTTING_DOWN


async def test_draining_while_a_session_ends_does_not_hold_it(
    make_world: Callable[..., World],
) -> None:
    for steps in range(30):
        world = make_world(idle_timeout_s=3600.0)
        talk = Talk(world.service)
        await talk.ask(StartSession(SessionConfig()))
        talk.say(EndSession())
        ending = asyncio.create_task(rest(talk))
        for _ in range(steps):
            await asyncio.sleep(0)
        world.service.begin_drain(grace_s=3600.0)
        async with asyncio.timeout(20):
            assert any(isinstance(said, SessionEnded) for said in await ending)


async def rest(talk: Talk) -> list[object]:
    return [response.content async for response in talk.responses]


async def exported(world: World) -> Snapshot:
    async with world.session() as talk:
        await talk.ask(frame(picture((2, RED), (20, BLUE)), 1, click(3, object_id=7), click(22)))
        await talk.ask(frame(picture((4, RED)), 2))
        seed = await talk.ask(ExportSeed())
        assert isinstance(seed, Snapshot)
        return seed


async def test_a_session_goes_on_elsewhere_with_its_ids_masks_and_states(
    make_world: Callable[..., World],
) -> None:
    seed = await exported(make_world())
    assert seed.last_sequence == 4
    talk = Talk(make_world().service)
    started = await talk.ask(StartSession(seed.config, seed))
    assert isinstance(started, SessionStarted)
    assert set(started.resumed_object_ids) == {7, 1}
    after = result(await talk.ask(frame(picture((6, RED), (25, BLUE)), 3)))
    found = {one.mask.object_id: (one.state, left_edge(one)) for one in after.masks}
    assert found == {7: (ObjectState.TRACKED, 6), 1: (ObjectState.FOUND_AGAIN, 25)}
    assert not any(one.is_new for one in after.masks)
    new = result(await talk.ask(NewPrompts((click(7),), None, replace=False)))
    assert [one.mask.object_id for one in new.masks] == [8]
    await talk.responses.aclose()


async def test_a_seed_is_refused_by_another_checkpoint_and_another_tenant(
    make_world: Callable[..., World],
) -> None:
    seed = await exported(make_world())
    other = make_world(ColourEngine(checkpoint_digest="sha256:other"))
    for service, caller in ((other.service, CALLER), (make_world().service, Caller("b", "r"))):
        talk = Talk(service, caller)
        talk.say(StartSession(seed.config, seed))
        with pytest.raises(MaskwireError) as failure:
            await talk.hear()
        assert failure.value.code is ErrorCode.SEED_REFUSED


async def test_cancelling_at_any_point_frees_the_tracker(world: World) -> None:
    for steps in range(6):
        talk = Talk(world.service)
        talk.say(StartSession(SessionConfig()))
        talk.say(frame(picture((2, RED)), 1, click(3)))
        talk.say(frame(picture((2, RED)), 2))
        reading = asyncio.create_task(talk.hear())
        for _ in range(steps * 3):
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await talk.responses.aclose()
        assert world.engine.open_trackers == 0
    assert world.value("maskwire_sessions_active") == 0


async def test_metrics_count_frames_and_sessions(world: World) -> None:
    async with world.session() as talk:
        await talk.ask(frame(picture((2, RED)), 1, click(3)))
        value = world.value
        assert value("maskwire_sessions_active") == 1
        held = value("maskwire_sessions_bytes")
        assert held is not None
        assert held > 0
        assert value("maskwire_session_frames_total", outcome="received") == 1
        assert value("maskwire_session_frames_total", outcome="answered") == 1
        await talk.ask(EndSession())
        assert [one async for one in talk.responses] == []
    assert value("maskwire_sessions_ended_total", reason="ended") == 1
    assert value("maskwire_sessions_bytes") == 0
