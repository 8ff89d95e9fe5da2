"""Carries out the steps of `_job_steps` by waiting; `_async_job_runner` does it by awaiting."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc

from ._calls import Deadline, Pause
from ._errors import error_from_rpc
from ._job_steps import Ask, Call, Deliver, FollowSteps, Open, Read
from ._targets import TargetChannels
from .errors import Cancelled, DeadlineExceeded, MaskwireError

_ItemT = TypeVar("_ItemT")


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of steps, with what they returned."""

    value: Any


class JobRunner(Generic[_ItemT]):
    """Opens streams, reads them, and waits, as steps say; one thread at a time.

    Args:
        channels: Where to.
        request_id: Identifier of the calls.
        metadata: Sent with every call.
        deadline: When all of it must be over.
    """

    def __init__(
        self,
        channels: TargetChannels[grpc.Channel],
        request_id: str,
        metadata: tuple[tuple[str, str], ...],
        deadline: Deadline,
    ) -> None:
        self.request_id = request_id
        self._channels = channels
        self._metadata = metadata
        self._deadline = deadline
        self._stream: Any = None
        self._closed = threading.Event()

    def advance(self, steps: FollowSteps[_ItemT]) -> Deliver[_ItemT] | Ended:
        """Carry steps out until they deliver an item or end.

        Raises:
            Cancelled: It was closed.
            MaskwireError: What the steps raise.
        """
        answer: Any = None
        failure: MaskwireError | None = None
        while True:
            if self._closed.is_set():
                raise Cancelled("it was closed", status="CANCELLED", request_id=self.request_id)
            try:
                step = steps.send(answer) if failure is None else steps.throw(failure)
            except StopIteration as stop:
                return Ended(stop.value)
            if isinstance(step, Deliver):
                return step
            answer, failure = self._carry_out(step)

    def close(self) -> None:
        """End what is in progress, in whichever thread; nothing is carried out after it."""
        self._closed.set()
        if self._stream is not None:
            self._stream.cancel()
        for channel in self._channels.take_others():
            channel.close()

    def _carry_out(self, step: Open | Read | Ask | Pause) -> tuple[Any, MaskwireError | None]:
        """Return what a step gave, and how it failed."""
        try:
            match step:
                case Open():
                    if self._stream is not None:
                        self._stream.cancel()
                    self._stream = self._call(step.call, step.target_index)
                case Read():
                    return next(self._stream, None), None
                case Ask():
                    return self._call(step.call, step.target_index), None
                case Pause():
                    self._wait(step.seconds)
        except grpc.RpcError as error:
            return None, error_from_rpc(error, self.request_id)
        return None, None

    def _call(self, call: Call, target_index: int) -> Any:
        method = getattr(call.stub(self._channels[target_index]), call.method)
        timeout_s = self._deadline.remaining_s()
        return method(call.request, timeout=timeout_s, metadata=self._metadata)

    def _wait(self, seconds: float) -> None:
        if not self._deadline.allows(seconds):
            raise past_deadline(self.request_id)
        self._closed.wait(seconds)


def past_deadline(request_id: str) -> DeadlineExceeded:
    """Return the error for a pause that would end after the deadline."""
    return DeadlineExceeded(
        "the time allowed passed before a server answered again",
        status="DEADLINE_EXCEEDED",
        request_id=request_id,
    )
