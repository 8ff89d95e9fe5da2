"""The asyncio iterator over a session's results: `_streaming` with a task instead of a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Self

from ._session_core import SessionCore
from ._session_messages import Prompts, frame_draft
from ._session_requests import AnswerQueue
from .errors import MaskwireError
from .frames import FrameInput
from .sessions import FrameResult


class Signal:
    """Wakes all tasks that wait, whenever something may have changed; for one event loop."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def notify_all(self) -> None:
        """Wake every task that waits now."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def wait(self, timeout_s: float | None = None) -> None:
        """Wait for the next `notify_all`, or so many seconds."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await asyncio.wait({future}, timeout=timeout_s)
        finally:
            self._waiting.discard(future)


class _Feed:
    """Sends the frames of a source from a task of its own, which does not keep the stream alive.

    Attributes:
        error: What the source raised.
        is_exhausted: Whether no more frames will be sent.
        is_stopped: Set when nobody wants more.
    """

    def __init__(
        self,
        changed: Signal,
        core: SessionCore,
        queue: AnswerQueue,
        frames: Iterable[FrameInput] | AsyncIterable[FrameInput],
        prompts: Prompts,
    ) -> None:
        self.error: Exception | None = None
        self.is_exhausted = False
        self.is_stopped = False
        self._changed = changed
        self._core = core
        self._queue = queue
        self._frames = frames
        self._prompts = prompts
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="maskwire-frames")

    def stop(self) -> None:
        """Send no more; an asynchronous source is interrupted."""
        self.is_stopped = True
        if self._task is not None and not self._task.get_loop().is_closed():
            # The garbage collector may call this from any thread.
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    async def _run(self) -> None:
        try:
            async for frame in _asynchronous(self._frames):
                if not await self._send(frame):
                    break
        except Exception as error:
            self.error = error
        finally:
            if self._core.arguments.is_sampling:
                self._core.add_mark()
            self.is_exhausted = True
            self._changed.notify_all()

    async def _send(self, frame: FrameInput) -> bool:
        """Send a frame once there is room; return whether more are wanted."""
        quality = self._core.arguments.jpeg_quality
        draft = await asyncio.to_thread(frame_draft, frame, self._prompts, quality)
        self._prompts = Prompts()
        while not (self._core.is_over or self._core.has_room(self._queue)):
            await self._changed.wait()
        if self._core.is_over:
            return False
        self._core.check_open()
        self._core.add_frame(draft, queue=self._queue)
        self._changed.notify_all()
        return True


class AsyncResultStream(AsyncIterator[FrameResult]):
    """Results of frames, in order; made by `AsyncSession.stream` and `AsyncSession.results`.

    It does what `ResultStream` does.
    """

    def __init__(
        self,
        changed: Signal,
        core: SessionCore,
        queue: AnswerQueue,
        frames: Iterable[FrameInput] | AsyncIterable[FrameInput] | None = None,
        prompts: Prompts | None = None,
    ) -> None:
        self._changed = changed
        self._core = core
        self._queue = queue
        self._feed: _Feed | None = None
        if frames is not None:
            self._feed = _Feed(changed, core, queue, frames, prompts or Prompts())
            self._feed.start()

    async def __anext__(self) -> FrameResult:
        """Return the next result, waiting for it; raises as `ResultStream.__next__`."""
        while not (self._queue.answers or self._is_done):
            await self._changed.wait()
        if not self._queue.answers:
            self._raise_end()
        answer = self._queue.answers.popleft()
        self._changed.notify_all()
        if isinstance(answer, MaskwireError):
            raise answer
        return answer

    async def close(self) -> None:
        """Stop sending."""
        if self._feed is not None:
            self._feed.stop()

    async def __aenter__(self) -> Self:
        """Return the iterator itself."""
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Stop sending."""
        await self.close()

    def __del__(self) -> None:
        """Stop sending."""
        if self._feed is not None:
            self._feed.stop()

    @property
    def _is_done(self) -> bool:
        is_fed = self._feed is not None and self._feed.is_exhausted
        return self._core.is_over or (is_fed and self._queue.in_flight == 0)

    def _raise_end(self) -> None:
        if self._core.failure is not None:
            raise self._core.failure
        if self._feed is not None and self._feed.error is not None:
            error, self._feed.error = self._feed.error, None
            raise error
        raise StopAsyncIteration


async def _asynchronous(
    frames: Iterable[FrameInput] | AsyncIterable[FrameInput],
) -> AsyncIterator[FrameInput]:
    """Give the frames of any source; one that blocks is asked for each in a thread."""
    if isinstance(frames, AsyncIterable):
        async for frame in frames:
            yield frame
        return
    source, end = iter(frames), object()
    while True:
        taken = await asyncio.to_thread(next, source, end)
        if taken is end:
            return
        yield taken  # type: ignore[misc]
