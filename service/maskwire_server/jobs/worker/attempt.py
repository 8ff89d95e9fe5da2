"""One attempt at a job: the conversation with the child, and the watch over both.

Two tasks run side by side. One reads the request, has the child work on it and stores the result.
The other extends the lease while the child makes progress, and notices when the attempt must end
before that: cancelled, lost to another worker, stalled, handed back.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

import structlog

from ...domain.errors import ErrorCode, MaskwireError
from ...domain.jobs.calls import AttemptCancelled, AttemptFailed, AttemptHandedBack
from ...domain.jobs.content import JobContentStore, result_key
from ...domain.jobs.job import ContentReference, JobFailure
from ...domain.jobs.ledger import AttemptOutcome, Claim, JobLedger
from ...domain.tracing import TracedWork
from . import frames
from .child_process import ChildProcess
from .failures import failed
from .frames import Frame
from .keeping import Ending, Keeper, KeepingTimes
from .progress import Progress
from .reporting import ProgressReporter
from .slot import ChildSlot

_log = structlog.get_logger(__name__)

_STORE_TRIES = 4
_STORE_PAUSE_S = 0.2


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt ended: what to commit, None where it is no longer the worker's, and a word."""

    outcome: AttemptOutcome | None
    how: str

    @property
    def error(self) -> ErrorCode | None:
        """Why it failed, where it did."""
        return self.outcome.failure.code if isinstance(self.outcome, AttemptFailed) else None


