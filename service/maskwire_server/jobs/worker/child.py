"""The inside of a child process: takes calls from its worker, one at a time, and runs them.

Three threads: the main one runs the event loop with the runner; one reads the socket, so that a
cancellation is noticed and a worker that vanished ends the process whatever the others do; one
writes to it, so that reporting progress never waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

import structlog

from ...domain.errors import ErrorCode, MaskwireError
from ...domain.jobs.calls import CallRunner, JobCancelled, JobProgress, JobTask
from ...domain.jobs.job import JobKey
from . import frames
from .failures import is_retryable
from .frames import Frame
from .progress import Progress, ProgressBuffer

_log = structlog.get_logger(__name__)

MakeRunner = Callable[[bytes], AbstractAsyncContextManager[CallRunner]]
"""Makes what runs calls from the worker's configuration, on the child's event loop."""

_UNFORESEEN = "an unexpected error in the worker; its log has the details"
_OUT_OF_MEMORY = "the worker ran out of memory"
_TIDY_UP_S = 5.0
_MAX_CONFIGURATION_BYTES = 2**20
_PR_SET_PDEATHSIG = 1


def connection_of(arguments: Sequence[str]) -> socket.socket:
    """Return the connection to the worker, whose descriptor is the last argument."""
    return socket.socket(fileno=int(arguments[-1]))


def serve_child(connection: socket.socket, make_runner: MakeRunner) -> None:
    """Run calls for the worker at the other end until it closes the connection; then return.

    A worker that closes while a call runs ends the process at once, with all processes it started.
    """
    _end_with_parent()
    start = frames.receive_frame(connection, _MAX_CONFIGURATION_BYTES)
    if start is None:
        return
    _limit_memory(start.fields["memory_bytes"])
    child = _Child(connection, start.fields["max_body_bytes"])
    asyncio.run(child.serve(lambda: make_runner(start.body)))


class _Progress(JobProgress):
    """Progress of one call; reports go to the socket's writer."""

    def __init__(self, outbox: _Outbox) -> None:
        self._outbox = outbox
        self.is_cancelled = False

    def report(self, stage: str, fraction: float, log_line: str = "") -> None:
        """Tell how far the call is; as the interface says."""
        if self.is_cancelled:
            raise JobCancelled
        self._outbox.report(Progress(stage, float(fraction), log_line))


class _Outbox:
    """What waits to be written to the socket: a bounded buffer of progress, then one answer."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._changed = threading.Condition()
        self._progress = ProgressBuffer()
        self._answer: Frame | None = None
        self._is_closed = False
        self._thread = threading.Thread(target=self._write, name="writer", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """Forget what the last call said."""
        with self._changed:
            self._progress = ProgressBuffer()

    def report(self, progress: Progress) -> None:
        """Send progress, as soon as the socket takes it."""
        with self._changed:
            self._progress.add(progress)
            self._changed.notify()

    def answer(self, frame: Frame) -> None:
        """Send a frame after all progress reported so far; at most one waits at a time."""
        with self._changed:
            self._changed.wait_for(lambda: self._answer is None or self._is_closed)
            self._answer = frame
            self._changed.notify_all()

    def close(self) -> None:
        """Send what waits, and end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join()

    def _write(self) -> None:
        with contextlib.suppress(OSError):  # a worker that is gone: the reader ends the process
            while (frame := self._next()) is not None:
                frames.send_frame(self._connection, frame)

    def _next(self) -> Frame | None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._progress or self._answer is not None or self._is_closed
            )
            if self._progress:
                one = self._progress.pop()
                fields = {"stage": one.stage, "fraction": one.fraction, "log_line": one.log_line}
                return Frame(frames.PROGRESS, fields)
            frame, self._answer = self._answer, None
            self._changed.notify_all()
            return frame


