"""What a session is, without waiting: its requests, its answers, and what to do when it breaks off.

`Session` and `AsyncSession` carry messages between this and a connection, one under a lock, the
other on an event loop; every decision falls here, so the two cannot differ.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from maskwire.v1 import realtime_pb2

from . import errors
from ._errors import error_from_status
from ._mask_memory import MaskMemory
from ._reconnection import Reconnection
from ._responses import processing_info
from ._session_ledger import FrameLedger
from ._session_messages import (
    FrameDraft,
    SessionArguments,
    capture_time,
    drain_notice_result,
    dropped_frames,
    heartbeat_result,
    seed_result,
    session_config,
)
from ._session_requests import AnswerQueue, Pending, RequestBook, Waiter
from .errors import MaskwireError
from .options import MaskEncoding
from .sessions import (
    DrainNotice,
    DroppedFrame,
    FrameResult,
    Heartbeat,
    LostFrame,
    SessionSeed,
    SessionSummary,
)

Request = realtime_pb2.RunSessionRequest
Response = realtime_pb2.RunSessionResponse
Control = realtime_pb2.SessionControl


class SessionCore:
    """The state of a session over all its connections.

    Args:
        arguments: What `open_session` was given.
        clock: Gives the time in seconds; monotonic.
    """

    def __init__(
        self, arguments: SessionArguments, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.arguments = arguments
        self.started: realtime_pb2.SessionStarted | None = None
        self.object_ids: frozenset[int] = frozenset()
        self.heartbeat: Heartbeat | None = None
        self.drain_notice: DrainNotice | None = None
        self.seed: SessionSeed | None = None
        self.failure: Exception | None = None
        self.summary: SessionSummary | None = None
        self.queue = AnswerQueue(arguments.window)
        self.reconnection = Reconnection(arguments.reconnect)
        self._config = session_config(arguments)
        self._clock = clock
        self._memory = MaskMemory(has_masks=arguments.encoding is not MaskEncoding.NONE)
        self._book = RequestBook()
        self._ledger = FrameLedger()
        self._next_frame_id = 0
        self._frames_since_mark = 0
        self._seed_asked_s = clock()
        self._is_paused = False
        self._is_running = False
        self._has_ended = False
        self._end: Pending | None = None
        self._drain_end: Pending | None = None
        self._reset: Pending | None = None

    # What callers ask for.

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come: the session ended or failed."""
        return self.summary is not None or self.failure is not None

    def check_open(self) -> None:
        """Raise what speaks against another request.

        Raises:
            RuntimeError: The session has been asked to end.
            Exception: What the session failed of.
        """
        if self.failure is not None:
            raise self.failure
        if self._end is not None:
            raise RuntimeError("the session has ended")

    def has_room(self, queue: AnswerQueue | None = None) -> bool:
        """Whether a request may be added now; one for a queue needs room there too."""
        return self._book.has_room and (queue is None or queue.has_room)

    def add_frame(
        self, draft: FrameDraft, *, waiter: Waiter | None = None, queue: AnswerQueue | None = None
    ) -> Pending:
        """Add a frame, and whatever should follow at once; give it a number if it has none."""
        frame_id = draft.frame_id if draft.frame_id is not None else self._next_frame_id
        draft.message.frame_id = frame_id
        self._next_frame_id = max(self._next_frame_id, frame_id + 1)
        pending = self._add(Request(frame=draft.message), waiter, queue, frame_id=frame_id)
        self._follow(changes_objects=bool(draft.message.prompts))
        self._frames_since_mark += 1
        if self.arguments.is_sampling and self._frames_since_mark * 2 >= self.arguments.window:
            self.add_mark()
        return pending

    def add_prompts(self, prompts: realtime_pb2.SessionPrompts, waiter: Waiter) -> Pending:
        """Add prompts on a frame that was sent before."""
        pending = self._add(Request(prompts=prompts), waiter)
        self._follow(changes_objects=True)
        return pending

    def add_control(self, control: Control, waiter: Waiter) -> Pending:
        """Add a control; `end` is the last request."""
        pending = self._add(Request(control=control), waiter)
        match control.WhichOneof("control"):
            case "set_paused":
                self._is_paused = control.set_paused.paused
            case "end":
                self._end = pending
            case "remove_objects" | "clear_prompts" | "reset":
                self._reset = pending if control.HasField("reset") else self._reset
                self._follow(changes_objects=True)
        return pending

    def add_mark(self) -> None:
        """Add a request that changes nothing: its answer says that all before it is done with."""
        if self.is_over or self._end is not None:
            return
        self._frames_since_mark = 0
        paused = realtime_pb2.SetPaused(paused=self._is_paused)
        self._add(Request(control=Control(set_paused=paused)))

    def abandon(self, pending: Pending) -> None:
        """Forget that somebody waits for an answer."""
        pending.waiter = None

    # What a connection asks for.

    @property
    def is_asleep(self) -> bool:
        """Whether the last connection was idle for too long, and nothing needs another yet."""
        return self.reconnection.is_asleep and self._book.next_in_line is None

    @property
    def has_said_all(self) -> bool:
        """Whether nothing more is to be sent on this connection."""
        last = self._end if self._drain_end is None else self._drain_end
        return self.is_over or (last is not None and last.is_sent)

    def open(self) -> Request:
        """Return the first request of a new connection."""
        following = self._book.next_in_line
        config = realtime_pb2.SessionConfig()
        config.CopyFrom(self._config)
        if self.seed is not None:
            config.resume_seed = self.seed.data
        # Requests that wait already keep their numbers, so the config takes one before them.
        sequence = self._book.next_sequence() if following is None else following - 1
        return Request(sequence=sequence, config=config)

    def take(self) -> Request | None:
        """Return the next request to send, or None while there is none."""
        pending = self._book.take(is_held=not self._is_running or self._drain_end is not None)
        if pending is None:
            return None
        assert pending.request is not None, "a request that waits has its message"
        if pending.is_frame and not pending.is_counted:
            self._ledger.sent += 1
            pending.is_counted = True
        request = pending.request
        if not self.reconnection.resends:
            pending.request = None
        return request

    def receive(self, response: Response) -> None:
        """Take in what the server says.

        Raises:
            InternalError: It cannot be read.
        """
        try:
            self._take_in(response)
        except ValueError as error:
            raise errors.InternalError(f"the server's answer cannot be read: {error}") from error

    def _take_in(self, response: Response) -> None:
        if response.sequence and not response.HasField("started"):
            self._book.pass_to(response.sequence)
            self.reconnection.succeed()
        match response.WhichOneof("message"):
            case "started":
                self._start(response.started)
            case "frame_result":
                self._take_result(response.sequence, response.frame_result)
            case "acknowledgement":
                self._take_acknowledgement(
                    response.sequence, frozenset(response.acknowledgement.object_ids)
                )
            case "error":
                self._take_error(response)
            case "seed":
                self._take_seed(response.sequence, seed_result(response.seed))
            case "heartbeat":
                self.heartbeat = heartbeat_result(response.heartbeat)
            case "drain_notice":
                self._take_drain_notice(drain_notice_result(response.drain_notice))
            case "ended":
                self._has_ended = True
                self._drop(dropped_frames(response.ended.dropped_frames))

    def connection_ended(self, error: MaskwireError | None) -> bool:
        """Take in that a connection is over; return whether to open another.

        Args:
            error: What it ended with; None for the status OK.
        """
        has_ended, self._has_ended = self._has_ended, False
        was_running, self._is_running = self._is_running, False
        drain_end, self._drain_end = self._drain_end, None
        if self.is_over:
            return False
        if error is None and has_ended and drain_end is None:
            self._finish()
            return False
        if error is None:
            error = errors.ConnectionLost("the server closed the session", status="UNAVAILABLE")
        if not self.reconnection.allows(error, was_announced=self.drain_notice is not None):
            self.fail(error)
            return False
        self._lose(error)
        if self._end is not None and self._end.sequence not in self._book:
            self._finish()
            return False
        self._ledger.reconnects += was_running
        self.reconnection.begin()
        return True

    def fail(self, error: Exception) -> None:
        """End the session with an error: all calls that wait raise it, and all calls to come."""
        if self.is_over:
            return
        self.failure = error
        for pending in self._book.clear():
            pending.refuse(error)

    def _add(
        self,
        request: Request,
        waiter: Waiter | None = None,
        queue: AnswerQueue | None = None,
        *,
        frame_id: int | None = None,
        is_urgent: bool = False,
    ) -> Pending:
        pending = Pending(
            request=request,
            sequence=self._book.next_sequence(),
            started_s=self._clock(),
            frame_id=frame_id,
            waiter=waiter,
            queue=queue,
        )
        self._book.add(pending, is_urgent=is_urgent)
        return pending

    def _follow(self, *, changes_objects: bool) -> None:
        """Ask for a seed behind a request, where one is due."""
        policy = self.arguments.reconnect
        if policy is None:
            return
        now_s = self._clock()
        if changes_objects or now_s - self._seed_asked_s >= policy.seed_interval_s:
            self._seed_asked_s = now_s
            self._add(Request(control=Control(export_seed=realtime_pb2.ExportSeed())))

    def _start(self, started: realtime_pb2.SessionStarted) -> None:
        is_first = self.started is None
        self.started = started
        self.object_ids = frozenset(started.resumed_object_ids)
        self.drain_notice = None
        self._is_running = True
        self._memory.keep_only(())
        if self._is_paused and not is_first:
            self.add_mark()

    def _take_result(self, sequence: int, message: realtime_pb2.SessionFrameResult) -> None:
        # First what may fail: who waits for the answer must still be on record then.
        info = processing_info(message.info)
        masks = self._memory.resolve(message.masks, info.image.size)
        self._drop(dropped_frames(message.dropped_frames))
        pending = self._book.answered(sequence)
        shown = frozenset(mask.object_id for mask in masks)
        if pending is None:
            return
        if pending.is_frame:
            self._ledger.answered += 1
            if message.HasField("info"):  # while paused there is none, and all objects live on
                self.object_ids = shown
                self._memory.keep_only(shown)
        else:
            self.object_ids |= shown
        pending.succeed(
            FrameResult(
                frame_id=message.frame_id,
                sequence=sequence,
                masks=masks,
                info=info,
                capture_time=capture_time(message),
                dropped_frames=self._ledger.report_drops(),
                lost_frames=self._ledger.report_losses(),
                latency_s=self._clock() - pending.started_s,
            )
        )

    def _take_acknowledgement(self, sequence: int, object_ids: frozenset[int]) -> None:
        self.object_ids = object_ids
        self._memory.keep_only(object_ids)
        pending = self._book.answered(sequence)
        if pending is None:
            return
        if pending is self._reset:
            self.seed = None  # older than the reset, it would bring the objects back
            self._config.ClearField("resume_seed")
        pending.succeed(object_ids)

    def _take_error(self, response: Response) -> None:
        pending = self._book.answered(response.sequence)
        if pending is None:
            return
        error = error_from_status(response.error)
        error.sequence, error.frame_id = response.sequence, pending.frame_id
        self._ledger.failed += pending.is_frame
        if pending is self._end:
            self._end = None
        pending.fail(error)

    def _take_seed(self, sequence: int, seed: SessionSeed) -> None:
        self.seed = seed
        pending = self._book.answered(sequence)
        if pending is not None:
            pending.succeed(seed)

    def _take_drain_notice(self, notice: DrainNotice) -> None:
        """Where the session reconnects, end it here in good order, so that nothing is lost."""
        self.drain_notice = notice
        if self.arguments.reconnect is None or self._drain_end is not None:
            return
        if notice.seed is not None:
            self.seed = notice.seed
        if self._end is not None and self._end.is_sent:
            return
        export, end = realtime_pb2.ExportSeed(), realtime_pb2.EndSession()
        self._add(Request(control=Control(export_seed=export)), is_urgent=True)
        self._drain_end = self._add(Request(control=Control(end=end)), is_urgent=True)

    def _drop(self, frames: tuple[DroppedFrame, ...]) -> None:
        self._ledger.drop(frames)
        for frame in frames:
            pending = self._book.answered(frame.sequence)
            if pending is not None:
                pending.miss(frame)

    def _lose(self, cause: MaskwireError) -> None:
        """Account for all requests that the connection took with it."""
        for pending in self._book.lose_sent(resend=self.reconnection.resends):
            if pending.frame_id is not None:
                self._ledger.lose(LostFrame(pending.sequence, pending.frame_id))
            error = errors.ConnectionLost(
                f"the connection was lost before the answer: {cause.message}", status=cause.status
            )
            error.sequence, error.frame_id = pending.sequence, pending.frame_id
            if pending is not self._end:
                pending.refuse(error)

    def _finish(self) -> None:
        end = self._end
        for pending in self._book.clear():
            if pending.is_counted and pending.frame_id is not None:
                self._ledger.lose(LostFrame(pending.sequence, pending.frame_id))
            if pending is not end:
                pending.refuse(errors.ConnectionLost("the session has ended"))
        self.summary = self._ledger.summary()
        if end is not None:
            end.succeed(self.summary)
