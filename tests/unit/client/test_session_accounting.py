"""Whatever happens to a session, every frame is accounted for."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from maskwire.v1 import realtime_pb2
from maskwire_client import (
    LostFrame,
    Reconnect,
    SessionSummary,
    errors,
)
from maskwire_client._session_core import Request
from tests.support import scripted_sessions as scripted
from tests.support.session_bench import UNAVAILABLE, Bench, kinds

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
