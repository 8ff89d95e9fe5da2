"""Load against scripted servers: on time whatever they do, and everything accounted for."""

from __future__ import annotations

import asyncio
import itertools

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

from maskwire.v1 import realtime_pb2
from maskwire_client._calls import PROBE_FROM_BYTES
from maskwire_client.load import (
    Cameras,
    Kind,
    LoadPlan,
    LoadRun,
    Mix,
    Outcome,
    Picture,
    PicturePool,
    draw_schedule,
    moving_frames,
    report,
    synthetic_pool,
)
from maskwire_client.sessions import DropPolicy
from tests.support import scripted_sessions as scripted
from tests.support.scripted_server import Response, Script, refusing, returning, serving
from tests.support.scripted_sessions import SessionScript, serving_sessions

POOL = synthetic_pool(2, 32, 24, seed=0)
FRAMES = moving_frames(4, 32, 24, seed=0)
ANSWER = returning(Response())
TIMEOUT_S = 240.0


def plan_for(address: str, **changes) -> LoadPlan:
    values = {"rate_per_s": 100.0, "duration_s": 0.3, "warmup_s": 0.0, "deadline_s": 300.0}
    return LoadPlan(target=address, **{**values, **changes})


class Observed:
    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def call_ended(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


async def run(plan: LoadPlan, observer: Observed | None = None):
    return await LoadRun(plan, POOL, FRAMES, observer).carry_out()


async def test_a_server_that_stalls_changes_nothing_about_the_arrivals() -> None:
    """A generator that waited for answers would wait for ever here: none comes before the last."""
    all_there = asyncio.Event()

    async def answer(request, context):
        if len(script.requests) == count:
            all_there.set()
        await all_there.wait()
        return Response()

    script = Script([answer])
    async with serving(script) as address:
        plan = plan_for(address, mix=Mix(repeat_share=0.0), max_in_flight=1000)
        count = len(draw_schedule(plan))
        assert count > 10
        observed = Observed()
        async with asyncio.timeout(TIMEOUT_S):
            result = await run(plan, observed)
    figures = result.recorder.kinds[Kind.SEGMENT]
    assert (figures.sent, figures.ok, figures.shed) == (count, count, 0)
    # All ended together, so the first waited longest: from the instant at which it was due.
    by_due = sorted(observed.outcomes, key=lambda outcome: outcome.due_s)
    ends = [outcome.due_s + outcome.latency_s for outcome in by_due]
    assert min(ends) >= by_due[-1].due_s
    assert by_due[0].latency_s >= by_due[-1].due_s - by_due[0].due_s
    assert result.is_complete


async def test_arrivals_beyond_the_bound_are_shed_and_counted() -> None:
    all_there = asyncio.Event()

    async def answer(request, context):
        await all_there.wait()
        return Response()

    async with serving(Script([answer])) as address:
        plan = plan_for(address, max_in_flight=3)
        count = len(draw_schedule(plan))
        load = LoadRun(plan, POOL)
        shed_one = load.recorder.shed_one

        def counted(kind: Kind, due_s: float) -> None:
            shed_one(kind, due_s)
            if load.recorder.shed == count - 3:
                all_there.set()

        load.recorder.shed_one = counted  # type: ignore[method-assign]
        async with asyncio.timeout(TIMEOUT_S):
            result = await load.carry_out()
    figures = report(result)["kinds"]["segment"]
    assert (figures["sent"], figures["ok"], figures["shed"]) == (3, 3, count - 3)


async def test_what_the_client_did_again_is_counted() -> None:
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(nanos=1_000_000))
    full = refusing(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", "OVERLOADED", [retry])
    unknown = refusing(grpc.StatusCode.NOT_FOUND, "no image", "IMAGE_NOT_FOUND")

    async def answer(request, context):
        if len(script.requests) == 1:
            return await full(request, context)
        if request.image.WhichOneof("source") == "digest":
            return await unknown(request, context)
        return Response()

    script = Script([answer])
    # So large that the client asks by digest first, always.
    large = Picture(POOL.picture(0).jpeg + bytes(PROBE_FROM_BYTES), POOL.picture(0).box)
    async with serving(script) as address:
        plan = plan_for(address, rate_per_s=20.0, mix=Mix(repeat_share=1.0), seed=1)
        result = await LoadRun(plan, PicturePool([large])).carry_out()
    figures = result.recorder.kinds[Kind.SEGMENT]
    assert figures.ok == figures.sent > 2
    assert (figures.overload_retries, figures.digest_misses) == (1, figures.sent)


async def test_without_retries_a_failure_is_one() -> None:
    down = refusing(grpc.StatusCode.UNAVAILABLE, "going down")
    for retries, ok in ((False, -1), (True, 0)):
        async with serving(Script([down, ANSWER])) as address:
            result = await run(plan_for(address, retries=retries))
        figures = result.recorder.kinds[Kind.SEGMENT]
        assert figures.ok == figures.sent + ok
        assert [one.message for one in result.recorder.kept_failures] == ["going down"] * -ok


async def test_connections_are_connections() -> None:
    peers = set()

    async def answer(request, context):
        peers.add(context.peer())
        return Response()

    async with serving(Script([answer])) as address:
        await run(plan_for(address, connections=3))
    assert len(peers) == 3


async def test_a_run_that_is_stopped_says_so() -> None:
    stopping = Observed()
    async with serving(Script([ANSWER])) as address:
        load = LoadRun(plan_for(address, duration_s=3600.0), POOL, observer=stopping)
        stopping.call_ended = lambda outcome: load.stop()  # type: ignore[method-assign]
        async with asyncio.timeout(TIMEOUT_S):
            result = await load.carry_out()
    assert not result.is_complete
    assert result.recorder.in_flight == 0


async def film(script: SessionScript, frames: int, **cameras):
    """Let two cameras film until the script has been sent so many frames."""
    seen = itertools.count(1)
    answers = script.answers

    def counted(request, stream):
        if request.HasField("frame") and next(seen) == frames:
            load.stop()
        return answers(request, stream)

    script.answers = counted
    async with serving_sessions(script) as address:
        values = {"count": 2, "frames_per_second": 50.0, "session_s": 3600.0, **cameras}
        plan = plan_for(address, mix=Mix(weights={}), cameras=Cameras(**values), duration_s=3600.0)
        load = LoadRun(plan, POOL, FRAMES)
        async with asyncio.timeout(TIMEOUT_S):
            return await load.carry_out()


async def test_every_frame_is_answered_and_timed() -> None:
    script = SessionScript()
    result = await film(script, 20)
    counts = result.sessions
    assert counts.opened == len(script.streams) == 2
    assert counts.sent == counts.answered == sum(len(one.frames()) for one in script.streams) >= 20
    assert (counts.dropped, counts.lost, counts.without_object, counts.unaccounted) == (0, 0, 0, 0)
    assert result.recorder.kinds[Kind.FRAME].latency.count == counts.answered
    assert result.recorder.in_flight == 0
    policies = {one.config.drop_policy for one in script.streams}
    assert policies == {realtime_pb2.DROP_POLICY_LATEST_ONLY}


async def test_sessions_follow_each_other() -> None:
    script = SessionScript()
    counts = (await film(script, 12, count=1, session_s=0.1)).sessions
    assert counts.opened == len(script.streams) >= 2
    assert (counts.failed, counts.unaccounted) == (0, 0)


async def test_frames_that_the_server_drops_are_accounted_for() -> None:
    dropped: list[realtime_pb2.DroppedFrame] = []

    def answers(request, stream):
        """Drop every second frame, as a newer one drives it out: the newest is always answered."""
        if not request.HasField("frame"):
            return scripted.answer(request, stream)
        number = len(stream.frames())
        if number % 2 == 0 and number < frames:
            dropped.append(scripted.dropped(request))
            return []
        (answer,) = scripted.answer(request, stream)
        answer.frame_result.dropped_frames.extend(dropped)
        dropped.clear()
        return [answer]

    frames = 21
    result = await film(SessionScript(answers), frames, count=1)
    counts = result.sessions
    assert counts.dropped == 10
    assert counts.sent == counts.answered + counts.dropped
    assert counts.unaccounted == 0
    assert (result.recorder.failed, result.recorder.in_flight) == (0, 0)


async def test_a_connection_that_breaks_is_made_again_and_its_frames_are_lost_by_name() -> None:
    broken: list[bool] = []

    def answers(request, stream):
        # Not one frame alone: it may be shed where this process is held up.
        if request.frame.frame_id >= 4 and not broken:
            broken.append(True)
            return [scripted.GO_AWAY]
        return scripted.answer(request, stream)

    result = await film(SessionScript(answers), 20)
    counts = result.sessions
    assert counts.reconnects == 1
    assert counts.lost >= 1
    assert result.recorder.kinds[Kind.FRAME].codes["LOST"] == counts.lost
    assert (counts.failed, counts.unaccounted, counts.without_object) == (0, 0, 0)


async def test_a_session_that_breaks_for_good_is_followed_by_another() -> None:
    def answers(request, stream):
        is_broken = len(script.streams) == 1 and request.frame.frame_id >= 2
        return [scripted.GO_AWAY] if is_broken else scripted.answer(request, stream)

    script = SessionScript(answers)
    policy = DropPolicy.PROCESS_ALL
    result = await film(script, 8, count=1, reconnects=False, drop_policy=policy)
    counts = result.sessions
    assert (counts.opened, counts.failed, len(script.streams)) == (2, 1, 2)
    assert counts.sent == counts.answered + counts.lost
    assert (counts.unaccounted, result.recorder.in_flight) == (0, 0)
    assert counts.lost == result.recorder.failed >= 1


async def test_sessions_that_cannot_be_opened_are_counted() -> None:
    script = SessionScript(refusals=[grpc.StatusCode.UNAUTHENTICATED] * 2)
    result = await film(script, 4, count=1)
    assert (result.sessions.failed, result.sessions.opened) == (2, 1)
    assert result.recorder.kinds[Kind.SESSION].codes == {"UNAUTHENTICATED": 2, "OK": 1}
