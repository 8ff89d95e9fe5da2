"""Where blocking work runs: owned threads behind a bounded queue that is fair to tenants.

One executor with one thread owns each device, so that a device never runs two calls at once; one
with several threads does pixel work (decoding, masks at full resolution, PNG). A full queue refuses
at once instead of growing: the newcomer, or a call of a tenant that has more of the queue. Whose
work it is says `current_share` of the caller's context.

A request that looks at an image and then draws makes two calls. Where it had to let another
tenant's call pass before each of them, a flood would make it three times as slow; so both are one
turn: the thread waits a moment for the second (anticipatory scheduling, Iyer and Druschel, SOSP
2001), if other tenants are all that waits.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, TypeVar

from .errors import ErrorCode, MaskwireError
from .fair_queue import Entry, FairQueue, current_share
from .observer import Observer

Value = TypeVar("Value")

_LONGEST_HOLD_S = 0.05
"""How long a thread waits for the second call of a turn; at most half of a usual call.

It comes within a millisecond where processors are free, and else when the event loop has its turn.
"""

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


@dataclass(eq=False, slots=True)
class _Call:
    """A call that waits or runs; it sees the context variables of whoever made it."""

    function: Callable[[], Any]
    is_followed: bool = False
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    future: Future[Completed[Any]] = field(default_factory=Future)
    submitted_s: float = field(default_factory=time.perf_counter)


class BoundedExecutor:
    """Runs blocking calls on its own threads, at most `max_waiting` more than it has threads.

    Tenants share its time by their weights, see `FairQueue`. Used from the event loop's thread
    only; `close` ends it.
    """

    def __init__(self, name: str, threads: int, max_waiting: int, observer: Observer) -> None:
        self.name = name
        self._threads = threads
        self._capacity = threads + max_waiting
        self._observer = observer
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=name)
        # Guards all that follows.
        self._lock = threading.Lock()
        self._submitted = threading.Condition(self._lock)
        self._queue: FairQueue[_Call] = FairQueue()
        self._working = 0
        self._running = 0
        self._mean_run_s = 0.05
        self._is_closed = False

    async def run(
        self,
        function: Callable[[], Value],
        *,
        is_refusable: bool = True,
        is_followed: bool = False,
    ) -> Completed[Value]:
        """Run `function` on one of the threads and return its result with its timing.

        It sees the caller's context variables, so that its log lines and reports tell the request.

        Args:
            function: What to run.
            is_refusable: False queues it however full the queue is: for callers that have one
                call at a time and are themselves limited in number, like live sessions.
            is_followed: The caller makes another call as soon as it has the result of this one.

        Cancelling the caller takes the call out of the queue if it waits; one that runs finishes,
        and its result is thrown away.

        Raises:
            MaskwireError: `OVERLOADED` with `retry_after` when the queue is full, or fills up with
                calls of tenants that have less of it.
        """
        call = _Call(function, is_followed)
        self._submit(call, is_refusable=is_refusable)
        return await asyncio.wrap_future(call.future)

    def close(self) -> None:
        """Drop what waits, let what runs finish, and end the threads; blocks until then."""
        with self._lock:
            self._is_closed = True
            self._submitted.notify_all()
            dropped = list(self._queue.drain())
        for entry in dropped:
            entry.item.future.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._report()

    def _submit(self, call: _Call, *, is_refusable: bool) -> None:
        share, evicted = current_share.get(), None
        with self._lock:
            if self._is_closed:
                raise MaskwireError(ErrorCode.SHUTTING_DOWN, "the server is stopping")
            if is_refusable and len(self._queue) + self._running >= self._capacity:
                evicted = self._queue.push_out(share)
                if evicted is None:
                    self._observer.overload_refused(self.name)
                    raise self._overloaded()
            entry = self._queue.put(call, share, is_refusable=is_refusable)
            if self._working < self._threads:
                self._working += 1
                self._pool.submit(self._work)
            self._submitted.notify()
        call.future.add_done_callback(lambda future: self._done(entry, future))
        if evicted is not None and evicted.item.future.set_running_or_notify_cancel():
            self._observer.overload_refused(self.name)
            evicted.item.future.set_exception(self._overloaded())
        self._report()

    def _work(self) -> None:
        """Run calls on one of the threads until none waits."""
        with self._lock:
            entry = self._took(self._queue.take(self._mean_run_s))
        while entry is not None:
            entry = self._execute(entry)

    def _execute(self, entry: Entry[_Call]) -> Entry[_Call] | None:
        """Run a call; return the next one."""
        call, began_s = entry.item, time.perf_counter()
        if not call.future.set_running_or_notify_cancel():
            return self._finished(entry, 0.0)
        try:
            completed = call.context.run(self._timed, call.function, call.submitted_s)
        except BaseException as error:
            following = self._finished(entry, time.perf_counter() - began_s)
            call.future.set_exception(error)
            # The error has this frame, and the call has the error: what it holds may be large.
            del entry, call
            return following
        if call.is_followed and self._queue.others_wait(entry):
            return self._finished_and_followed(entry, completed)
        following = self._finished(entry, completed.run_s)
        call.future.set_result(completed)
        return following

    def _timed(self, function: Callable[[], Any], submitted_s: float) -> Completed[Any]:
        started = time.perf_counter()
        self._observer.queue_left(self.name, started - submitted_s)
        try:
            value = function()
        finally:
            ended = time.perf_counter()
            self._observer.executor_ran(self.name, ended - started)
        return Completed(value, started - submitted_s, ended - started, ended)

    def _finished(self, entry: Entry[_Call], run_s: float) -> Entry[_Call] | None:
        """Charge what a call cost and give its place to the next, before its caller hears of it."""
        with self._lock:
            self._pay(entry, run_s)
            following = self._took(self._queue.take(self._mean_run_s))
        self._report()
        return following

    def _finished_and_followed(
        self, entry: Entry[_Call], completed: Completed[Any]
    ) -> Entry[_Call] | None:
        """Do as `_finished`, but give the place to the caller's next call, if it comes soon."""
        with self._lock:
            self._pay(entry, completed.run_s)
            hold_s = min(self._mean_run_s / 2, _LONGEST_HOLD_S)
        entry.item.future.set_result(completed)
        with self._lock:
            self._submitted.wait_for(
                lambda: self._is_closed or not self._queue.others_wait(entry), hold_s
            )
            following = self._queue.take_after(entry, self._mean_run_s)
            if following is None:
                following = self._queue.take(self._mean_run_s)
            else:
                # The turn ends with it, whatever its caller means to do next.
                following.item.is_followed = False
            self._took(following)
        self._report()
        return following

    def _pay(self, entry: Entry[_Call], run_s: float) -> None:
        self._running -= 1
        self._queue.pay(entry, run_s)
        if run_s:
            self._mean_run_s += _SMOOTHING * (run_s - self._mean_run_s)

    def _took(self, entry: Entry[_Call] | None) -> Entry[_Call] | None:
        if entry is None:
            self._working -= 1
        else:
            self._running += 1
        return entry

    def _done(self, entry: Entry[_Call], future: Future[Completed[Any]]) -> None:
        """Take a call that was cancelled while it waited out of the queue."""
        if future.cancelled():
            with self._lock:
                is_gone = not self._queue.remove(entry)
            if not is_gone:
                self._report()

    def _overloaded(self) -> MaskwireError:
        delay_s = self._mean_run_s * (len(self._queue) + self._running) / self._threads
        return MaskwireError(
            ErrorCode.OVERLOADED,
            f"the queue for {self.name} is full ({self._capacity - self._threads} waiting)",
            retry_after=timedelta(seconds=min(max(delay_s, 0.05), 30.0)),
            resource=self.name,
        )

    def _report(self) -> None:
        self._observer.queue_depth_changed(self.name, len(self._queue), self._running)
