"""Reading and writing the rows of jobs and events; all of it on the database's thread."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

from ...domain.jobs.job import Job, JobEvent, JobFilter, JobKey
from ..page_tokens import Place, microseconds
from ..records import event_from_json, event_to_json, job_from_json, job_to_json
from .schema import UNFINISHED

MAX_EVENTS = 256
"""Events that are read at a time."""
MAX_EXPIRED = 100
"""Expired jobs that are read at a time."""

ExpiryPlace = tuple[int, int]
"""Where a job is in the order of expiry: when it expires, and its row."""
BEFORE_ALL: ExpiryPlace = (-1, -1)
"""The place before every job's."""


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events of a job in order, and the row of the job; that is None where there is no job."""

    events: tuple[JobEvent, ...]
    ordinal: int | None

    @property
    def is_full(self) -> bool:
        """Whether there may be more."""
        return len(self.events) == MAX_EVENTS


def load(connection: sqlite3.Connection, key: JobKey) -> Job | None:
    """Return a job."""
    row = connection.execute(
        "SELECT record FROM jobs WHERE tenant = ? AND job_id = ?", (key.tenant, key.job_id)
    ).fetchone()
    return None if row is None else _job(row[0])


def insert(connection: sqlite3.Connection, job: Job, event: JobEvent) -> None:
    """Write a new job and its first event."""
    cursor = connection.execute(
        "INSERT INTO jobs (tenant, job_id, version, state, method, created_at, expires_at, record)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            job.key.tenant,
            job.key.job_id,
            job.last_event_sequence,
            job.state.value,
            job.method,
            microseconds(job.create_time),
            _expires_at(job),
            json.dumps(job_to_json(job)),
        ),
    )
    _insert_event(connection, cursor.lastrowid, event)


def update(connection: sqlite3.Connection, job: Job, event: JobEvent) -> bool:
    """Write the next record and its event, if the job is at the version before."""
    row = connection.execute(
        "UPDATE jobs SET version = ?, state = ?, expires_at = ?, record = ?"
        " WHERE tenant = ? AND job_id = ? AND version = ? AND created_at = ? RETURNING ordinal",
        (
            event.sequence,
            job.state.value,
            _expires_at(job),
            json.dumps(job_to_json(job)),
            job.key.tenant,
            job.key.job_id,
            event.sequence - 1,
            # The same key may be another job's by now, if this one expired.
            microseconds(job.create_time),
        ),
    ).fetchone()
    if row is None:
        return False
    _insert_event(connection, row[0], event)
    return True


def delete(connection: sqlite3.Connection, key: JobKey) -> None:
    """Remove a job with its events and its places in queues."""
    connection.execute("DELETE FROM jobs WHERE tenant = ? AND job_id = ?", (key.tenant, key.job_id))


def read_events(
    connection: sqlite3.Connection, key: JobKey, ordinal: int | None, after_sequence: int
) -> EventPage:
    """Return the next events of a job.

    Args:
        connection: The database.
        key: Which job.
        ordinal: Its row, where that is known: a later job of the same key is another one.
        after_sequence: The last event that was read.
    """
    found = connection.execute(
        "SELECT ordinal FROM jobs WHERE tenant = ? AND job_id = ?", (key.tenant, key.job_id)
    ).fetchone()
    if found is None or ordinal not in (None, found[0]):
        return EventPage((), None)
    rows = connection.execute(
        "SELECT record FROM events WHERE job = ? AND sequence > ? ORDER BY sequence LIMIT ?",
        (found[0], after_sequence, MAX_EVENTS),
    )
    return EventPage(tuple(event_from_json(json.loads(text)) for (text,) in rows), found[0])


def list_jobs(
    connection: sqlite3.Connection, tenant: str, wanted: JobFilter, before: Place | None, limit: int
) -> tuple[Job, ...]:
    """Return a tenant's jobs that are before a place, newest first."""
    conditions = ["tenant = ?"]
    bound: list[str | int] = [tenant]
    if before is not None:
        conditions.append("(created_at, job_id) < (?, ?)")
        bound += before
    if wanted.states:
        conditions.append(f"state IN ({', '.join('?' * len(wanted.states))})")
        bound += [state.value for state in wanted.states]
    if wanted.method:
        conditions.append("method = ?")
        bound.append(wanted.method)
    rows = connection.execute(
        f"SELECT record FROM jobs WHERE {' AND '.join(conditions)}"
        " ORDER BY created_at DESC, job_id DESC LIMIT ?",
        (*bound, limit),
    )
    return tuple(_job(text) for (text,) in rows)


def has_unfinished(connection: sqlite3.Connection, tenant: str, count: int) -> bool:
    """Return whether at least so many jobs of a tenant wait or run."""
    row = connection.execute(
        "SELECT 1 FROM jobs INDEXED BY jobs_unfinished"
        f" WHERE tenant = ? AND {UNFINISHED} LIMIT 1 OFFSET ?",
        (tenant, count - 1),
    ).fetchone()
    return row is not None


def expired(
    connection: sqlite3.Connection, now: int, after: ExpiryPlace
) -> tuple[tuple[ExpiryPlace, Job], ...]:
    """Return jobs that expired, in the order of expiry, after a place."""
    rows = connection.execute(
        "SELECT expires_at, ordinal, record FROM jobs"
        " WHERE expires_at <= ? AND (expires_at, ordinal) > (?, ?)"
        " ORDER BY expires_at, ordinal LIMIT ?",
        (now, *after, MAX_EXPIRED),
    )
    return tuple(((at, ordinal), _job(text)) for at, ordinal, text in rows)


def _insert_event(connection: sqlite3.Connection, ordinal: int | None, event: JobEvent) -> None:
    connection.execute(
        "INSERT INTO events (job, sequence, record) VALUES (?, ?, ?)",
        (ordinal, event.sequence, json.dumps(event_to_json(event))),
    )


def _expires_at(job: Job) -> int | None:
    return None if job.expire_time is None else microseconds(job.expire_time)


def _job(text: str) -> Job:
    return job_from_json(json.loads(text))
