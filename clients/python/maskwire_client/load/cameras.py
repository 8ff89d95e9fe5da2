"""Cameras: live sessions whose frames come at their own pace, whatever the server does.

Every frame is accounted for: a camera takes it (`offered`), and it is shed by the generator, or
sent; what is sent is answered, dropped by the server's policy, failed, or lost with a connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields

from .._async_client import AsyncClient
from .._async_session import AsyncSession
from ..errors import MaskwireError
from ..frames import Frame
from ..sessions import FrameResult, Reconnect, SessionSummary
from .outcomes import Outcome, Recorder
from .pictures import Picture
from .plan import Kind, LoadPlan

__all__ = ["Camera", "SessionCounts"]

_PAUSE_S = 1.0


@dataclass(slots=True)
class SessionCounts:
    """What became of sessions and their frames, those of the warm-up too.

    Attributes:
        opened: Sessions that were opened.
        failed: Sessions that could not be opened, or broke before their end.
        reconnects: How often sessions moved to another connection.
        offered: Frames that cameras took.
        shed: Of these, frames that passed by because the session's window was full.
        sent: Frames that were given to sessions.
        answered: Of these, frames with a result.
        dropped: Frames left out by the drop policy.
        frames_failed: Frames answered with an error.
        lost: Frames lost with a connection.
        without_object: Answered frames without a mask of the object that is followed.
    """

    opened: int = 0
    failed: int = 0
    reconnects: int = 0
    offered: int = 0
    shed: int = 0
    sent: int = 0
    answered: int = 0
    dropped: int = 0
    frames_failed: int = 0
    lost: int = 0
    without_object: int = 0

    @property
    def unaccounted(self) -> int:
        """Frames of which nobody knows what became of them: 0, or something is wrong."""
        ended = self.answered + self.dropped + self.frames_failed + self.lost
        return abs(self.sent - ended) + abs(self.offered - self.shed - self.sent)

    def add(self, other: SessionCounts) -> None:
        """Add the counts of other sessions."""
        for one in fields(SessionCounts):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


class Camera:
    """One session after the other, until the run is over.

    Args:
        plan: The run.
        number: The camera's number, from 0.
        frames: Its pictures, again and again.
        recorder: Where openings and frames are counted.
        clock: Gives the seconds since the beginning of the run.
        stopping: Set when no more frames are wanted.

    Attributes:
        counts: What became of the sessions that are over.
    """

    def __init__(
        self,
        plan: LoadPlan,
        number: int,
        frames: Sequence[Picture],
        recorder: Recorder,
        clock: Callable[[], float],
        stopping: asyncio.Event,
    ) -> None:
        self.counts = SessionCounts()
        self._plan = plan
        self._cameras = plan.cameras
        self._frames = frames
        self._recorder = recorder
        self._clock = clock
        self._stopping = stopping
        # Cameras are not in step with each other.
        self._phase_s = number / (max(1, self._cameras.count) * self._cameras.frames_per_second)

    async def run(self, client: AsyncClient) -> None:
        """Open sessions and send frames until the run is over."""
        begin_s = self._phase_s
        while begin_s < self._plan.length_s and not await self._passed(begin_s):
            end_s = self._clock() + self._cameras.session_s
            is_complete = await self._session(client, begin_s)
            if is_complete and end_s >= self._plan.length_s:
                return  # it filled what was left of the run; its last frame is a little before that
            # What broke at once would break at once again.
            begin_s = self._clock() + (0.0 if is_complete else _PAUSE_S)

    async def _session(self, client: AsyncClient, begin_s: float) -> bool:
        """Run one session; return whether it came to its end."""
        session = client.open_session(
            model=self._plan.model,
            drop_policy=self._cameras.drop_policy,
            window=self._cameras.window,
            reconnect=Reconnect() if self._cameras.reconnects else None,
        )
        self._recorder.begin(Kind.SESSION, begin_s)
        opened = ended = None
        try:
            await session.open()
        except MaskwireError as error:
            opened = error
        latency_s = self._clock() - begin_s
        self._recorder.end(_outcome(Kind.SESSION, begin_s, latency_s, opened))
        if opened is not None:
            self.counts.failed += 1
            return False
        frames = _FrameRecord(self._recorder, self._clock)
        frames.counts.opened += 1
        try:
            await self._stream(session, frames)
        except MaskwireError as error:
            ended = error
            frames.counts.failed += 1
            frames.lose_all(error.message)
        finally:
            await session.close()
            self.counts.add(frames.counts)
        return ended is None

    async def _stream(self, session: AsyncSession, frames: _FrameRecord) -> None:
        """Send frames and take in what becomes of them, then end the session.

        Raises:
            MaskwireError: The session failed.
        """
        async with session.stream(self._taken(frames), boxes=[self._frames[0].box]) as stream:
            while True:
                try:
                    frames.take(await anext(stream))
                except StopAsyncIteration:
                    break
                except MaskwireError as error:
                    if error.frame_id is None or error.sequence == 0:
                        raise
                    frames.fail(error.frame_id, error)
        summary = await session.end(timeout_s=self._plan.deadline_s)
        frames.finish(summary)

    async def _taken(self, frames: _FrameRecord) -> AsyncIterator[Frame]:
        """Give the frames at their times; those for which the session has no room pass by."""
        interval_s = 1.0 / self._cameras.frames_per_second
        begin_s = self._clock()
        end_s = min(begin_s + self._cameras.session_s, self._plan.length_s)
        number = 0
        while (due_s := begin_s + number * interval_s) < end_s:
            if await self._passed(due_s) or frames.is_over:
                return
            frames.counts.offered += 1
            if self._clock() - due_s > interval_s:
                frames.shed(due_s)
            else:
                frames.send(number, due_s)
                yield Frame(self._frames[number % len(self._frames)].jpeg, frame_id=number)
            number += 1

    async def _passed(self, moment_s: float) -> bool:
        """Wait until a moment of the run; return whether the run is to stop."""
        wait_s = moment_s - self._clock()
        if wait_s > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._stopping.wait()
        return self._stopping.is_set()


class _FrameRecord:
    """What became of each frame of one session.

    Attributes:
        counts: The counts so far.
        is_over: Whether the session takes no more frames.
    """

    def __init__(self, recorder: Recorder, clock: Callable[[], float]) -> None:
        self.counts = SessionCounts()
        self.is_over = False
        self._recorder = recorder
        self._clock = clock
        self._due_s: dict[int, float] = {}  # frames under way: as many as the window lets be

    def shed(self, due_s: float) -> None:
        """Note a frame that passed by."""
        self.counts.shed += 1
        self._recorder.shed_one(Kind.FRAME, due_s)

    def send(self, frame_id: int, due_s: float) -> None:
        """Note a frame that is given to the session."""
        self.counts.sent += 1
        self._due_s[frame_id] = due_s
        self._recorder.begin(Kind.FRAME, due_s)

    def take(self, result: FrameResult) -> None:
        """Note an answer, and what it says about other frames."""
        self.counts.answered += 1
        self.counts.without_object += not result.masks
        self._end(self._due_s.pop(result.frame_id), None)
        for dropped in result.dropped_frames:
            self._drop(dropped.frame_id)
        for lost in result.lost_frames:
            self._lose(lost.frame_id, "the connection was lost")

    def fail(self, frame_id: int, error: MaskwireError) -> None:
        """Note a frame that was answered with an error."""
        self.counts.frames_failed += 1
        self._end(self._due_s.pop(frame_id), error)

    def finish(self, summary: SessionSummary) -> None:
        """Note what no answer has told."""
        self.is_over = True
        self.counts.reconnects += summary.reconnects
        for dropped in summary.dropped_frames:
            self._drop(dropped.frame_id)
        for lost in summary.lost_frames:
            self._lose(lost.frame_id, "the connection was lost")

    def lose_all(self, why: str) -> None:
        """Note that the session broke: nothing more will be heard of its frames."""
        self.is_over = True
        for frame_id in list(self._due_s):
            self._lose(frame_id, why)

    def _drop(self, frame_id: int) -> None:
        if self._due_s.pop(frame_id, None) is not None:
            self.counts.dropped += 1
            self._recorder.forget()

    def _lose(self, frame_id: int, why: str) -> None:
        due_s = self._due_s.pop(frame_id, None)
        if due_s is not None:
            self.counts.lost += 1
            self._end(due_s, MaskwireError(why, status="LOST"))

    def _end(self, due_s: float, error: MaskwireError | None) -> None:
        self._recorder.end(_outcome(Kind.FRAME, due_s, self._clock() - due_s, error))


def _outcome(kind: Kind, due_s: float, latency_s: float, error: MaskwireError | None) -> Outcome:
    if error is None:
        return Outcome(kind, due_s, latency_s)
    return Outcome(
        kind,
        due_s,
        latency_s,
        code=error.status,
        message=error.message,
        request_id=error.request_id,
    )
