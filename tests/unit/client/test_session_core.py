"""What a session decides, without a connection: numbers, windows, seeds, losses and counts."""

from __future__ import annotations

from concurrent.futures import Future

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwire.v1 import realtime_pb2
from maskwire_client import (
    DropPolicy,
    Frame,
    LostFrame,
    MaskEncoding,
    Point,
    Reconnect,
    SessionSeed,
    SessionSummary,
    errors,
)
from maskwire_client._session_core import Control, Request, SessionCore
from maskwire_client._session_messages import Prompts, SessionArguments, frame_draft
from maskwire_client._session_requests import OUTBOX_CAPACITY, AnswerQueue
from tests.support import scripted_sessions as scripted
from tests.support.scripted_sessions import Response

UNAVAILABLE = errors.Unavailable("gone", status="UNAVAILABLE")
DEFAULTS = {
    "model": "",
    "encoding": MaskEncoding.COCO_RLE,
    "drop_policy": DropPolicy.PROCESS_ALL,
    "every_nth_frame": 1,
    "on_change_only": False,
    "change_iou_threshold": None,
    "mark_unchanged": False,
    "crop_to_box": False,
    "max_objects": None,
    "held_frames": None,
    "heartbeat_interval_s": None,
    "include_scores": True,
    "include_boxes": False,
    "include_logits": False,
    "return_multiple_masks": False,
    "max_masks": None,
    "postprocess": None,
    "resume_from": None,
    "reconnect": None,
    "window": 8,
    "jpeg_quality": 95,
}


def arguments(**options) -> SessionArguments:
    return SessionArguments(**{**DEFAULTS, **options})


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Bench:
    """A session with a connection and a server that are carried by hand."""

    def __init__(self, **options) -> None:
        self.clock = Clock()
        self.core = SessionCore(arguments(**options), self.clock)
        self.configs: list[Request] = []
        self.stream = scripted.Stream(realtime_pb2.SessionConfig(), 0)
        self.connect()

    def connect(self, *, start: bool = True) -> None:
        config = self.core.open()
        self.configs.append(config)
        if start:
            self.core.receive(scripted._started(config.sequence, self.stream, 1))

    def add(self, *, frame_id: int | None = None, click: bool = False, **options):
        prompts = Prompts(points=[Point(1, 1)] if click else ())
        draft = frame_draft(Frame(b"x", frame_id), prompts, None)
        return self.core.add_frame(draft, **options)

    def control(self, **fields) -> Future:
        waiter: Future = Future()
        self.core.add_control(Control(**fields), waiter)
        return waiter

    def send(self) -> list[Request]:
        taken = []
        while (request := self.core.take()) is not None:
            taken.append(request)
        return taken

    def answer(self, *requests: Request) -> None:
        for request in requests:
            for response in scripted.answer(request, self.stream):
                self.core.receive(response)


def kinds(requests: list[Request]) -> list[str | None]:
    return [one.control.WhichOneof("control") or one.WhichOneof("message") for one in requests]


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


EVENTS = ["add", "add_click", "send", "answer", "refuse", "drop", "lose", "collect"]


class Random:
    """A session to which things happen in any order."""

    def __init__(self, *, reconnects: bool, resend: bool) -> None:
        policy = Reconnect(resend=resend) if reconnects else None
        self.bench = Bench(reconnect=policy, window=5)
        self.queue = self.bench.core.queue
        self.reported: list[LostFrame] = []
        self._waiting: list[Request] = []
        self._numbers: list[int] = []

    def add(self, *, click: bool = False) -> None:
        if self.bench.core.has_room(self.queue) and not self.bench.core.is_over:
            self.bench.add(click=click, queue=self.queue)

    def add_click(self) -> None:
        self.add(click=True)

    def send(self) -> None:
        taken = self.bench.send()
        self._waiting += taken
        self._numbers += [one.sequence for one in taken]
        assert self._numbers == sorted(set(self._numbers))  # they grow within a connection

    def answer(self) -> None:
        if self._waiting:
            self.bench.answer(self._waiting.pop(0))

    def refuse(self) -> None:
        if self._waiting:
            refused = self._waiting.pop(0)
            self.bench.core.receive(scripted.error(refused, scripted.INVALID_ARGUMENT, "no"))

    def drop(self) -> None:
        if kinds(self._waiting[:2]) == ["frame", "frame"]:
            stale, newer = self._waiting.pop(0), self._waiting.pop(0)
            account = [scripted.dropped(stale)]
            result = scripted.frame_result(newer, self.bench.stream, dropped=account)
            self.bench.core.receive(result)

    def lose(self) -> None:
        if self.bench.core.connection_ended(UNAVAILABLE):
            self._waiting.clear()
            self._numbers.clear()
            self.bench.connect()

    def collect(self) -> None:
        if self.queue.answers:
            answer = self.queue.answers.popleft()
            self.reported += () if isinstance(answer, errors.MaskwireError) else answer.lost_frames

    def finish(self) -> SessionSummary:
        end = self.bench.control(end=realtime_pb2.EndSession())
        self.send()
        while self._waiting:
            self.answer()
        assert not self.bench.core.connection_ended(None)
        while self.queue.answers:
            self.collect()
        return end.result(0)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(EVENTS), max_size=80), st.booleans(), st.booleans())
def test_whatever_happens_every_frame_is_accounted_for(
    events: list[str], reconnects: bool, resend: bool
) -> None:
    session = Random(reconnects=reconnects, resend=resend)
    for event in events:
        getattr(session, event)()
        assert session.queue.in_flight + len(session.queue.answers) <= 5
    if session.bench.core.is_over:  # attempts are bounded
        return
    summary = session.finish()
    assert session.queue.in_flight == 0
    assert summary.frames_sent == summary.frames_received + summary.frames_lost
    assert len(summary.lost_frames) == summary.frames_lost
    assert len(session.reported) == len(set(session.reported))
    assert set(session.reported) <= set(summary.lost_frames)
    assert resend is False or set(summary.lost_frames) == set()
