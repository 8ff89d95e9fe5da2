"""How a job changes."""

from __future__ import annotations

from datetime import timedelta

import pytest

from maskwire_server.domain.errors import ErrorCode
from maskwire_server.domain.jobs import machine
from maskwire_server.domain.jobs.job import JobFailure, JobState, WebhookDelivery
from tests.support.job_backends import new_job, new_result

DAY = timedelta(days=1)
FAILURE = JobFailure(ErrorCode.WORKER_LOST, "it fell over")
SECOND = timedelta(seconds=1)


@pytest.fixture
def submitted():
    return machine.submitted(new_job(webhook=WebhookDelivery("https://example.com")))


@pytest.fixture
def running(submitted):
    return machine.claimed(submitted.job, submitted.job.create_time + 2 * SECOND)


def test_the_first_event_is_that_it_waits(submitted):
    job, event = submitted.job, submitted.event
    assert (job.last_event_sequence, event.sequence, event.attempt) == (1, 1, 0)
    assert (event.state, event.time, event.elapsed_s) == (JobState.QUEUED, job.create_time, 0)


def test_every_change_is_the_next_version_and_tells_of_it(running):
    now = running.job.create_time + 10 * SECOND
    for change in (
        machine.progressed(running.job, now, "decode", 0.5, "line"),
        machine.requeued(running.job, now, FAILURE),
        machine.succeeded(running.job, now, new_result(), DAY),
        machine.failed(running.job, now, FAILURE, DAY),
        machine.cancelled(running.job, now, DAY),
        machine.cancel_requested(running.job, now),
    ):
        assert change.job.last_event_sequence == change.event.sequence == 3
        assert change.event.state is change.job.state
        assert change.event.attempt == change.job.attempt == 1
        assert (change.event.stage, change.event.fraction) == (
            change.job.stage,
            change.job.fraction,
        )
        assert (change.event.time, change.event.elapsed_s) == (now, 8)


def test_an_attempt_begins_anew(running):
    further = machine.progressed(running.job, running.event.time + SECOND, "decode", 0.5, "")
    waiting = machine.requeued(further.job, running.event.time + 2 * SECOND, FAILURE)
    assert (waiting.job.state, waiting.job.stage, waiting.job.fraction) == (JobState.QUEUED, "", 0)
    again = machine.claimed(waiting.job, running.event.time + 3 * SECOND)
    assert (again.job.attempt, again.job.state) == (2, JobState.RUNNING)
    # It is the job's beginning that time is counted from.
    assert again.job.start_time == running.job.start_time
    assert again.event.elapsed_s == 3


@pytest.mark.parametrize(("told", "kept"), [(-1, 0), (0.25, 0.25), (7, 1)])
def test_progress_is_a_fraction(running, told, kept):
    assert machine.progressed(running.job, running.event.time, "", told, "").job.fraction == kept


def test_the_end_is_kept_for_so_long_and_to_be_reported(running):
    now = running.event.time + SECOND
    for change in (
        machine.succeeded(running.job, now, new_result(), DAY),
        machine.failed(running.job, now, FAILURE, DAY),
        machine.cancelled(running.job, now, DAY),
    ):
        assert change.job.state.is_done
        assert (change.job.end_time, change.job.expire_time) == (now, now + DAY)
        assert change.job.webhook is not None
        assert change.job.webhook.next_attempt_time == now


def test_a_clock_that_is_set_back_makes_no_negative_times(running):
    early = machine.progressed(running.job, running.job.create_time - SECOND, "", 0.1, "")
    assert early.event.elapsed_s == 0


def test_a_report_changes_nothing_but_how_it_stands(running):
    done = machine.succeeded(running.job, running.event.time, new_result(), DAY).job
    tried = WebhookDelivery("https://example.com", attempts=1, last_http_status=500)
    change = machine.webhook_tried(done, running.event.time, tried, "status 500")
    assert (change.job.state, change.job.result) == (JobState.SUCCEEDED, new_result())
    assert (change.job.webhook, change.event.log_line) == (tried, "status 500")
