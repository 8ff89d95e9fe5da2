"""Progress is written at once where it is new, at intervals where it is only more."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.jobs.ledger import LeaseLost
from maskwire_server.jobs.worker.progress import Progress
from maskwire_server.jobs.worker.reporting import ProgressReporter

NEVER_S = 3600.0


class Written:
    """Takes what is written; can be slow or fail."""

    def __init__(self) -> None:
        self.all: list[Progress] = []
        self.failures: list[Exception] = []
        self.changed = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, progress: Progress) -> None:
        await self.open.wait()
        if self.failures:
            raise self.failures.pop()
        self.all.append(progress)
        self.changed.set()

    async def until(self, count: int) -> list[Progress]:
        async with asyncio.timeout(10):
            while len(self.all) < count:
                self.changed.clear()
                await self.changed.wait()
        return self.all


@contextlib.asynccontextmanager
async def reporting(written: Written, interval_s: float = NEVER_S):
    reporter = ProgressReporter(written, interval_s)
    task = asyncio.create_task(reporter.run())
    yield reporter
    await reporter.finish(task)


async def test_new_stages_and_lines_are_written_at_once():
    written = Written()
    reports = [Progress("a", 0.1), Progress("b", 0.2), Progress("b", 0.3, "line")]
    async with reporting(written) as reporter:
        for number, one in enumerate(reports, 1):
            reporter.add(one)
            await written.until(number)
    assert written.all == reports


async def test_more_of_a_stage_waits_for_the_interval_and_the_latest_is_written():
    written = Written()
    async with reporting(written) as reporter:
        reporter.add(Progress("a", 0.1))
        await written.until(1)
        for tenth in range(2, 9):
            reporter.add(Progress("a", tenth / 10))
            await asyncio.sleep(0)
        assert len(written.all) == 1
    assert written.all == [Progress("a", 0.1), Progress("a", 0.8)]


async def test_more_of_a_stage_is_written_after_the_interval():
    written = Written()
    async with reporting(written, 0.01) as reporter:
        reporter.add(Progress("a", 0.1))
        await written.until(1)
        reporter.add(Progress("a", 0.2))
        assert (await written.until(2))[1] == Progress("a", 0.2)


async def test_a_slow_backend_gets_the_latest():
    written = Written()
    async with reporting(written) as reporter:
        written.open.clear()
        for number in range(10_000):
            reporter.add(Progress("a", number / 10_000))
            if number % 1000 == 0:
                await asyncio.sleep(0)
        written.open.set()
    assert len(written.all) <= 2
    assert written.all[-1] == Progress("a", 0.9999)


async def test_a_backend_that_fails_is_tried_again():
    written = Written()
    written.failures = [MaskwireError(ErrorCode.JOBS_UNAVAILABLE, "gone")] * 2
    async with reporting(written, 0.01) as reporter:
        reporter.add(Progress("a", 0.1, "line"))
        assert await written.until(1) == [Progress("a", 0.1, "line")]


async def test_a_lost_lease_ends_it():
    written = Written()
    written.failures = [LeaseLost()]
    reporter = ProgressReporter(written, 0.01)
    reporter.add(Progress("a", 0.1))
    with pytest.raises(LeaseLost):
        async with asyncio.timeout(10):
            await reporter.run()
