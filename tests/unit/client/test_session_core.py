"""What a session decides, without a connection: numbers, windows, seeds, losses and counts."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from maskwire.v1 import realtime_pb2
from maskwire_client import (
    LostFrame,
    Reconnect,
    SessionSeed,
    errors,
)
from maskwire_client._session_core import SessionCore
from maskwire_client._session_requests import OUTBOX_CAPACITY, AnswerQueue
from tests.support import scripted_sessions as scripted
from tests.support.scripted_sessions import Response
from tests.support.session_bench import UNAVAILABLE, Bench, Clock, arguments, kinds


def test_nothing_is_sent_before_the_session_runs() -> None:
    bench = Bench()
    bench.core.connection_ended(None)
    fresh = Bench.__new__(Bench)
    fresh.clock, fresh.core = Clock(), SessionCore(arguments())
    fresh.configs, fresh.stream = [], bench.stream
    fresh.connect(start=False)
    fresh.add()
    assert fresh.send() == []
    fresh.core.receive(scripted._started(1, fresh.stream, 1))
    assert len(fresh.send()) == 1


def test_frames_are_numbered_on_from_the_highest() -> None:
    bench = Bench()
    for frame_id in (None, None, 10, None, 4, None):
        bench.add(frame_id=frame_id)
    assert [one.frame.frame_id for one in bench.send()] == [0, 1, 10, 11, 4, 12]


def test_the_outbox_and_the_window_are_bounded() -> None:
    bench = Bench(window=2)
    queue = AnswerQueue(2)
    for _ in range(OUTBOX_CAPACITY):
        assert bench.core.has_room()
        bench.add()
    assert not bench.core.has_room()
    sent = bench.send()
    assert bench.core.has_room(queue)
    bench.add(queue=queue)
    bench.add(queue=queue)
    assert not bench.core.has_room(queue)
    assert bench.core.has_room()
    bench.answer(*sent, *bench.send())
    assert not bench.core.has_room(queue)  # answered, but not collected
    queue.answers.popleft()
    assert bench.core.has_room(queue)


def test_a_window_holds_at_least_one_frame() -> None:
    with pytest.raises(ValueError, match="window"):
        SessionCore(arguments(window=0))


def test_latency_is_from_handing_in_to_the_answer() -> None:
    bench = Bench()
    waiter: Future = Future()
    bench.add(waiter=waiter)
    bench.clock.now_s = 0.25
    bench.answer(*bench.send())
    assert waiter.result(0).latency_s == 0.25


def test_without_reconnecting_no_seed_is_asked_for() -> None:
    bench = Bench()
    bench.add(click=True)
    assert kinds(bench.send()) == ["frame"]


def test_seeds_are_asked_for_after_changes_and_now_and_then() -> None:
    bench = Bench(reconnect=Reconnect(seed_interval_s=1.0))
    bench.add()
    assert kinds(bench.send()) == ["frame"]
    bench.add(click=True)
    assert kinds(bench.send()) == ["frame", "export_seed"]
    bench.clock.now_s = 0.9
    bench.add()
    assert kinds(bench.send()) == ["frame"]
    bench.clock.now_s = 1.0
    bench.add()
    assert kinds(bench.send()) == ["frame", "export_seed"]
    bench.control(remove_objects=realtime_pb2.RemoveObjects(object_ids=[1]))
    assert kinds(bench.send()) == ["remove_objects", "export_seed"]
    bench.control(set_paused=realtime_pb2.SetPaused(paused=True))
    assert kinds(bench.send()) == ["set_paused"]


def test_objects_that_the_server_gave_up_are_gone() -> None:
    bench = Bench()
    bench.add(click=True)
    bench.answer(*bench.send())
    assert bench.core.object_ids == {1}
    bench.stream.object_ids.clear()
    bench.add()
    (paused,) = bench.send()
    empty = scripted.frame_result(paused, bench.stream)
    empty.frame_result.ClearField("info")
    bench.core.receive(empty)
    assert bench.core.object_ids == {1}, "while paused all objects live on"
    bench.add()
    bench.answer(*bench.send())
    assert bench.core.object_ids == frozenset()


def test_a_reset_makes_older_seeds_void() -> None:
    bench = Bench(reconnect=Reconnect(), resume_from=SessionSeed(b"[1]"))
    assert bench.configs[0].config.resume_seed == b"[1]"
    bench.add(click=True)
    bench.answer(*bench.send())
    assert bench.core.seed is not None
    bench.control(reset=realtime_pb2.ResetSession())
    reset, export = bench.send()
    bench.answer(reset)
    assert bench.core.seed is None
    assert bench.core.connection_ended(UNAVAILABLE)
    bench.connect()
    assert not bench.configs[1].config.resume_seed
    del export


def test_what_waits_in_the_outbox_survives_the_connection_with_its_number() -> None:
    bench = Bench(reconnect=Reconnect())
    first = bench.add()
    bench.send()
    second, third = bench.add(), bench.add()
    assert bench.core.connection_ended(UNAVAILABLE)
    bench.connect()
    assert bench.configs[1].sequence == first.sequence
    assert [one.sequence for one in bench.send()] == [second.sequence, third.sequence]
    waiter: Future = Future()
    bench.add(waiter=waiter)
    bench.answer(*bench.send())
    assert waiter.result(0).lost_frames == (LostFrame(first.sequence, 0),)


def test_sampled_frames_that_are_done_with_are_not_sent_again() -> None:
    bench = Bench(reconnect=Reconnect(resend=True), on_change_only=True, window=100)
    queue = AnswerQueue(100)
    for _ in range(3):
        bench.add(queue=queue)
    sent = bench.send()
    bench.control(set_paused=realtime_pb2.SetPaused())
    bench.answer(*bench.send())  # in order: so the server is done with the frames before
    assert queue.in_flight == 0
    bench.add(queue=queue)
    bench.send()
    bench.core.connection_ended(UNAVAILABLE)
    bench.connect()
    assert [one.frame.frame_id for one in bench.send()] == [3]
    assert len(sent) == 3


def test_pauses_grow_and_begin_anew_once_the_session_works() -> None:
    policy = Reconnect(initial_backoff_s=0.1, max_backoff_s=0.3, max_attempts=5)
    bench = Bench(reconnect=policy)
    pauses = []
    for _ in range(5):
        assert bench.core.connection_ended(UNAVAILABLE)
        pauses.append(bench.core.reconnection.pause_s)
        bench.connect(start=False)
    assert pauses == pytest.approx([0, 0.1, 0.2, 0.3, 0.3])
    bench.core.receive(scripted._started(1, bench.stream, 1))
    bench.add()
    bench.answer(*bench.send())
    assert bench.core.connection_ended(UNAVAILABLE)
    assert bench.core.reconnection.pause_s == 0


def test_starting_alone_does_not_count_as_working() -> None:
    bench = Bench(reconnect=Reconnect(max_attempts=3))
    for _ in range(3):
        assert bench.core.connection_ended(UNAVAILABLE)
        bench.connect()
    assert not bench.core.connection_ended(UNAVAILABLE)
    assert bench.core.failure is UNAVAILABLE


@pytest.mark.parametrize(
    ("error", "goes_on"),
    [
        (UNAVAILABLE, True),
        (errors.Cancelled("reset"), True),
        (errors.ResourceExhausted("full"), True),
        (errors.DeadlineExceeded("idle"), True),
        (errors.InvalidArgument("no"), False),
        (errors.FailedPrecondition("another checkpoint"), False),
        (None, True),
    ],
)
def test_what_ends_a_connection_decides(error, goes_on: bool) -> None:
    assert Bench(reconnect=Reconnect()).core.connection_ended(error) == goes_on
    assert not Bench().core.connection_ended(error)


def test_after_silence_the_next_request_opens_another_connection() -> None:
    bench = Bench(reconnect=Reconnect())
    assert bench.core.connection_ended(errors.DeadlineExceeded("idle"))
    assert bench.core.is_asleep
    bench.add()
    assert not bench.core.is_asleep


def test_another_target_may_know_the_seed() -> None:
    bench = Bench(reconnect=Reconnect(targets=("other:1",)))
    assert bench.core.connection_ended(errors.FailedPrecondition("another checkpoint"))


def test_after_a_notice_any_end_is_one_to_reconnect_from() -> None:
    bench = Bench(reconnect=Reconnect())
    bench.core.receive(Response(drain_notice=realtime_pb2.DrainNotice(reason="the lease is over")))
    assert bench.core.connection_ended(errors.DeadlineExceeded("over"))


def test_a_notice_holds_new_requests_back_and_ends_the_old_connection() -> None:
    bench = Bench(reconnect=Reconnect())
    bench.core.receive(Response(drain_notice=realtime_pb2.DrainNotice()))
    held = bench.add()
    sent = bench.send()
    assert kinds(sent) == ["export_seed", "end"]
    assert bench.core.has_said_all
    bench.answer(*sent)
    assert bench.core.connection_ended(None)
    assert not bench.core.has_said_all
    bench.connect()
    assert bench.configs[1].config.resume_seed == b"[]"
    assert bench.configs[1].sequence < held.sequence
    assert [one.sequence for one in bench.send()] == [held.sequence]


def test_an_answer_that_nobody_waits_for_any_more_is_still_counted() -> None:
    bench = Bench()
    waiter: Future = Future()
    pending = bench.add(waiter=waiter)
    bench.core.abandon(pending)
    bench.answer(*bench.send())
    assert not waiter.done()
    end = bench.control(end=realtime_pb2.EndSession())
    bench.answer(*bench.send())
    bench.core.connection_ended(None)
    assert end.result(0).frames_answered == 1


@pytest.mark.parametrize("policy", [{"max_attempts": 0}, {"seed_interval_s": -1.0}])
def test_policies_are_checked(policy) -> None:
    with pytest.raises(ValueError, match=next(iter(policy))):
        Reconnect(**policy)
