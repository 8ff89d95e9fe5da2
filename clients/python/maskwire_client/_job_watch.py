"""The blocking iterator over a job's events; `_async_job_watch` mirrors it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, Self, TypeVar

from ._job_runner import Ended, JobRunner
from ._job_steps import JobFollower
from .errors import MaskwireError
from .jobs import Job, JobEvent, JobState

_ResultT = TypeVar("_ResultT")


class JobWatch(Iterator[JobEvent], Generic[_ResultT]):
    """The events of a job, each once and none left out; `Client.watch_job` makes it.

    Where the connection is lost it goes on by itself, at another server too. Closing it, or leaving
    its `with` block, only ends the watching: the job goes on.

    Args:
        follower: The job.
        runner: Carries its steps out.
        read_result: Makes the result of its message.
        cancel: Cancels the job of a name.
    """

    def __init__(
        self,
        follower: JobFollower,
        runner: JobRunner[Any],
        read_result: Callable[[Any], _ResultT],
        cancel: Callable[[str], Job],
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

    def begin(self) -> Self:
        """Wait until the job is accepted, where it is still to be submitted.

        Raises:
            MaskwireError: It is not accepted, or no server answers.
        """
        if not self.job_name:
            self._advance()
        return self

    def __next__(self) -> JobEvent:
        """Return the next event, waiting for it; the last one says how the job ended.

        Raises:
            InternalError: The server left events out, or sent one again.
            MaskwireError: The job is not known, or no server answers for too long.
        """
        event = self._advance()
        if event is None:
            raise StopIteration
        return event

    def result(self) -> _ResultT:
        """Wait for the end, and return what the job made.

        Raises:
            JobFailed: It failed.
            JobCancelled: It was cancelled.
            MaskwireError: As `next`; or the result is gone.
        """
        for _ in self:
            pass
        ended = self._runner.advance(self._follower.result())
        assert isinstance(ended, Ended), "a result is no event"
        return self._read_result(ended.value)

    def cancel(self) -> Job:
        """Cancel the job, which takes effect within 2 s or at the next stage.

        Raises:
            MaskwireError: The call failed.
        """
        return self._cancel(self.job_name)

    def close(self) -> None:
        """End the watching; the job goes on."""
        self._runner.close()

    def __enter__(self) -> Self:
        """Return the iterator itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """End the watching."""
        self.close()

    def _advance(self) -> JobEvent | None:
        """Return the next event; None at the end, or when the job is accepted."""
        if self._failure is not None:
            raise self._failure
        try:
            step = self._runner.advance(self._steps)
        except MaskwireError as failure:
            self._failure = failure
            raise
        return None if isinstance(step, Ended) else step.item


class Reconstruction(JobWatch[_ResultT]):
    """A reconstruction, accepted as a job: its events and its result.

    `Client.reconstruct_objects` and `Client.reconstruct_bodies` make it.
    """
