"""The policies of calls, step by step, without a channel."""

from __future__ import annotations

from datetime import timedelta

import pytest

from maskwire.v1 import segmentation_pb2
from maskwire_client import _calls, errors
from maskwire_client._calls import Attempt, Deadline, KnownDigests, Pause, Steps

Response = segmentation_pb2.SegmentImageResponse


def refusal(seconds: float) -> errors.Overloaded:
    return errors.Overloaded("full", retry_after=timedelta(seconds=seconds))


def begin(deadline: Deadline, overload_retries: int) -> Steps[Response]:
    return _calls.call_steps(deadline, overload_retries)


def test_a_pause_is_as_long_as_the_server_says_and_a_little_more() -> None:
    for _ in range(50):
        steps = begin(Deadline(None), overload_retries=1)
        assert next(steps) == Attempt(None)
        pause = steps.throw(refusal(2.0))
        assert isinstance(pause, Pause)
        assert 2.0 <= pause.seconds <= 2.5
        assert next(steps) == Attempt(None)


def test_attempts_share_one_deadline() -> None:
    steps = begin(Deadline(100.0), overload_retries=1)
    first = next(steps)
    steps.throw(refusal(0.01))
    second = next(steps)
    assert isinstance(first, Attempt)
    assert isinstance(second, Attempt)
    assert first.timeout_s is not None
    assert second.timeout_s is not None
    assert second.timeout_s < first.timeout_s <= 100.0


def test_the_last_refusal_is_raised() -> None:
    steps = begin(Deadline(None), overload_retries=0)
    next(steps)
    with pytest.raises(errors.Overloaded):
        steps.throw(refusal(0.01))


def test_the_response_is_returned() -> None:
    response = Response()
    steps = begin(Deadline(None), overload_retries=3)
    next(steps)
    with pytest.raises(StopIteration) as stopped:
        steps.send(response)
    assert stopped.value.value is response


def test_known_digests_are_bounded_and_drop_the_least_recent() -> None:
    known = KnownDigests(capacity=2)
    for digest in ("a", "b", "a", "c"):
        known.add(digest)
    assert [digest in known for digest in "abc"] == [True, False, True]
    known.discard("a")
    known.discard("a")
    assert "a" not in known
