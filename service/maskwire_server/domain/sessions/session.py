"""One live session as it runs: a task that reads, one that works, one that keeps the time.

The tasks are bound to the call: whatever ends it, they are cancelled and the tracker is freed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from ..errors import ErrorCode, MaskwireError, invalid_field
from ..image_access import FrameImage
from ..observer import Observer
from .costs import Answered
from .inbox import FrameLedger, Inbox
from .messages import (
    Acknowledgement,
    BadRequest,
    ClearPrompts,
    DrainNotice,
    DroppedFrame,
    DropPolicy,
    DropReason,
    EndSession,
    ExportSeed,
    FrameResult,
    Heartbeat,
    NewFrame,
    NewPrompts,
    Refusal,
    RemoveObjects,
    ResetSession,
    ResponseContent,
    SendNotice,
    SessionConfig,
    SessionEnded,
    SessionRequest,
    SessionResponse,
    SessionStarted,
    SetPaused,
    StartSession,
)
from .outbox import Outbox
from .state import SessionState

_UNTOLD_FRAMES = 4096
"""Frames without an answer that are remembered until they are told."""

_TELL_FROM = 1024
"""With so many untold frames the next one processed is answered, whatever the sampling says."""


_LONGEST_WAIT_S = 3600.0
_SHORTEST_WAIT_S = 0.001


@dataclass(frozen=True, slots=True)
class SessionTimes:
    """How long a session may last, in seconds.

    Attributes:
        idle_timeout_s: It ends when the client says nothing for so long.
        lease_s: It ends so long after it began.
        notice_s: The notice comes so long before the lease is over.
    """

    idle_timeout_s: float
    lease_s: float
    notice_s: float


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What may wait in one session.

    Attributes:
        max_requests: Requests that wait; then reading stops.
        max_frames: Frames among them.
        max_responses: Responses that wait for a client that does not read.
    """

    max_requests: int
    max_frames: int
    max_responses: int


@dataclass(frozen=True, slots=True)
class _Leaving:
    """The session must be over by `end_s` (event loop's clock), and ends with `error` then."""

    end_s: float
    error: MaskwireError


