"""The asyncio session: `_session`, method by method, with `await` where that waits.

One task reads the connection, and opens another where the session reconnects; gRPC's own task takes
requests from the outbox. All of them run on one event loop, so that nothing needs a lock: state
changes only between two `await`s.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Collection,
    Generator,
    Iterable,
    Sequence,
)
from datetime import datetime
from typing import Any, Protocol, Self

import grpc

from maskwire.v1 import realtime_pb2

from . import errors
from ._async_streaming import AsyncResultStream, Signal
from ._calls import Deadline
from ._first_status import FirstStatus
from ._session_core import Control, Request, SessionCore
from ._session_messages import FrameDraft, Prompts, frame_draft, prompts_message
from ._session_requests import AnswerQueue, Pending
from ._session_view import SessionView, too_late
from .frames import FrameInput
from .prompts import BoxLike, MaskPrompt, PointLike, Text
from .sessions import FrameResult, SessionSeed, SessionSummary


class AsyncConnector(Protocol):
    """Opens streams to the targets of a session."""

    def open(self, target_index: int, requests: AsyncIterator[Request]) -> Any:
        """Return a new call of `RunSession` that sends these requests."""

    async def close(self) -> None:
        """Close the channels that were opened for it."""


class AsyncSession(SessionView):
    """A stream for prompting and tracking; `AsyncClient.open_session` makes it.

    It does what `Session` does, for any tasks of one event loop. It is opened by `async with`, or
    by awaiting it.
    """

    def __init__(
        self,
        core: SessionCore,
        connector: AsyncConnector,
        deadline: Callable[[float | None], Deadline],
        timeout_s: float | None = None,
    ) -> None:
        super().__init__(core)
        self._connector = connector
        self._deadline = deadline
        self._open_timeout_s = timeout_s
        self._changed = Signal()
        self._call: Any = None
        self._connections = 0
        self._reader: asyncio.Task[None] | None = None

    async def open(self) -> Self:
        """Connect and wait until the session runs; nothing more where it is open already.

        Raises:
            MaskwireError: It cannot be opened.
        """
        if self._reader is not None:
            return self
        deadline = self._deadline(self._open_timeout_s)
        self._reader = asyncio.get_running_loop().create_task(self._run(), name="maskwire-session")
        try:
            await self._wait_until(lambda: self._core.started is not None, deadline, "open")
        except BaseException:
            await self.close()
            raise
        return self

    async def track(
        self,
        frame: FrameInput,
        *,
        points: Sequence[PointLike] = (),
        boxes: Sequence[BoxLike] = (),
        masks: Sequence[MaskPrompt] = (),
        texts: Sequence[Text | str] = (),
        frame_id: int | None = None,
        capture_time: datetime | None = None,
        timeout_s: float | None = None,
    ) -> FrameResult:
        """Send one frame and wait for its masks; as `Session.track`."""
        prompts = Prompts(points=points, boxes=boxes, masks=masks, texts=texts)
        self._core.arguments.check_answers(prompts)
        draft = await self._draft(frame, prompts, frame_id, capture_time)
        result: FrameResult = await self._ask(
            lambda waiter: self._core.add_frame(draft, waiter=waiter), timeout_s
        )
        return result

    async def prompt(
        self,
        *,
        points: Sequence[PointLike] = (),
        boxes: Sequence[BoxLike] = (),
        masks: Sequence[MaskPrompt] = (),
        texts: Sequence[Text | str] = (),
        frame_id: int | None = None,
        replace: bool = False,
        timeout_s: float | None = None,
    ) -> FrameResult:
        """Prompt on a frame that was sent before, and wait for the masks; as `Session.prompt`."""
        prompts = Prompts(points=points, boxes=boxes, masks=masks, texts=texts)
        message = prompts_message(prompts, frame_id, replace=replace)
        result: FrameResult = await self._ask(
            lambda waiter: self._core.add_prompts(message, waiter), timeout_s
        )
        return result

    async def remove(
        self, object_ids: Collection[int], *, timeout_s: float | None = None
    ) -> frozenset[int]:
        """Forget objects; return the ids of those that are left."""
        message = realtime_pb2.RemoveObjects(object_ids=object_ids)
        return await self._control(Control(remove_objects=message), timeout_s)

    async def clear_prompts(
        self, object_ids: Collection[int] = (), *, timeout_s: float | None = None
    ) -> frozenset[int]:
        """Forget the prompts of objects, or of all, on the latest frame; return all ids."""
        message = realtime_pb2.ClearPrompts(object_ids=object_ids)
        return await self._control(Control(clear_prompts=message), timeout_s)

    async def pause(self, *, timeout_s: float | None = None) -> None:
        """Stop tracking: frames are answered without masks until `resume`."""
        await self._control(Control(set_paused=realtime_pb2.SetPaused(paused=True)), timeout_s)

    async def resume(self, *, timeout_s: float | None = None) -> None:
        """Track again after `pause`."""
        await self._control(Control(set_paused=realtime_pb2.SetPaused(paused=False)), timeout_s)

    async def reset(self, *, timeout_s: float | None = None) -> None:
        """Forget all objects, texts and frames; the next frame may have another size."""
        await self._control(Control(reset=realtime_pb2.ResetSession()), timeout_s)

    async def export_seed(self, *, timeout_s: float | None = None) -> SessionSeed:
        """Return what is needed to go on elsewhere; as `Session.export_seed`."""
        control = Control(export_seed=realtime_pb2.ExportSeed())
        seed: SessionSeed = await self._ask(
            lambda waiter: self._core.add_control(control, waiter), timeout_s
        )
        return seed

    async def send(
        self,
        frame: FrameInput,
        *,
        points: Sequence[PointLike] = (),
        boxes: Sequence[BoxLike] = (),
        masks: Sequence[MaskPrompt] = (),
        texts: Sequence[Text | str] = (),
        frame_id: int | None = None,
        capture_time: datetime | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """Send one frame without waiting for its masks; as `Session.send`."""
        prompts = Prompts(points=points, boxes=boxes, masks=masks, texts=texts)
        draft = await self._draft(frame, prompts, frame_id, capture_time)
        queue, deadline = self._core.queue, self._deadline(timeout_s)
        await self._wait_until(lambda: self._core.has_room(queue), deadline, "send")
        self._core.check_open()
        sequence = self._core.add_frame(draft, queue=queue).sequence
        self._changed.notify_all()
        return sequence

    def results(self) -> AsyncResultStream:
        """Return an iterator over the answers of what `send` sends; as `Session.results`."""
        return AsyncResultStream(self._changed, self._core, self._core.queue)

    def stream(
        self,
        frames: Iterable[FrameInput] | AsyncIterable[FrameInput],
        *,
        points: Sequence[PointLike] = (),
        boxes: Sequence[BoxLike] = (),
        masks: Sequence[MaskPrompt] = (),
        texts: Sequence[Text | str] = (),
        window: int | None = None,
    ) -> AsyncResultStream:
        """Send frames while their results come back, in order; as `Session.stream`.

        The source may be asynchronous; one that is not is asked for its frames in a thread.
        """
        prompts = Prompts(points=points, boxes=boxes, masks=masks, texts=texts)
        queue = AnswerQueue(self._core.arguments.window if window is None else window)
        return AsyncResultStream(self._changed, self._core, queue, frames, prompts)

    async def end(self, *, timeout_s: float | None = None) -> SessionSummary:
        """End the session once everything sent is answered; as `Session.end`."""
        if self._core.summary is not None:
            return self._core.summary
        end = Control(end=realtime_pb2.EndSession())
        summary: SessionSummary = await self._ask(
            lambda waiter: self._core.add_control(end, waiter), timeout_s
        )
        await self.close()
        return summary

    async def close(self) -> None:
        """Break off: what is not answered yet is lost; calls that wait raise `Cancelled`."""
        self._break_off(errors.Cancelled("the session was closed", status="CANCELLED"))
        if self._reader is not None and asyncio.current_task() is not self._reader:
            self._reader.cancel()
            await asyncio.wait({self._reader})
        await self._connector.close()

    def __await__(self) -> Generator[Any, None, Self]:
        """Open it: `session = await client.open_session(...)`."""
        return self.open().__await__()

    async def __aenter__(self) -> Self:
        """Open it and return the session itself."""
        return await self.open()

    async def __aexit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        """End the session in good order, or break it off where the block raised."""
        if kind is None and not self._core.is_over:
            await self.end()
        await self.close()

    async def _draft(
        self,
        frame: FrameInput,
        prompts: Prompts,
        frame_id: int | None,
        capture_time: datetime | None,
    ) -> FrameDraft:
        """Read and encode a frame, in a thread."""
        return await asyncio.to_thread(
            frame_draft,
            frame,
            prompts,
            self._core.arguments.jpeg_quality,
            frame_id=frame_id,
            capture_time=capture_time,
        )

    async def _control(self, control: Control, timeout_s: float | None) -> frozenset[int]:
        answer: frozenset[int] = await self._ask(
            lambda waiter: self._core.add_control(control, waiter), timeout_s
        )
        return answer

    async def _ask(
        self, add: Callable[[asyncio.Future[Any]], Pending], timeout_s: float | None
    ) -> Any:
        """Send a request and wait for its answer."""
        deadline = self._deadline(timeout_s)
        waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        await self._wait_until(self._core.has_room, deadline, "send")
        self._core.check_open()
        pending = add(waiter)
        self._changed.notify_all()
        try:
            await asyncio.wait({waiter}, timeout=deadline.remaining_s())
        finally:
            self._core.abandon(pending)
        if not waiter.done():
            raise too_late("answer")
        return waiter.result()

    async def _wait_until(
        self, is_so: Callable[[], bool], deadline: Deadline, purpose: str
    ) -> None:
        """Wait until something is so; raise when the session failed instead."""
        while not (is_so() or self._core.is_over):
            remaining_s = deadline.remaining_s()
            if remaining_s == 0:
                raise too_late(purpose)
            await self._changed.wait(remaining_s)
        if self._core.failure is not None:
            raise self._core.failure

    async def _run(self) -> None:
        """Read one connection after the other, until the session is over."""
        goes_on = True
        while goes_on:
            error: errors.MaskwireError | None = None
            try:
                call = self._connect()
                status = FirstStatus(call)
                async for response in call:
                    self._core.receive(response)
                    self._changed.notify_all()
            except grpc.RpcError as failed:
                error = status.translate(failed)
            except asyncio.CancelledError:
                self._break_off(errors.Cancelled("the session was closed", status="CANCELLED"))
                raise
            except Exception as unexpected:
                # Whatever it was (an answer that cannot be read, a target that is no name), the
                # calls that wait must hear of it.
                self._break_off(unexpected)
            goes_on = self._core.connection_ended(error)
            self._changed.notify_all()
            if goes_on:
                await asyncio.sleep(self._core.reconnection.pause_s)
                while self._core.is_asleep and not self._core.is_over:
                    await self._changed.wait()

    def _break_off(self, error: Exception) -> None:
        self._core.fail(error)
        self._changed.notify_all()
        if self._call is not None:
            self._call.cancel()

    def _connect(self) -> Any:
        self._connections += 1
        requests = self._requests(self._connections, self._core.open())
        self._call = self._connector.open(self._core.reconnection.target_index, requests)
        return self._call

    async def _requests(self, connection: int, first: Request) -> AsyncIterator[Request]:
        """Give the requests of one connection; gRPC's task calls this."""
        yield first
        while connection == self._connections:
            request = self._core.take()
            if request is not None:
                self._changed.notify_all()
                yield request
            elif self._core.has_said_all:
                return
            else:
                await self._changed.wait()
