"""Whatever a client does on a session's stream: the right answer, no leak, the next session fine.

A state machine of hypothesis knows what a session should answer and says anything in any order.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from maskwire.v1 import geometry_pb2, image_pb2, prompt_pb2, realtime_pb2
from tests.support.session_server import SessionServer, Stream, session_server
from tests.support.session_world import picture

RED, BLUE = (255, 0, 0), (0, 0, 255)
MAX_OBJECTS = 3
HELD_FRAMES = 1
SIDE, OTHER_SIDE = 32, 40
STILL_RUNNING_S = 30.0


@pytest.fixture(scope="module")
def server() -> Iterator[SessionServer]:
    with session_server(max_objects=MAX_OBJECTS, max_held_frames=4, max_sessions=4) as running:
        yield running


def control(**fields: Any) -> dict[str, Any]:
    return {"control": realtime_pb2.SessionControl(**fields)}


def click(object_id: int | None, x: float = 4.0) -> prompt_pb2.Prompt:
    point = prompt_pb2.PointPrompt(point=geometry_pb2.Point(x=x, y=10.0))
    return prompt_pb2.Prompt(point=point, object_id=object_id)


def wait_until_nothing_is_held(server: SessionServer) -> None:
    """A cancelled call is unwound in the server's own time; then nothing may be left of it."""
    deadline = threading.Event()
    for _ in range(300):
        if server.engine.open_trackers == 0 and server.value("maskwire_sessions_active") == 0:
            return
        deadline.wait(STILL_RUNNING_S / 300)
    raise AssertionError(f"{server.engine.open_trackers} trackers are left of ended sessions")


