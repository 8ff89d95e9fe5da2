"""Carries out the steps of `_job_steps` by awaiting: `_job_runner` for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Generic, TypeVar

import grpc

from ._calls import Deadline, Pause
from ._errors import error_from_rpc
from ._job_runner import Ended, past_deadline
from ._job_steps import Ask, Call, Deliver, FollowSteps, Open, Read
from ._targets import TargetChannels
from .errors import Cancelled, MaskwireError

_ItemT = TypeVar("_ItemT")


class AsyncJobRunner(Generic[_ItemT]):
    """Opens streams, reads them, and waits, as steps say; one task at a time.

    It takes the arguments of `JobRunner`.
    """

    def __init__(
        self,
        channels: TargetChannels[grpc.aio.Channel],
        request_id: str,
        metadata: tuple[tuple[str, str], ...],
        deadline: Deadline,
    ) -> None:
        self.request_id = request_id
        self._channels = channels
        self._metadata = metadata
        self._deadline = deadline
        self._stream: Any = None
        self._messages: AsyncIterator[Any] | None = None
        self._closed = asyncio.Event()

    async def advance(self, steps: FollowSteps[_ItemT]) -> Deliver[_ItemT] | Ended:
        """Carry steps out until they deliver an item or end; raises as `JobRunner.advance`."""
        answer: Any = None
        failure: MaskwireError | None = None
        while True:
            self._check_open()
            try:
                step = steps.send(answer) if failure is None else steps.throw(failure)
            except StopIteration as stop:
                return Ended(stop.value)
            if isinstance(step, Deliver):
                return step
            answer, failure = await self._carry_out(step)

    async def close(self) -> None:
        """End what is in progress, in whichever task; nothing is carried out after it."""
        self._closed.set()
        if self._stream is not None:
            self._stream.cancel()
        for channel in self._channels.take_others():
            await channel.close()

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise Cancelled("it was closed", status="CANCELLED", request_id=self.request_id)

    async def _carry_out(self, step: Open | Read | Ask | Pause) -> tuple[Any, MaskwireError | None]:
        """Return what a step gave, and how it failed."""
        try:
            match step:
                case Open():
                    if self._stream is not None:
                        self._stream.cancel()
                    self._stream = self._call(step.call, step.target_index)
                    self._messages = aiter(self._stream)
                case Read():
                    return await self._read(), None
                case Ask():
                    return await self._call(step.call, step.target_index), None
                case Pause():
                    await self._wait(step.seconds)
        except grpc.RpcError as error:
            return None, error_from_rpc(error, self.request_id)
        return None, None

    async def _read(self) -> Any:
        assert self._messages is not None, "a stream is opened before it is read"
        try:
            return await anext(self._messages, None)
        except asyncio.CancelledError:
            # grpc.aio raises this for a stream that `close` cancelled, as if the task had been.
            task = asyncio.current_task()
            if task is None or task.cancelling() == 0:
                self._check_open()
            raise

    def _call(self, call: Call, target_index: int) -> Any:
        method = getattr(call.stub(self._channels[target_index]), call.method)
        timeout_s = self._deadline.remaining_s()
        return method(call.request, timeout=timeout_s, metadata=self._metadata)

    async def _wait(self, seconds: float) -> None:
        if not self._deadline.allows(seconds):
            raise past_deadline(self.request_id)
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            pass
