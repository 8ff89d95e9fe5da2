"""Where blocking work runs: owned threads behind a bounded queue.

One executor with one thread owns each device, so that a device never runs two calls at once; one
with several threads does pixel work (decoding, masks at full resolution, PNG). A full queue refuses
at once instead of growing.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

from .errors import ErrorCode, MaskwireError
from .observer import Observer

Value = TypeVar("Value")

_SMOOTHING = 0.1
"""Weight of the newest run in the running mean of run times, which sizes the retry delay."""


@dataclass(frozen=True, slots=True)
class Completed(Generic[Value]):
    """What a call returned, and where its time went.

    Attributes:
        value: The return value.
        queue_s: Seconds between submission and start.
        run_s: Seconds on the thread.
        ended_s: When it ended, on `time.perf_counter`'s clock; None for several calls together.
    """

    value: Value
    queue_s: float
    run_s: float
    ended_s: float | None = None


class BoundedExecutor:
    """Runs blocking calls on its own threads, at most `max_waiting` more than it has threads.

    Used from the event loop's thread only; `close` ends it.
    """

    def __init__(self, name: str, threads: int, max_waiting: int, observer: Observer) -> None:
        self.name = name
        self._threads = threads
        self._capacity = threads + max_waiting
        self._observer = observer
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._pending = 0
        self._mean_run_s = 0.05

    async def run(
        self, function: Callable[[], Value], *, is_refusable: bool = True
    ) -> Completed[Value]:
        """Run `function` on one of the threads and return its result with its timing.

        It sees the caller's context variables, so that its log lines and reports tell the request.

        Args:
            function: What to run.
            is_refusable: False queues it however full the queue is: for callers that have one
                call at a time and are themselves limited in number, like live sessions.

        Cancelling the caller takes the call out of the queue if it waits; one that runs finishes,
        and its result is thrown away.

        Raises:
            MaskwireError: `OVERLOADED` with `retry_after` when the queue is full.
        """
        self._admit(is_refusable=is_refusable)
        submitted = time.perf_counter()

        def timed() -> Completed[Value]:
            started = time.perf_counter()
            self._observer.queue_left(self.name, started - submitted)
            try:
                value = function()
            finally:
                ended = time.perf_counter()
                self._observer.executor_ran(self.name, ended - started)
            return Completed(value, started - submitted, ended - started, ended)

        try:
            future = self._pool.submit(contextvars.copy_context().run, timed)
        except RuntimeError as error:
            self._release()
            raise MaskwireError(ErrorCode.SHUTTING_DOWN, "the server is stopping") from error
        future.add_done_callback(self._finished)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Drop what waits, let what runs finish, and end the threads; blocks until then."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _admit(self, *, is_refusable: bool) -> None:
        with self._lock:
            if is_refusable and self._pending >= self._capacity:
                delay = self._mean_run_s * self._pending / self._threads
                refused = True
            else:
                self._pending += 1
                refused = False
        if refused:
            self._observer.overload_refused(self.name)
            raise MaskwireError(
                ErrorCode.OVERLOADED,
                f"the queue for {self.name} is full ({self._capacity - self._threads} waiting)",
                retry_after=timedelta(seconds=min(max(delay, 0.05), 30.0)),
                resource=self.name,
            )
        self._report()

    def _finished(self, future: Future[Completed[Value]]) -> None:
        if not future.cancelled() and future.exception() is None:
            run_s = future.result().run_s
            self._mean_run_s += _SMOOTHING * (run_s - self._mean_run_s)
        self._release()

    def _release(self) -> None:
        with self._lock:
            self._pending -= 1
        self._report()

    def _report(self) -> None:
        running = min(self._pending, self._threads)
        self._observer.queue_depth_changed(self.name, self._pending - running, running)
