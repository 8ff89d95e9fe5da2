"""How live sessions begin and end: limits, leases, draining, seeds, cancelling, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.segmentation import Caller
from maskwire_server.domain.sessions.messages import (
    DrainNotice,
    EndSession,
    ExportSeed,
    NewPrompts,
    SessionConfig,
    SessionEnded,
    SessionStarted,
    Snapshot,
    StartSession,
)
from maskwire_server.domain.tracked_masks import ObjectState
from tests.support.colour_engine import ColourEngine
from tests.support.session_world import (
    CALLER,
    Talk,
    World,
    click,
    frame,
    left_edge,
    picture,
    result,
)

RED, BLUE = (255, 0, 0), (0, 0, 255)


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
    world = make_world(lease_s=3.3, notice_s=0.3)
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
    # Long enough for the notice to come first, wherever this process is held up.
    world.service.begin_drain(grace_s=3.0)
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
