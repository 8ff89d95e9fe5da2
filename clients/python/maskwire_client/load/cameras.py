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
from ..sessions import FrameResult, Reconnect
from .outcomes import OK, Outcome, Recorder
from .pictures import Picture
from .plan import Kind, LoadPlan

__all__ = ["Camera", "SessionCounts"]


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
        self._due_s: dict[int, float] = {}

    async def run(self, client: AsyncClient) -> None:
        """Open sessions and send frames until the run is over."""
        begin_s = self._phase_s
        while begin_s < self._plan.length_s and not await self._passed(begin_s):
            end_s = min(begin_s + self._cameras.session_s, self._plan.length_s)
            is_complete = await self._session(client, begin_s, end_s)
            begin_s = max(self._clock(), end_s) if is_complete else self._clock()

    async def _session(self, client: AsyncClient, begin_s: float, end_s: float) -> bool:
        """Run one session; return whether it came to its end."""
        counts = SessionCounts()
        session = client.open_session(
            model=self._plan.model,
            drop_policy=self._cameras.drop_policy,
            window=self._cameras.window,
            reconnect=Reconnect() if self._cameras.reconnects else None,
        )
        self._recorder.begin(Kind.SESSION, begin_s)
        try:
            await session.open()
        except MaskwireError as error:
            self._end(Kind.SESSION, begin_s, error)
            self.counts.failed += 1
            await self._passed(self._clock() + 1.0 / self._cameras.frames_per_second)
            return False
        self._end(Kind.SESSION, begin_s)
        counts.opened += 1
        try:
            await self._stream(session, counts, self._clock(), end_s)
        except MaskwireError as error:
            counts.failed += 1
            self._lose_rest(counts, error)
            return False
        finally:
            await session.close()
            self.counts.add(counts)
        return True

    async def _passed(self, moment_s: float) -> bool:
        """Wait until a moment of the run; return whether the run is to stop."""
        wait_s = moment_s - self._clock()
        if wait_s > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._stopping.wait()
        return self._stopping.is_set()

    async def _stream(
        self, session: AsyncSession, counts: SessionCounts, begin_s: float, end_s: float
    ) -> None:
        """Send frames and take in what becomes of them, then end the session.

        Raises:
            MaskwireError: The session failed.
        """
        box = self._frames[0].box
        stream = session.stream(self._taken(counts, begin_s, end_s), boxes=[box])
        while True:
            try:
                result = await anext(stream)
            except StopAsyncIteration:
                break
            except MaskwireError as error:
                if error.frame_id is None or error.sequence == 0:
                    raise
                counts.frames_failed += 1
                self._end(Kind.FRAME, self._due_s.pop(error.frame_id), error)
            else:
                self._take(result, counts)
        summary = await session.end(timeout_s=self._plan.deadline_s)
        counts.reconnects += summary.reconnects
        # What no result has told.
        counts.dropped += summary.frames_dropped - counts.dropped
        for lost in summary.lost_frames:
            self._lose(lost.frame_id, counts, "the connection was lost")
        for frame in summary.dropped_frames:
            self._forget(frame.frame_id)

    async def _taken(
        self, counts: SessionCounts, begin_s: float, end_s: float
    ) -> AsyncIterator[Frame]:
        """Give the frames at their times; those for which the session has no room pass by."""
        interval_s = 1.0 / self._cameras.frames_per_second
        number = 0
        while (due_s := begin_s + number * interval_s) < end_s:
            if await self._passed(due_s):
                return
            counts.offered += 1
            if self._clock() - due_s > interval_s:
                counts.shed += 1
                self._recorder.shed_one(Kind.FRAME, due_s)
            else:
                counts.sent += 1
                self._due_s[number] = due_s
                self._recorder.begin(Kind.FRAME, due_s)
                yield Frame(self._frames[number % len(self._frames)].jpeg, frame_id=number)
            number += 1

    def _take(self, result: FrameResult, counts: SessionCounts) -> None:
        counts.answered += 1
        counts.without_object += not result.masks
        self._end(Kind.FRAME, self._due_s.pop(result.frame_id))
        for dropped in result.dropped_frames:
            counts.dropped += 1
            self._forget(dropped.frame_id)
        for lost in result.lost_frames:
            self._lose(lost.frame_id, counts, "the connection was lost")

    def _forget(self, frame_id: int) -> None:
        if self._due_s.pop(frame_id, None) is not None:
            self._recorder.forget()

    def _lose(self, frame_id: int, counts: SessionCounts, why: str) -> None:
        due_s = self._due_s.pop(frame_id, None)
        if due_s is not None:
            counts.lost += 1
            self._end(Kind.FRAME, due_s, MaskwireError(why, status="LOST"))

    def _lose_rest(self, counts: SessionCounts, error: MaskwireError) -> None:
        """Account for all frames that a broken session leaves unanswered."""
        for frame_id in list(self._due_s):
            self._lose(frame_id, counts, error.message)

    def _end(self, kind: Kind, due_s: float, error: MaskwireError | None = None) -> None:
        self._recorder.end(
            Outcome(
                kind=kind,
                due_s=due_s,
                latency_s=self._clock() - due_s,
                code=OK if error is None else error.status,
                message="" if error is None else error.message,
                request_id="" if error is None else error.request_id,
            )
        )
