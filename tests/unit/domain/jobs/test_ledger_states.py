"""The ledger in any order of calls: a state machine that hypothesis drives, with a clock to turn.

Workers come, freeze, wake up and go on with what is no longer theirs; jobs are cancelled at any
moment. Whatever happens, each job has one end and one result, and its events have no gaps.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from maskwire_server.domain.errors import ErrorCode
from maskwire_server.domain.jobs.calls import AttemptCancelled, AttemptFailed
from maskwire_server.domain.jobs.job import ContentReference, Job, JobFailure, JobKey, JobState
from maskwire_server.domain.jobs.ledger import Claim, JobLedger, LeaseLost, Standing
from maskwire_server.jobs.sqlite import SqliteJobBackend
from tests.support.job_backends import LEASE, NOW, RULES, new_job, new_result
from tests.support.stores import Clock

QUEUE = "segmentation"
OUTCOMES: list[Any] = [
    new_result(),
    AttemptFailed(JobFailure(ErrorCode.WORKER_LOST, "died"), is_retryable=True),
    AttemptFailed(JobFailure(ErrorCode.INVALID_ARGUMENT, "bad"), is_retryable=False),
    AttemptCancelled(),
]


@dataclass
class Expected:
    """What a job must look like."""

    state: JobState = JobState.QUEUED
    attempt: int = 0
    is_cancel_requested: bool = False
    result: ContentReference | None = None

    def is_current(self, claim: Claim) -> bool:
        return self.state is JobState.RUNNING and self.attempt == claim.job.attempt


@dataclass
class World:
    """A ledger over a database of its own, on a loop of its own."""

    folder: tempfile.TemporaryDirectory[str] = field(default_factory=tempfile.TemporaryDirectory)
    runner: asyncio.Runner = field(default_factory=asyncio.Runner)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        file = Path(self.folder.name) / "jobs.sqlite"
        self.backend = SqliteJobBackend(file, LEASE, self.clock)
        self.ledger = JobLedger(self.backend, RULES, self.clock)
        self.run(self.backend.open())

    def run(self, awaitable) -> Any:
        return self.runner.run(awaitable)

    def close(self) -> None:
        self.run(self.backend.close())
        self.runner.close()
        self.folder.cleanup()


class LedgerStates(RuleBasedStateMachine):
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.ledger = self.world.ledger
        self.run = self.world.run
        self.expected: dict[JobKey, Expected] = {}
        self.jobs: list[Job] = []

    @initialize()
    def begin(self) -> None:
        self.submit()

    @rule()
    def submit(self) -> None:
        job = new_job()
        assert self.run(self.ledger.submit(job)).state is JobState.QUEUED
        self.jobs.append(job)
        self.expected[job.key] = Expected()

    @rule(index=st.integers(0, 5))
    def submit_again(self, index: int) -> None:
        for job in self.jobs[index : index + 1]:
            assert self.run(self.ledger.submit(job)).state is self.expected[job.key].state

    @rule(target=claims, leases=st.sampled_from([0.0, 0.3, 1.1]))
    def claim(self, leases: float = 0.0) -> Any:
        """Claim the next job; after longer than a lease, often one that another worker has."""
        self.world.clock.forward(leases * LEASE)
        before = {key: one.attempt for key, one in self.expected.items()}
        claim = self.run(self.ledger.claim([QUEUE], NOW))
        if claim is None:
            self.accept_what_a_claim_ended()
            return multiple()
        expected = self.expected[claim.job.key]
        assert expected.state in (JobState.QUEUED, JobState.RUNNING)
        assert not expected.is_cancel_requested
        assert claim.job.attempt == before[claim.job.key] + 1 <= RULES.max_attempts
        expected.state, expected.attempt = JobState.RUNNING, claim.job.attempt
        return claim

    def accept_what_a_claim_ended(self) -> None:
        """Accept that a claim cancelled what was to be, or failed what was tried too often."""
        for key, expected in self.expected.items():
            job = self.run(self.ledger.get(key))
            if job.state is expected.state:
                continue
            assert expected.state is JobState.RUNNING
            if expected.is_cancel_requested:
                assert job.state is JobState.CANCELLED
            else:
                assert (job.state, expected.attempt) == (JobState.FAILED, RULES.max_attempts)
                assert job.failure.code is ErrorCode.WORKER_LOST
            expected.state = job.state

    @rule(claim=claims)
    def extend(self, claim: Claim) -> None:
        standing = self.run(self.ledger.extend(claim))
        expected = self.expected[claim.job.key]
        if not expected.is_current(claim):
            assert standing is Standing.LOST
        elif expected.is_cancel_requested:
            assert standing is Standing.CANCEL_REQUESTED
        else:
            assert standing is Standing.HELD

    @rule(claim=claims, fraction=st.floats(0, 1))
    def report(self, claim: Claim, fraction: float) -> None:
        reporting = self.ledger.report(claim, "stage", fraction)
        if self.expected[claim.job.key].is_current(claim):
            self.run(reporting)
        else:
            with pytest.raises(LeaseLost):
                self.run(reporting)

    @rule(claim=claims, outcome=st.sampled_from(OUTCOMES))
    def commit(self, claim: Claim, outcome: Any) -> None:
        expected = self.expected[claim.job.key]
        if not expected.is_current(claim):
            with pytest.raises(LeaseLost):
                self.run(self.ledger.commit(claim, outcome))
            return
        if expected.is_cancel_requested or isinstance(outcome, AttemptCancelled):
            expected.state, expected.is_cancel_requested = JobState.CANCELLED, True
        elif isinstance(outcome, ContentReference):
            expected.state, expected.result = JobState.SUCCEEDED, outcome
        elif outcome.is_retryable and expected.attempt < RULES.max_attempts:
            expected.state = JobState.QUEUED
        else:
            expected.state = JobState.FAILED
        assert self.run(self.ledger.commit(claim, outcome)).state is expected.state

    @rule(index=st.integers(0, 5))
    def cancel(self, index: int) -> None:
        for job in self.jobs[index : index + 1]:
            expected = self.expected[job.key]
            if not expected.state.is_done:
                expected.is_cancel_requested = True
            if expected.state is JobState.QUEUED:
                expected.state = JobState.CANCELLED
            assert self.run(self.ledger.cancel(job.key)).state is expected.state

    @invariant()
    def every_job_is_as_expected(self) -> None:
        for key, expected in self.expected.items():
            job = self.run(self.ledger.get(key))
            found = (job.state, job.attempt, job.is_cancel_requested, job.result)
            assert found == tuple(vars(expected).values())

    def teardown(self) -> None:
        try:
            self.finish_all()
            self.every_job_is_as_expected()
            for key, expected in self.expected.items():
                self.check_events(key, expected.state)
        finally:
            self.world.close()

    def finish_all(self) -> None:
        """Let a worker that never fails finish what is left; nothing may be lost."""
        for _ in range((len(self.jobs) + 1) * (RULES.max_attempts + 1)):
            self.world.clock.forward(timedelta(seconds=10))
            claim = self.claim()
            if isinstance(claim, Claim):
                self.commit(claim, new_result())
        assert all(expected.state.is_done for expected in self.expected.values())
        assert self.run(self.world.backend.depths()) == {}

    def check_events(self, key: JobKey, state: JobState) -> None:
        async def watch() -> list[Any]:
            return [event async for event in self.ledger.watch(key, 0)]

        events = self.run(watch())
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert [event.state for event in events if event.state.is_done] == [state]
        attempts = [event.attempt for event in events]
        assert attempts == sorted(attempts)


class ManyLedgerStates(LedgerStates):
    """The same, for longer."""


_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large]

TestLedgerStates = LedgerStates.TestCase
TestLedgerStates.settings = settings(
    max_examples=10, stateful_step_count=25, deadline=None, suppress_health_check=_CHECKS
)

TestManyLedgerStates = pytest.mark.robustness(ManyLedgerStates.TestCase)
TestManyLedgerStates.settings = settings(
    max_examples=300, stateful_step_count=50, deadline=None, suppress_health_check=_CHECKS
)