class Attempt:
    """Runs one claim, once."""

    def __init__(
        self,
        ledger: JobLedger,
        content: JobContentStore,
        claim: Claim,
        slot: ChildSlot,
        times: KeepingTimes,
        event_interval_s: float,
        traced: TracedWork,
    ) -> None:
        self._ledger = ledger
        self._content = content
        self._claim = claim
        self._slot = slot
        self._times = times
        self._traced = traced
        self._reporter = ProgressReporter(self._write, event_interval_s)
        self._keeper = Keeper(ledger, claim, times, self._cancel_child)
        self._child: ChildProcess | None = None
        self._stage = ""
        self._is_told_to_end = False

    def hand_back(self) -> None:
        """End the attempt soon, so that another worker makes a new one."""
        self._keeper.hand_back()

    async def run(self) -> Ended:
        """Run to the end; afterwards the child works on nothing, or is gone."""
        work = asyncio.create_task(self._work(), name="job-work")
        keeping = asyncio.create_task(self._keeper.run(), name="job-keeping")
        reporting = asyncio.create_task(self._reporter.run(), name="job-reporting")
        tasks = {work, keeping, reporting}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await self._reporter.finish(reporting)
                return work.result()
            # The reporter ends by itself only where the attempt is another's.
            ending = keeping.result() if keeping.done() else Ending.LOST
            return await self._end(ending, work)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if not work.done() or work.cancelled() or work.exception() is not None:
                await self._slot.kill("interrupted")
            self._slot.rest()

    async def _end(self, ending: Ending, work: asyncio.Task[Ended]) -> Ended:
        match ending:
            case Ending.LOST:
                _log.warning("a job is no longer this worker's", job=self._claim.job.key.name)
                await self._cancel_child()
                await asyncio.wait({work}, timeout=self._times.cancel_grace_s)
                return await self._killed(work, None, "lost")
            case Ending.CANCEL_OVERDUE:
                return await self._killed(work, AttemptCancelled(), "cancelled")
            case Ending.STALLED:
                message = f"no progress for {self._times.stall_timeout_s:g} s in {self._where()}"
                return await self._killed(work, _lost_worker(message), "stalled")
            case Ending.HANDED_BACK:
                return await self._killed(work, AttemptHandedBack(), "handed_back")

    async def _killed(
        self, work: asyncio.Task[Ended], outcome: AttemptOutcome | None, how: str
    ) -> Ended:
        """Kill the child unless it has just finished; what it finished with is thrown away."""
        if not work.done():
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await self._slot.kill(how)
        return Ended(outcome, how)

    async def _work(self) -> Ended:
        try:
            payload = await self._content.get(self._claim.job.key, self._claim.job.payload)
            self._keeper.child_spoke()
            self._child = await self._slot.get()
            self._child.forget_lines()
            await self._child.send(self._task(payload))
            del payload
            return await self._converse(self._child)
        except MaskwireError as error:
            return Ended(failed(error), "failed")

    async def _converse(self, child: ChildProcess) -> Ended:
        while True:
            frame = await child.receive()
            if frame is None:
                return await self._died(child)
            self._keeper.child_spoke()
            if frame.kind == frames.PROGRESS:
                self._note(frame)
            elif frame.kind != frames.READY:
                self._keeper.child_answered()
                return await self._answered(frame)

    async def _answered(self, frame: Frame) -> Ended:
        if frame.kind == frames.RESULT:
            return Ended(await self._store(frame.body), "succeeded")
        if frame.kind == frames.CANCELLED and self._is_told_to_end:
            return Ended(AttemptCancelled(), "cancelled")
        if frame.kind == frames.FAILURE:
            fields = frame.fields
            if fields["is_broken"]:
                await self._slot.kill("failed")
            failure = JobFailure(ErrorCode[fields["code"]], fields["message"])
            return Ended(AttemptFailed(failure, fields["is_retryable"]), "failed")
        _log.error("a child gave no answer that makes sense", kind=frame.kind)
        await self._slot.kill("failed")
        return Ended(_lost_worker("the worker answered what nobody asked"), "failed")

    async def _died(self, child: ChildProcess) -> Ended:
        how = await self._slot.reap()
        message = f"the worker process died ({how}) in {self._where()}"
        if child.last_lines:
            message += f"; it last said: {' | '.join(child.last_lines)}"
        if self._is_told_to_end:
            return Ended(AttemptCancelled(), "cancelled")
        return Ended(_lost_worker(message), "died")

    async def _store(self, result: bytes) -> ContentReference:
        """Store the result; hours of work are worth a few tries."""
        key = result_key(self._claim.job.attempt)
        pause_s = _STORE_PAUSE_S
        for _ in range(_STORE_TRIES - 1):
            try:
                return await self._content.put(self._claim.job.key, key, result)
            except MaskwireError as error:
                if error.code is not ErrorCode.STORAGE_UNAVAILABLE:
                    raise
            await asyncio.sleep(pause_s)
            pause_s *= 2
        return await self._content.put(self._claim.job.key, key, result)

    async def _cancel_child(self) -> None:
        self._is_told_to_end = True
        if self._child is not None:
            # A child that does not even read is killed in time.
            with suppress(TimeoutError):
                async with asyncio.timeout(self._times.cancel_grace_s):
                    await self._child.send(Frame(frames.CANCEL))

    async def _write(self, progress: Progress) -> None:
        await self._ledger.report(self._claim, progress.stage, progress.fraction, progress.log_line)

    def _note(self, frame: Frame) -> None:
        fields = frame.fields
        progress = Progress(fields["stage"], float(fields["fraction"]), fields["log_line"])
        if progress.stage != self._stage:
            self._traced.stage_begun(progress.stage)
        self._stage = progress.stage
        self._reporter.add(progress)

    def _task(self, payload: bytes) -> Frame:
        job = self._claim.job
        fields = {
            "tenant": job.key.tenant,
            "job_id": job.key.job_id,
            "attempt": job.attempt,
            "method": job.method,
            "request_id": job.request_id,
            "trace_context": self._traced.context,
        }
        return Frame(frames.TASK, fields, payload)

    def _where(self) -> str:
        return f"stage {self._stage}" if self._stage else "the beginning"


def _lost_worker(message: str) -> AttemptFailed:
    return AttemptFailed(JobFailure(ErrorCode.WORKER_LOST, message), is_retryable=True)
