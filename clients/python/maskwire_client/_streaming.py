"""The blocking iterator over a session's results, and the thread that feeds it with frames."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Self

from ._session_core import SessionCore
from ._session_messages import Prompts, frame_draft
from ._session_requests import AnswerQueue
from .errors import MaskwireError
from .frames import FrameInput
from .sessions import FrameResult


class _Feed:
    """Sends the frames of a source from a thread of its own, which does not keep the stream alive.

    Attributes:
        error: What the source raised.
        is_exhausted: Whether no more frames will be sent.
        is_stopped: Set when nobody wants more.
    """

    def __init__(
        self,
        changed: threading.Condition,
        core: SessionCore,
        queue: AnswerQueue,
        frames: Iterable[FrameInput],
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

    def start(self) -> None:
        """Begin; a thread that hangs in its source does not hold up the program's end."""
        threading.Thread(target=self._run, name="maskwire-frames", daemon=True).start()

    def _run(self) -> None:
        try:
            for frame in self._frames:
                if not self._send(frame):
                    break
        except Exception as error:
            self.error = error
        with self._changed:
            if self._core.arguments.is_sampling:
                self._core.add_mark()
            self.is_exhausted = True
            self._changed.notify_all()

    def _send(self, frame: FrameInput) -> bool:
        """Send a frame once there is room; return whether more are wanted."""
        draft = frame_draft(frame, self._prompts, self._core.arguments.jpeg_quality)
        self._prompts = Prompts()
        with self._changed:
            self._changed.wait_for(self._may_go_on)
            if self.is_stopped or self._core.is_over:
                return False
            self._core.check_open()
            self._core.add_frame(draft, queue=self._queue)
            self._changed.notify_all()
        return True

    def _may_go_on(self) -> bool:
        return self.is_stopped or self._core.is_over or self._core.has_room(self._queue)


class ResultStream(Iterator[FrameResult]):
    """Results of frames, in order; made by `Session.stream` and `Session.results`.

    A frame that failed raises its error; calling `next` again goes on after it. Closing it, or
    dropping the last reference to it, stops the sending; what is sent then is still answered, and
    counted, but not given to anyone.
    """

    def __init__(
        self,
        changed: threading.Condition,
        core: SessionCore,
        queue: AnswerQueue,
        frames: Iterable[FrameInput] | None = None,
        prompts: Prompts | None = None,
    ) -> None:
        self._changed = changed
        self._core = core
        self._queue = queue
        self._feed: _Feed | None = None
        if frames is not None:
            self._feed = _Feed(changed, core, queue, frames, prompts or Prompts())
            self._feed.start()

    def __next__(self) -> FrameResult:
        """Return the next result, waiting for it.

        Raises:
            MaskwireError: The frame failed, or the session did.
            Exception: What the source of the frames raised, after the last result.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._queue.answers or self._is_done)
            if not self._queue.answers:
                self._raise_end()
            answer = self._queue.answers.popleft()
            self._changed.notify_all()
        if isinstance(answer, MaskwireError):
            raise answer
        return answer

    def close(self) -> None:
        """Stop sending."""
        if self._feed is not None:
            with self._changed:
                self._feed.is_stopped = True
                self._changed.notify_all()

    def __enter__(self) -> Self:
        """Return the iterator itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop sending."""
        self.close()

    def __del__(self) -> None:
        """Stop sending."""
        self.close()

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
        raise StopIteration