class LiveSession:
    """One session from its start to its end; `responses` runs it.

    Attributes:
        started: What it is.
        end_reason: Why it ended, in a word.
        size_bytes: Memory that it held after the last request.
    """

    def __init__(
        self,
        started: SessionStarted,
        config: SessionConfig,
        state: SessionState,
        first_sequence: int,
        *,
        times: SessionTimes,
        queues: QueueLimits,
        observer: Observer,
    ) -> None:
        """Take a session that is ready to run; call it on the event loop that runs it."""
        loop = asyncio.get_running_loop()
        self.started = started
        self.end_reason = "cancelled"
        self.size_bytes = state.size_bytes
        self._config = config
        self._state = state
        self._sequence = self._done_sequence = first_sequence
        self._times = times
        self._observer = observer
        self._ledger = FrameLedger(_UNTOLD_FRAMES, observer)
        self._inbox = Inbox(
            config.drop_policy,
            self._ledger,
            max_requests=queues.max_requests,
            max_frames=queues.max_frames,
        )
        self._outbox = Outbox(queues.max_responses)
        self._last_heard_s = loop.time()
        self._is_working = False
        self._reading: dict[int, asyncio.Task[FrameImage]] = {}
        self._leaving: _Leaving | None = None
        self._told_leaving = False
        self._time_moved = asyncio.Event()
        self._lease_end_s = loop.time() + times.lease_s

    async def responses(
        self, requests: AsyncIterator[SessionRequest]
    ) -> AsyncGenerator[SessionResponse, None]:
        """Run the session and yield what it says, in order.

        Raises:
            MaskwireError: What ends the session before the client does.
        """
        tasks = [
            self._start(self._read(requests)),
            self._start(self._work()),
            self._start(self._keep_time()),
        ]
        try:
            yield SessionResponse(self._sequence, self.started)
            while (response := await self._outbox.get()) is not None:
                yield response
            self.end_reason = "ended"
        except MaskwireError as error:
            self.end_reason = error.code.name.lower()
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for reading in self._reading.values():
                reading.cancel()

    def leave(self, grace_s: float, error: MaskwireError) -> None:
        """Tell the client that the session must move, and end it with `error` after `grace_s`."""
        end_s = asyncio.get_running_loop().time() + grace_s
        if self._leaving is None or end_s < self._leaving.end_s:
            self._told_leaving = False
            self._leaving = _Leaving(end_s, error)
            self._time_moved.set()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        async def guarded() -> None:
            try:
                await work
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                await self._outbox.fail(error)

        return asyncio.create_task(guarded())

    async def _read(self, requests: AsyncIterator[SessionRequest]) -> None:
        async for request in requests:
            self._last_heard_s = asyncio.get_running_loop().time()
            checked = self._checked(request)
            self._read_ahead(checked)
            await self._inbox.put(checked)
            if isinstance(checked.content, EndSession):
                break
        await self._inbox.close()

    def _read_ahead(self, request: SessionRequest) -> None:
        """Begin to decode a frame while earlier ones are on the device, where none is dropped."""
        content = request.content
        if not isinstance(content, NewFrame) or self._state.is_paused:
            return
        if self._config.drop_policy is DropPolicy.PROCESS_ALL:
            reading = asyncio.create_task(self._state.read(content))
            reading.add_done_callback(_note_failure)
            self._reading[request.sequence] = reading

    def _checked(self, request: SessionRequest) -> SessionRequest:
        """Hold a request to the rules of the stream; what breaks them is answered in its place."""
        if request.sequence <= self._sequence:
            error = invalid_field(
                "sequence", f"must be greater than the one before, which was {self._sequence}"
            )
        elif isinstance(request.content, StartSession):
            error = invalid_field("config", "only the first request of a stream is a config")
        else:
            self._sequence = request.sequence
            return request
        self._sequence = max(self._sequence, request.sequence)
        return replace(request, content=BadRequest(error))

    async def _work(self) -> None:
        while (request := await self._inbox.get()) is not None:
            self._is_working = True
            response = await self._answer_traced(request)
            self._done_sequence = request.sequence or self._done_sequence
            self.size_bytes = self._state.size_bytes
            if isinstance(request.content, EndSession):
                await self._end(request.sequence)
                return
            if response is not None:
                await self._outbox.put(SessionResponse(request.sequence, response))
            self._is_working = False
        await self._end(0)

    async def _end(self, sequence: int) -> None:
        ended = SessionEnded(self._ledger.counts, self._ledger.tell())
        await self._outbox.put(SessionResponse(sequence, ended))
        await self._outbox.close()

    async def _answer_traced(self, request: SessionRequest) -> ResponseContent | None:
        began_s = request.received_s or time.perf_counter()
        with self._observer.session_request(request.kind, request.sequence, began_s) as traced:
            response = await self._answer(request)
            error = response.error.code if isinstance(response, Refusal) else None
            traced.ended("answered" if error is None else "refused", error)
        return response

    async def _answer(self, request: SessionRequest) -> ResponseContent | None:
        try:
            return await self._carry_out(request)
        except MaskwireError as error:
            if isinstance(request.content, NewFrame):
                self._ledger.answer()
            return Refusal(error)

    async def _carry_out(self, request: SessionRequest) -> ResponseContent | None:
        match request.content:
            case NewFrame() as frame:
                return await self._frame(request, frame)
            case NewPrompts() as prompts:
                return self._result(await self._state.prompt(prompts, request.received_s))
            case RemoveObjects(object_ids):
                await self._state.remove(object_ids)
            case ClearPrompts(object_ids):
                await self._state.clear_prompts(object_ids)
            case SetPaused(paused):
                self._state.is_paused = paused
            case ResetSession():
                await self._state.reset()
            case ExportSeed():
                return await self._state.snapshot(request.sequence)
            case SendNotice() as notice:
                return await self._notice(notice)
            case BadRequest(error):
                raise error
        return Acknowledgement(self._state.object_ids)

    async def _frame(self, request: SessionRequest, frame: NewFrame) -> FrameResult | None:
        if self._state.is_paused and not frame.prompts:
            self._ledger.answer()
            return FrameResult(
                frame.frame_id,
                frame.capture_time_ns,
                masks=(),
                dropped_frames=await self._tell(),
                mask_options=self._config.mask_options,
                processed=None,
            )
        reading = self._reading.pop(request.sequence, None)
        answered = await self._state.process(
            frame,
            reading,
            request.received_s,
            must_answer=self._ledger.untold >= _TELL_FROM,
        )
        if answered.masks is None:
            self._ledger.drop(request, DropReason.SAMPLED_OUT)
            return None
        self._ledger.answer()
        self._observer.frame_answered(self.started.model, time.perf_counter() - request.received_s)
        return self._result(answered, await self._tell())

    def _result(self, answered: Answered, dropped: tuple[DroppedFrame, ...] = ()) -> FrameResult:
        assert answered.masks is not None
        return FrameResult(
            answered.frame.frame_id,
            answered.frame.capture_time_ns,
            masks=answered.masks,
            dropped_frames=dropped,
            mask_options=self._config.mask_options,
            processed=answered.processed,
        )

    async def _tell(self) -> tuple[DroppedFrame, ...]:
        told = self._ledger.tell()
        if told:
            await self._inbox.told()
        return told

    async def _notice(self, notice: SendNotice) -> DrainNotice:
        seed = None
        with suppress(MaskwireError):  # a notice without a seed is better than none
            seed = await self._state.snapshot(self._done_sequence)
        left_s = notice.end_s - asyncio.get_running_loop().time()
        return DrainNotice(time.time() + left_s, notice.reason, seed)

    async def _keep_time(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._time_moved.clear()
            next_s = await self._act(loop.time())
            # Not wait_for: in Python 3.11 it swallows a cancellation that comes with the event.
            with suppress(TimeoutError):
                async with asyncio.timeout_at(max(next_s, loop.time() + _SHORTEST_WAIT_S)):
                    await self._time_moved.wait()

    async def _act(self, now_s: float) -> float:
        """Do what is due, and return when to look again."""
        return min(
            await self._leave_in_time(now_s),
            await self._end_if_idle(now_s),
            await self._beat(now_s),
        )

    async def _leave_in_time(self, now_s: float) -> float:
        notice_s = self._lease_end_s - self._times.notice_s
        if self._leaving is None and now_s >= notice_s:
            reason = f"the session's lease of {self._times.lease_s:g} s is over"
            error = MaskwireError(ErrorCode.SESSION_OVER, f"{reason}; resume it from its seed")
            self._leaving = _Leaving(self._lease_end_s, error)
        if self._leaving is None:
            return notice_s
        if not self._told_leaving:
            self._told_leaving = True
            notice = SendNotice(self._leaving.end_s, self._leaving.error.message)
            await self._inbox.put_first(SessionRequest(0, notice))
        if now_s >= self._leaving.end_s:
            await self._outbox.fail(self._leaving.error)
        return max(self._leaving.end_s, now_s + _LONGEST_WAIT_S * (now_s >= self._leaving.end_s))

    async def _end_if_idle(self, now_s: float) -> float:
        timeout_s = self._times.idle_timeout_s
        if self._is_working or not self._inbox.is_empty:
            return now_s + timeout_s / 4
        if now_s < self._last_heard_s + timeout_s:
            return self._last_heard_s + timeout_s
        error = MaskwireError(
            ErrorCode.DEADLINE_EXCEEDED,
            f"the client said nothing for the session's idle timeout of {timeout_s:g} s",
        )
        await self._outbox.fail(error)
        return now_s + _LONGEST_WAIT_S

    async def _beat(self, now_s: float) -> float:
        interval_s = self._config.heartbeat_interval_s
        if interval_s is None:
            return now_s + _LONGEST_WAIT_S
        if now_s >= self._outbox.last_put_s + interval_s:
            await self._outbox.offer(SessionResponse(0, Heartbeat(self._ledger.counts)))
            return now_s + interval_s
        return self._outbox.last_put_s + interval_s


def _note_failure(reading: asyncio.Task[FrameImage]) -> None:
    """A frame that nobody comes to ask for may have failed to be read."""
    if not reading.cancelled():
        reading.exception()
