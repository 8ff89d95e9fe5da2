"""Records of jobs: nothing is lost in writing, and older and newer ones are read."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwire_server.domain.errors import ErrorCode
from maskwire_server.domain.jobs.job import (
    ContentReference,
    Job,
    JobEvent,
    JobFailure,
    JobKey,
    JobState,
    WebhookDelivery,
    WebhookState,
)
from maskwire_server.jobs.records import (
    event_from_json,
    event_to_json,
    job_from_json,
    job_to_json,
)
from tests.support.job_backends import new_job

times = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC))
counts = st.integers(0, 2**53)
fractions = st.floats(0, 1)
references = st.builds(ContentReference, st.text(), counts, st.text())
webhooks = st.builds(
    WebhookDelivery,
    st.text(),
    st.sampled_from(WebhookState),
    counts,
    counts,
    st.none() | times,
)
jobs = st.builds(
    Job,
    key=st.builds(JobKey, st.text(), st.text()),
    method=st.text(),
    queue=st.text(),
    request_id=st.text(),
    request_digest=st.text(),
    payload=references,
    state=st.sampled_from(JobState),
    create_time=times,
    start_time=st.none() | times,
    end_time=st.none() | times,
    expire_time=st.none() | times,
    attempt=counts,
    stage=st.text(),
    fraction=fractions,
    last_event_sequence=counts,
    failure=st.none() | st.builds(JobFailure, st.sampled_from(ErrorCode), st.text()),
    is_cancel_requested=st.booleans(),
    result=st.none() | references,
    webhook=st.none() | webhooks,
    trace_context=st.text(),
)
events = st.builds(
    JobEvent,
    sequence=counts,
    attempt=counts,
    time=times,
    state=st.sampled_from(JobState),
    queue_position=counts,
    stage=st.text(),
    fraction=fractions,
    log_line=st.text(),
    elapsed_s=st.floats(0, 1e9),
)


def through_text(record):
    return json.loads(json.dumps(record))


@given(jobs)
def test_a_job_is_read_as_it_was_written(job):
    assert job_from_json(through_text(job_to_json(job))) == job


@given(events)
def test_an_event_is_read_as_it_was_written(event):
    assert event_from_json(through_text(event_to_json(event))) == event


def test_a_field_that_is_not_there_has_its_default():
    job = new_job()
    optional = [field.name for field in fields(Job) if field.name in job_to_json(job)][7:]
    assert optional[0] == "start_time"
    record = {name: value for name, value in job_to_json(job).items() if name not in optional}
    assert job_from_json(record) == job
    event = JobEvent(3, 1, job.create_time, JobState.RUNNING)
    first = ("sequence", "attempt", "time", "state")
    assert event_from_json({name: event_to_json(event)[name] for name in first}) == event


def test_a_field_of_a_newer_version_is_left_out():
    job = new_job()
    assert job_from_json(job_to_json(job) | {"priority": 7}) == job


def test_a_code_of_a_newer_version_is_an_internal_failure():
    record = job_to_json(new_job()) | {"failure": {"code": "TOO_BEAUTIFUL", "message": "why"}}
    assert job_from_json(record).failure == JobFailure(ErrorCode.INTERNAL, "why")


def test_times_are_written_in_utc():
    there = timezone(timedelta(hours=5, minutes=30))
    job = new_job(create_time=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=there))
    record = job_to_json(job)
    assert record["create_time"] == "2026-01-01T21:34:05.000006+00:00"
    assert job_from_json(record).create_time == job.create_time


def test_a_state_that_never_was_is_refused():
    with pytest.raises(ValueError, match="melted"):
        job_from_json(job_to_json(new_job()) | {"state": "melted"})