class SessionMachine(RuleBasedStateMachine):
    """What a session should answer, and what it does answer."""

    server: SessionServer

    @initialize()
    def begin(self) -> None:
        self.channel = grpc.insecure_channel(self.server.address)
        self.seed = b""
        self.start()

    def start(self) -> None:
        self.stream = Stream(self.channel)
        self.sequence = 0
        self.next_frame = 1
        self.is_started = False

    def start_session(self, seed: bytes) -> None:
        config = realtime_pb2.SessionConfig(held_frames=HELD_FRAMES, resume_seed=seed)
        answer = self.say(config=config)
        assert answer.WhichOneof("message") == "started", answer
        assert set(answer.started.resumed_object_ids) <= set(range(1, 10_000))
        self.objects = set(answer.started.resumed_object_ids)
        self.side = SIDE if seed else 0
        self.held: list[int] = []
        self.is_paused = False
        self.is_started = True

    def say(self, **message: Any) -> realtime_pb2.RunSessionResponse:
        self.sequence += 1
        answer = self.stream.ask(sequence=self.sequence, **message)
        assert answer.sequence == self.sequence
        return answer

    def expect(self, answer: realtime_pb2.RunSessionResponse, code: int | None) -> bool:
        """Check that a request was refused with a code, or carried out where it is None."""
        if code is None:
            assert answer.WhichOneof("message") != "error", answer
            return True
        assert answer.WhichOneof("message") == "error", answer
        assert answer.error.code == code, answer.error
        return False

    @precondition(lambda self: not self.is_started)
    @rule(resume=st.booleans())
    def config(self, resume: bool) -> None:
        self.start_session(self.seed if resume else b"")

    @precondition(lambda self: not self.is_started)
    @rule(
        message=st.sampled_from(
            [
                control(end={}),
                {"frame": realtime_pb2.SessionFrame(image=image_pb2.ImageSource(data=b"x"))},
                {"prompts": realtime_pb2.SessionPrompts(prompts=[click(1)])},
                {"config": realtime_pb2.SessionConfig(max_objects=0)},
                {},
            ]
        )
    )
    def something_else_than_a_config(self, message: dict[str, Any]) -> None:
        self.stream.say(sequence=1, **message)
        assert self.stream.hear_end() is grpc.StatusCode.INVALID_ARGUMENT
        self.start()

    @precondition(lambda self: not self.is_started)
    @rule(seed=st.binary(min_size=1, max_size=64))
    def a_seed_that_is_none(self, seed: bytes) -> None:
        self.stream.say(sequence=1, config=realtime_pb2.SessionConfig(resume_seed=seed))
        assert self.stream.hear_end() is grpc.StatusCode.FAILED_PRECONDITION
        self.start()

    @precondition(lambda self: self.is_started)
    @rule(
        object_ids=st.lists(st.one_of(st.none(), st.integers(1, 5)), max_size=2),
        side=st.sampled_from([SIDE, SIDE, SIDE, OTHER_SIDE]),
        is_picture=st.sampled_from([True, True, True, False]),
        repeats=st.sampled_from([False, False, False, True]),
    )
    def frame(
        self, object_ids: list[int | None], side: int, is_picture: bool, repeats: bool
    ) -> None:
        repeated = repeats and bool(self.held)
        number = self.held[-1] if repeated else self.next_frame
        self.next_frame += 1
        data = picture((2, RED), (20, BLUE), side=side) if is_picture else b"no picture"
        answer = self.say(
            frame=realtime_pb2.SessionFrame(
                image=image_pb2.ImageSource(data=data),
                frame_id=number,
                prompts=[click(one) for one in object_ids],
            )
        )
        if self.is_paused and not object_ids:
            assert answer.frame_result.frame_id == number
            assert not answer.frame_result.masks
            return
        named = {one for one in object_ids if one is not None}
        new = len(named - self.objects) + (None in object_ids)
        is_bad = repeated or not is_picture or (self.side and side != self.side)
        code = None
        if self.is_paused:
            code = code_pb2.FAILED_PRECONDITION
        elif is_bad or len(self.objects) + new > MAX_OBJECTS:
            code = code_pb2.INVALID_ARGUMENT
        if self.expect(answer, code):
            masks = answer.frame_result.masks
            seen = {mask.mask.object_id for mask in masks}
            assert self.objects | named <= seen
            assert len(seen) == len(masks) == len(self.objects) + new
            self.objects, self.side = seen, side
            self.held = [*self.held, number][-HELD_FRAMES - 1 :]

    @precondition(lambda self: self.is_started)
    @rule(object_id=st.one_of(st.none(), st.integers(1, 5)), back=st.integers(0, 3))
    def prompts(self, object_id: int | None, back: int) -> None:
        frame_id = self.held[-1 - back] if back < len(self.held) else 10**6
        answer = self.say(
            prompts=realtime_pb2.SessionPrompts(prompts=[click(object_id)], frame_id=frame_id)
        )
        is_new = object_id not in self.objects
        code = None
        if not self.held:
            code = code_pb2.FAILED_PRECONDITION
        elif back >= len(self.held):
            code = code_pb2.NOT_FOUND
        elif is_new and len(self.objects) >= MAX_OBJECTS:
            code = code_pb2.INVALID_ARGUMENT
        if self.expect(answer, code):
            (mask,) = answer.frame_result.masks
            assert answer.frame_result.frame_id == frame_id
            assert (object_id or mask.mask.object_id) == mask.mask.object_id
            assert (mask.mask.object_id in self.objects) is not is_new
            self.objects.add(mask.mask.object_id)

    @precondition(lambda self: self.is_started)
    @rule(object_ids=st.sets(st.integers(1, 5), min_size=1), clear=st.booleans())
    def remove_or_clear(self, object_ids: set[int], clear: bool) -> None:
        name = "clear_prompts" if clear else "remove_objects"
        answer = self.say(**control(**{name: {"object_ids": sorted(object_ids)}}))
        unknown = object_ids - self.objects
        if self.expect(answer, code_pb2.NOT_FOUND if unknown else None):
            self.objects -= set() if clear else object_ids
            assert set(answer.acknowledgement.object_ids) == self.objects

    @precondition(lambda self: self.is_started)
    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        self.expect(self.say(**control(set_paused={"paused": paused})), None)
        self.is_paused = paused

    @precondition(lambda self: self.is_started)
    @rule()
    def reset(self) -> None:
        assert not self.say(**control(reset={})).acknowledgement.object_ids
        self.objects, self.held, self.side = set(), [], 0

    @precondition(lambda self: self.is_started)
    @rule()
    def export(self) -> None:
        answer = self.say(**control(export_seed={}))
        assert answer.seed.last_sequence == self.sequence
        if self.side in (0, SIDE):
            self.seed = answer.seed.seed if self.side else b""

    @precondition(lambda self: self.is_started)
    @rule(
        message=st.sampled_from(
            [
                {"config": realtime_pb2.SessionConfig()},
                {},
                {"control": realtime_pb2.SessionControl()},
                {"frame": realtime_pb2.SessionFrame()},
                {"prompts": realtime_pb2.SessionPrompts()},
                control(remove_objects={}),
                {"prompts": realtime_pb2.SessionPrompts(prompts=[prompt_pb2.Prompt()])},
            ]
        )
    )
    def what_breaks_a_rule(self, message: dict[str, Any]) -> None:
        self.expect(self.say(**message), code_pb2.INVALID_ARGUMENT)

    @precondition(lambda self: self.is_started)
    @rule(back=st.integers(0, 3))
    def a_sequence_that_does_not_grow(self, back: int) -> None:
        sequence = max(0, self.sequence - back)
        answer = self.stream.ask(sequence=sequence, **control(reset={}))
        assert answer.sequence == sequence
        self.expect(answer, code_pb2.INVALID_ARGUMENT)

    @precondition(lambda self: self.is_started)
    @rule(asks=st.booleans())
    def end(self, asks: bool) -> None:
        if asks:
            assert self.say(**control(end={})).WhichOneof("message") == "ended"
        else:
            self.stream.half_close()
            assert self.stream.hear().WhichOneof("message") == "ended"
        assert self.stream.hear_end() is grpc.StatusCode.OK
        self.start()

    @rule(burst=st.integers(0, 3))
    def cancel(self, burst: int) -> None:
        for _ in range(burst if self.is_started else 0):
            self.sequence += 1
            self.stream.say(
                sequence=self.sequence,
                frame=realtime_pb2.SessionFrame(
                    image=image_pb2.ImageSource(data=picture((2, RED), side=self.side or SIDE)),
                    frame_id=self.next_frame,
                ),
            )
            self.next_frame += 1
        self.stream.cancel()
        wait_until_nothing_is_held(self.server)
        self.start()

    def teardown(self) -> None:
        if not hasattr(self, "stream"):
            return
        self.stream.cancel()
        wait_until_nothing_is_held(self.server)
        self.channel.close()


@pytest.mark.parametrize(
    ("examples", "steps"),
    [
        (60, 50),
        pytest.param(600, 100, marks=pytest.mark.robustness),
    ],
)
def test_any_order_of_anything(server: SessionServer, examples: int, steps: int) -> None:
    SessionMachine.server = server
    run_state_machine_as_test(
        SessionMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
