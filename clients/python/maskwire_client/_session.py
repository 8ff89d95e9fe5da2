"""The blocking session; `_async_session` mirrors it with `await` where this waits.

One thread reads the connection, and opens another where the session reconnects; gRPC's own thread
takes requests from the outbox. Neither ever waits for a caller: the window bounds what callers have
not collected. So a server that pushes back stops senders, and nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import Any, Protocol, Self

import grpc

from maskwire.v1 import realtime_pb2

from . import errors
from ._calls import Deadline
from ._errors import error_from_rpc
from ._session_core import Control, Request, Response, SessionCore
from ._session_messages import Prompts, frame_draft, prompts_message
from ._session_requests import AnswerQueue, Pending
from ._session_view import SessionView, too_late
from ._streaming import ResultStream
from ._tracing import in_this_context
from .frames import FrameInput
from .prompts import BoxLike, MaskPrompt, PointLike, Text
from .sessions import FrameResult, SessionSeed, SessionSummary


class Connector(Protocol):
    """Opens streams to the targets of a session."""

    def open(self, target_index: int, requests: Iterator[Request]) -> Any:
        """Return a new call of `RunSession` that sends these requests."""

    def close(self) -> None:
        """Close the channels that were opened for it."""


class Session(SessionView):
    """A stream for prompting and tracking; `Client.open_session` opens it, for any threads.

    `track`, `prompt` and the controls send one request and wait for its answer. `stream` keeps the
    connection full, and `send` with `results` does the same for callers with threads of their own.
    Leave it by the end of a `with` block, which ends it in good order, or by `end` or `close`.

    What is wrong with one request raises from the call that sent it, and the session lives on. What
    ends the session raises from every call that waits and from every later one.
    """

    def __init__(
        self, core: SessionCore, connector: Connector, deadline: Callable[[float | None], Deadline]
    ) -> None:
        super().__init__(core)
        self._connector = connector
        self._deadline = deadline
        self._changed = threading.Condition()
        self._call: Any = None
        self._connections = 0
        run = in_this_context(self._run)
        self._reader = threading.Thread(target=run, name="maskwire-session", daemon=True)

    def open(self, timeout_s: float | None = None) -> Self:
        """Connect and wait until the session runs; `Client.open_session` has done so.

        Raises:
            MaskwireError: It cannot be opened.
        """
        deadline = self._deadline(timeout_s)
        self._reader.start()
        try:
            with self._changed:
                self._wait_until(lambda: self._core.started is not None, deadline, "open")
        except BaseException:
            self.close()
            raise
        return self

    def track(
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
        """Send one frame and wait for its masks.

        Args:
            frame: A `Frame`, or just its picture.
            points: Clicks on this frame.
            boxes: Boxes on this frame.
            masks: Masks on this frame.
            texts: Concepts in words; not every model takes them.
            frame_id: Number of the frame; None is the frame's own, or counts on.
            capture_time: When it was captured; None is the frame's own.
            timeout_s: Seconds to wait; None is the client's default.

        Raises:
            FrameDropped: A newer frame, of another thread, replaced it (`LATEST_ONLY`).
            ConnectionLost: The connection broke first; the session reconnects, if it was to.
            MaskwireError: The frame failed, or the session did.
            OSError: The image file cannot be read.
            TypeError: An argument is of a kind that is not taken.
            ValueError: The session leaves frames out (`every_nth_frame`, `on_change_only`), and
                this one carries no prompt that would be answered for certain; or an array or
                number cannot be sent.
        """
        prompts = Prompts(points=points, boxes=boxes, masks=masks, texts=texts)
        self._core.arguments.check_answers(prompts)
        quality = self._core.arguments.jpeg_quality
        draft = frame_draft(frame, prompts, quality, frame_id=frame_id, capture_time=capture_time)
        result: FrameResult = self._ask(
            lambda waiter: self._core.add_frame(draft, waiter=waiter), timeout_s
        )
        return result

    def prompt(
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
        """Prompt on a frame that was sent before, and wait for the masks of the prompted objects.

        Args:
            points: Clicks.
            boxes: Boxes.
            masks: Masks.
            texts: Concepts in words; not every model takes them.
            frame_id: The frame, while it is held; None is the latest one processed.
            replace: Replace earlier prompts on the same objects and frame instead of adding.
            timeout_s: Seconds to wait; None is the client's default.

        Raises:
            MaskwireError: The prompts failed, or the session did.
            TypeError: A prompt is of a kind that is not taken.
            ValueError: A number or an array cannot be sent.
        """
        prompts = Prompts(points=points, boxes=boxes, masks=masks, texts=texts)
        message = prompts_message(prompts, frame_id, replace=replace)
        result: FrameResult = self._ask(
            lambda waiter: self._core.add_prompts(message, waiter), timeout_s
        )
        return result

    def remove(
        self, object_ids: Collection[int], *, timeout_s: float | None = None
    ) -> frozenset[int]:
        """Forget objects; return the ids of those that are left."""
        message = realtime_pb2.RemoveObjects(object_ids=object_ids)
        return self._control(Control(remove_objects=message), timeout_s)

    def clear_prompts(
        self, object_ids: Collection[int] = (), *, timeout_s: float | None = None
    ) -> frozenset[int]:
        """Forget the prompts of objects, or of all, on the latest frame; return all ids."""
        message = realtime_pb2.ClearPrompts(object_ids=object_ids)
        return self._control(Control(clear_prompts=message), timeout_s)

    def pause(self, *, timeout_s: float | None = None) -> None:
        """Stop tracking: frames are answered without masks until `resume`."""
        self._control(Control(set_paused=realtime_pb2.SetPaused(paused=True)), timeout_s)

    def resume(self, *, timeout_s: float | None = None) -> None:
        """Track again after `pause`."""
        self._control(Control(set_paused=realtime_pb2.SetPaused(paused=False)), timeout_s)

    def reset(self, *, timeout_s: float | None = None) -> None:
        """Forget all objects, texts and frames; the next frame may have another size."""
        self._control(Control(reset=realtime_pb2.ResetSession()), timeout_s)

    def export_seed(self, *, timeout_s: float | None = None) -> SessionSeed:
        """Return what is needed to go on elsewhere, with `open_session(resume_from=...)`."""
        control = Control(export_seed=realtime_pb2.ExportSeed())
        seed: SessionSeed = self._ask(
            lambda waiter: self._core.add_control(control, waiter), timeout_s
        )
        return seed

    def send(
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
        """Send one frame without waiting for its masks, which `results` gives; return its sequence.

        It waits while the connection pushes back, and while `window` frames are sent and not
        collected: whoever sends and collects in one thread collects in time.

        Args:
            frame: As for `track`, like all other arguments.
            points: Clicks on this frame.
            boxes: Boxes on this frame.
            masks: Masks on this frame.
            texts: Concepts in words.
            frame_id: Number of the frame.
            capture_time: When it was captured.
            timeout_s: Seconds to wait for room; None is the client's default.

        Raises:
            DeadlineExceeded: There was no room in time; nothing was sent.
            MaskwireError: The session failed.
            OSError: The image file cannot be read.
            TypeError: An argument is of a kind that is not taken.
            ValueError: An array or number cannot be sent.
        """
        prompts = Prompts(points=points, boxes=boxes, masks=masks, texts=texts)
        quality = self._core.arguments.jpeg_quality
        draft = frame_draft(frame, prompts, quality, frame_id=frame_id, capture_time=capture_time)
        queue, deadline = self._core.queue, self._deadline(timeout_s)
        with self._changed:
            self._wait_until(lambda: self._core.has_room(queue), deadline, "send")
            self._core.check_open()
            sequence = self._core.add_frame(draft, queue=queue).sequence
            self._changed.notify_all()
        return sequence

    def results(self) -> Iterator[FrameResult]:
        """Return an iterator over the answers of what `send` sends, until the session has ended.

        A frame that failed raises its error (with `sequence` and `frame_id`), and calling `next`
        again goes on after it.
        """
        return ResultStream(self._changed, self._core, self._core.queue)

    def stream(
        self,
        frames: Iterable[FrameInput],
        *,
        points: Sequence[PointLike] = (),
        boxes: Sequence[BoxLike] = (),
        masks: Sequence[MaskPrompt] = (),
        texts: Sequence[Text | str] = (),
        window: int | None = None,
    ) -> ResultStream:
        """Send frames while their results come back, in order.

        A thread takes frames from the source, so that waiting for the next one delays no result. A
        frame that failed raises its error (with `sequence` and `frame_id`), which ends a `for`
        loop; calling `next` again goes on after it. Other calls may be made meanwhile, prompts
        from within the loop too.

        Args:
            frames: Any source, of any length; what it raises is raised here, after the results.
            points: Clicks on the first frame.
            boxes: Boxes on the first frame.
            masks: Masks on the first frame.
            texts: Concepts in words, for the first frame.
            window: Most frames sent and not collected; None is the session's.
        """
        prompts = Prompts(points=points, boxes=boxes, masks=masks, texts=texts)
        queue = AnswerQueue(self._core.arguments.window if window is None else window)
        return ResultStream(self._changed, self._core, queue, frames, prompts)

    def end(self, *, timeout_s: float | None = None) -> SessionSummary:
        """End the session once everything sent is answered; the answers can still be collected.

        Raises:
            MaskwireError: The session failed, before or meanwhile.
        """
        with self._changed:
            if self._core.summary is not None:
                return self._core.summary
        end = Control(end=realtime_pb2.EndSession())
        summary: SessionSummary = self._ask(
            lambda waiter: self._core.add_control(end, waiter), timeout_s
        )
        self.close()
        return summary

    def close(self) -> None:
        """Break off: what is not answered yet is lost; calls that wait raise `Cancelled`."""
        self._break_off(errors.Cancelled("the session was closed", status="CANCELLED"))
        if self._reader.is_alive() and threading.current_thread() is not self._reader:
            self._reader.join()
        self._connector.close()

    def __enter__(self) -> Self:
        """Return the session itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        """End the session in good order, or break it off where the block raised."""
        if kind is None and not self._core.is_over:
            self.end()
        self.close()

    def _control(self, control: Control, timeout_s: float | None) -> frozenset[int]:
        answer: frozenset[int] = self._ask(
            lambda waiter: self._core.add_control(control, waiter), timeout_s
        )
        return answer

    def _ask(self, add: Callable[[Future[Any]], Pending], timeout_s: float | None) -> Any:
        """Send a request and wait for its answer."""
        deadline, waiter = self._deadline(timeout_s), Future[Any]()
        with self._changed:
            self._wait_until(self._core.has_room, deadline, "send")
            self._core.check_open()
            pending = add(waiter)
            self._changed.notify_all()
        try:
            return waiter.result(deadline.remaining_s())
        except TimeoutError:
            with self._changed:
                self._core.abandon(pending)
            raise too_late("answer") from None

    def _wait_until(self, is_so: Callable[[], bool], deadline: Deadline, purpose: str) -> None:
        """Wait, holding the lock, until something is so; raise when the session failed instead."""
        self._changed.wait_for(lambda: is_so() or self._core.is_over, deadline.remaining_s())
        if self._core.failure is not None:
            raise self._core.failure
        if not is_so() and not self._core.is_over:
            raise too_late(purpose)

    def _run(self) -> None:
        """Read one connection after the other, until the session is over."""
        goes_on = True
        while goes_on:
            error: errors.MaskwireError | None = None
            try:
                call = self._connect()
                for response in call:
                    self._receive(response)
            except grpc.RpcError as failed:
                error = error_from_rpc(failed)
            except Exception as unexpected:
                # Whatever it was (an answer that cannot be read, a target that is no name), the
                # calls that wait must hear of it.
                self._break_off(unexpected)
            with self._changed:
                goes_on = self._core.connection_ended(error)
                self._changed.notify_all()
                if goes_on:
                    pause_s = self._core.reconnection.pause_s
                    self._changed.wait_for(lambda: self._core.is_over, pause_s)
                    self._changed.wait_for(lambda: self._core.is_over or not self._core.is_asleep)

    def _break_off(self, error: Exception) -> None:
        with self._changed:
            self._core.fail(error)
            call = self._call
            self._changed.notify_all()
        if call is not None:
            call.cancel()

    def _connect(self) -> Any:
        with self._changed:
            self._connections += 1
            requests = self._requests(self._connections, self._core.open())
            index = self._core.reconnection.target_index
        call = self._connector.open(index, requests)
        with self._changed:
            self._call = call
            is_over = self._core.is_over
        if is_over:
            call.cancel()
        return call

    def _receive(self, response: Response) -> None:
        with self._changed:
            self._core.receive(response)
            self._changed.notify_all()

    def _requests(self, connection: int, first: Request) -> Iterator[Request]:
        """Give the requests of one connection; gRPC's thread calls this."""
        yield first
        while connection == self._connections:
            with self._changed:
                request = self._core.take() if connection == self._connections else None
                if request is not None:
                    self._changed.notify_all()
                elif self._core.has_said_all or connection != self._connections:
                    return
                else:
                    self._changed.wait()
                    continue
            yield request