class _Child:
    """Takes frames from the worker and answers them."""

    def __init__(self, connection: socket.socket, max_body_bytes: int) -> None:
        self._connection = connection
        self._max_body_bytes = max_body_bytes
        self._outbox = _Outbox(connection)
        self._tasks: asyncio.Queue[tuple[JobTask, _Progress] | None] = asyncio.Queue(2)
        self._lock = threading.Lock()
        self._running: _Progress | None = None
        self._is_ending = False

    async def serve(
        self, make_runner: Callable[[], AbstractAsyncContextManager[CallRunner]]
    ) -> None:
        """Make the runner and run calls until the worker closes the connection."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, args=(loop,), name="reader", daemon=True).start()
        try:
            async with make_runner() as runner:
                self._outbox.answer(Frame(frames.READY))
                while (given := await self._tasks.get()) is not None:
                    answer = await self._run(runner, *given)
                    with self._lock:
                        self._running = None
                        if self._is_ending:
                            break
                    self._outbox.answer(answer)
        except Exception as error:
            # Whatever the worker asked or will ask of a child without a runner, this is the answer.
            self._outbox.answer(_failure(error))
        self._outbox.close()

    async def _run(self, runner: CallRunner, task: JobTask, progress: _Progress) -> Frame:
        self._outbox.begin()
        try:
            if progress.is_cancelled:
                return Frame(frames.CANCELLED)
            result = await runner.run(task, progress)
        except JobCancelled:
            return Frame(frames.CANCELLED)
        except Exception as error:
            return _failure(error)
        if len(result) > self._max_body_bytes:
            return _failure(
                MaskwireError(
                    ErrorCode.PAYLOAD_TOO_LARGE,
                    f"the result has {len(result)} bytes, more than {self._max_body_bytes}",
                )
            )
        return Frame(frames.RESULT, body=result)

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read frames on a thread of its own until the worker closes the connection."""
        try:
            while (frame := self._receive()) is not None:
                if frame.kind == frames.TASK:
                    progress = _Progress(self._outbox)
                    with self._lock:
                        self._running = progress
                    loop.call_soon_threadsafe(self._tasks.put_nowait, (_task(frame), progress))
                elif frame.kind == frames.CANCEL:
                    with self._lock:
                        if self._running is not None:
                            self._running.is_cancelled = True
        finally:
            self._end(loop)

    def _receive(self) -> Frame | None:
        return frames.receive_frame(self._connection, self._max_body_bytes)

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        """Return from the loop where nothing runs, and give it a while; else end at once."""
        with self._lock:
            self._is_ending = True
            is_idle = self._running is None
        if is_idle:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                loop.call_soon_threadsafe(self._tasks.put_nowait, None)
            threading.Event().wait(_TIDY_UP_S)
        end_group()


def end_group() -> None:
    """End this process and those that it started, at once; it leads a group of its own."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def _task(frame: Frame) -> JobTask:
    fields = frame.fields
    return JobTask(
        key=JobKey(fields["tenant"], fields["job_id"]),
        attempt=fields["attempt"],
        method=fields["method"],
        request_id=fields["request_id"],
        payload=frame.body,
        trace_context=fields["trace_context"],
    )


def _failure(error: Exception) -> Frame:
    """Return the answer that a call failed; what nobody foresaw is logged and not told."""
    if isinstance(error, MaskwireError):
        is_broken = error.code is ErrorCode.MODEL_UNAVAILABLE
        return _failure_frame(error.code, error.message, is_retryable(error.code), is_broken)
    _log.error("unexpected error in a job", exc_info=error)
    if isinstance(error, MemoryError):
        return _failure_frame(ErrorCode.WORKER_LOST, _OUT_OF_MEMORY, True, True)
    return _failure_frame(ErrorCode.INTERNAL, _UNFORESEEN, True, True)


def _failure_frame(code: ErrorCode, message: str, may_retry: bool, is_broken: bool) -> Frame:
    return Frame(
        frames.FAILURE,
        {
            "code": code.name,
            "message": message[:4000],
            "is_retryable": may_retry,
            "is_broken": is_broken,
        },
    )


def _limit_memory(size_bytes: int) -> None:
    if size_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (size_bytes, size_bytes))


def _end_with_parent() -> None:
    """Have the kernel end this process with its parent, where it can.

    The closed connection ends it as well, but not while native code holds the interpreter's lock.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
