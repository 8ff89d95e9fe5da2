"""The asyncio iterator over a job's events: `_job_watch` with `await`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, Self, TypeVar

from ._async_job_runner import AsyncJobRunner
from ._job_runner import Ended
from ._job_steps import JobFollower
from .errors import MaskwireError
from .jobs import Job, JobEvent, JobState

_ResultT = TypeVar("_ResultT")


class AsyncJobWatch(AsyncIterator[JobEvent], Generic[_ResultT]):
    """The events of a job, each once and none left out; `AsyncClient.watch_job` makes it.

    It does what `JobWatch` does.
    """

    def __init__(
        self,
        follower: JobFollower,
        runner: AsyncJobRunner[Any],
        read_result: Callable[[Any], _ResultT],
        cancel: Callable[[str], Awaitable[Job]],
    ) -> None:
        self._follower = follower
        self._runner = runner
        self._read_result = read_result
        self._cancel = cancel
        self._steps = follower.events()
        self._failure: MaskwireError | None = None

    @property
    def job_name(self) -> str:
        """The job, `jobs/...`."""
        return self._follower.job_name

    @property
    def state(self) -> JobState:
        """How the job stands, as far as its events told."""
        return self._follower.state

    @property
    def last_sequence(self) -> int:
        """Number of the last event that was given, to go on after it elsewhere."""
        return self._follower.last_sequence

    @property
    def request_id(self) -> str:
        """Identifier of the calls, as in the server's logs."""
        return self._runner.request_id

    async def begin(self) -> Self:
        """Wait until the job is accepted; as `JobWatch.begin`."""
        if not self.job_name:
            await self._advance()
        return self

    async def __anext__(self) -> JobEvent:
        """Return the next event, waiting for it; as `JobWatch.__next__`."""
        event = await self._advance()
        if event is None:
            raise StopAsyncIteration
        return event

    async def result(self) -> _ResultT:
        """Wait for the end, and return what the job made; as `JobWatch.result`."""
        async for _ in self:
            pass
        ended = await self._runner.advance(self._follower.result())
        assert isinstance(ended, Ended), "a result is no event"
        return self._read_result(ended.value)

    async def cancel(self) -> Job:
        """Cancel the job; as `JobWatch.cancel`."""
        return await self._cancel(self.job_name)

    async def close(self) -> None:
        """End the watching; the job goes on."""
        await self._runner.close()

    async def __aenter__(self) -> Self:
        """Return the iterator itself."""
        return self

    async def __aexit__(self, *exception: object) -> None:
        """End the watching."""
        await self.close()

    async def _advance(self) -> JobEvent | None:
        """Return the next event; None at the end, or when the job is accepted."""
        if self._failure is not None:
            raise self._failure
        try:
            step = await self._runner.advance(self._steps)
        except MaskwireError as failure:
            self._failure = failure
            raise
        return None if isinstance(step, Ended) else step.item


class AsyncReconstruction(AsyncJobWatch[_ResultT]):
    """A reconstruction, accepted as a job: its events and its result.

    `AsyncClient.reconstruct_objects` and `AsyncClient.reconstruct_bodies` make it.
    """
