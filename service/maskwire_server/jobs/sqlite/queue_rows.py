"""Reading and writing the entries of queues; all of it on the database's thread.

An entry waits if nobody has it, or if the lease of whoever had it passed.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

from ...domain.jobs.backend import Delivery
from ...domain.jobs.job import JobKey

_WAITS = "(token IS NULL OR free_at <= :now)"


@dataclass(frozen=True, slots=True)
class Lease:
    """The backend's handle of a delivery: the entry, and what it must have to be the caller's."""

    position: int
    token: str


def put(connection: sqlite3.Connection, queue: str, key: JobKey) -> None:
    """Put a job into a queue if it is not there; one that does not exist is left out."""
    # Free since ever, rather than from now on: a clock that is set back must not hide it.
    connection.execute(
        "INSERT INTO queue_entries (queue, job, free_at)"
        " SELECT ?, ordinal, 0 FROM jobs WHERE tenant = ? AND job_id = ?"
        " ON CONFLICT (queue, job) DO NOTHING",
        (queue, key.tenant, key.job_id),
    )


def next_free(connection: sqlite3.Connection, queues: Collection[str]) -> int | None:
    """Return when the next entry of any of the queues is free; None where there is no entry."""
    firsts = [
        connection.execute(
            "SELECT min(free_at) FROM queue_entries WHERE queue = ?", (queue,)
        ).fetchone()[0]
        for queue in queues
    ]
    return min((first for first in firsts if first is not None), default=None)


def take(
    connection: sqlite3.Connection, queues: Collection[str], now: int, lease_end: int
) -> Delivery | None:
    """Hand out the first free entry of any of the queues."""
    row = connection.execute(
        "SELECT position, queue, tenant, job_id FROM queue_entries JOIN jobs ON job = ordinal"
        f" WHERE queue IN ({', '.join('?' * len(queues))}) AND free_at <= ?"
        " ORDER BY position LIMIT 1",
        (*queues, now),
    ).fetchone()
    if row is None:
        return None
    position, queue, tenant, job_id = row
    token = secrets.token_hex(8)
    connection.execute(
        "UPDATE queue_entries SET free_at = ?, token = ? WHERE position = ?",
        (lease_end, token, position),
    )
    return Delivery(queue, JobKey(tenant, job_id), Lease(position, token))


def extend(connection: sqlite3.Connection, lease: Lease, lease_end: int) -> bool:
    """Begin a lease anew, if it is the entry's latest."""
    cursor = connection.execute(
        "UPDATE queue_entries SET free_at = ? WHERE position = ? AND token = ?",
        (lease_end, lease.position, lease.token),
    )
    return cursor.rowcount == 1


def settle(connection: sqlite3.Connection, lease: Lease) -> None:
    """Remove an entry, if the lease is its latest."""
    connection.execute(
        "DELETE FROM queue_entries WHERE position = ? AND token = ?", (lease.position, lease.token)
    )


def release(connection: sqlite3.Connection, lease: Lease, free_at: int) -> None:
    """Give an entry back, if the lease is its latest."""
    connection.execute(
        "UPDATE queue_entries SET free_at = ?, token = NULL WHERE position = ? AND token = ?",
        (free_at, lease.position, lease.token),
    )


def waiting_before(connection: sqlite3.Connection, queue: str, key: JobKey, now: int) -> int:
    """Return how many entries wait before a job's; 0 where it is not in the queue."""
    row = connection.execute(
        f"SELECT count(*) FROM queue_entries WHERE queue = :queue AND {_WAITS} AND position <"
        " (SELECT position FROM queue_entries JOIN jobs ON job = ordinal"
        "  WHERE queue = :queue AND tenant = :tenant AND job_id = :job_id)",
        {"queue": queue, "tenant": key.tenant, "job_id": key.job_id, "now": now},
    ).fetchone()
    return int(row[0])


def waiting(connection: sqlite3.Connection, queue: str, now: int) -> int:
    """Return how many entries of a queue wait."""
    row = connection.execute(
        f"SELECT count(*) FROM queue_entries WHERE queue = :queue AND {_WAITS}",
        {"queue": queue, "now": now},
    ).fetchone()
    return int(row[0])


def depths(connection: sqlite3.Connection, now: int) -> dict[str, int]:
    """Return how many entries wait in each queue."""
    rows = connection.execute(
        f"SELECT queue, count(*) FROM queue_entries WHERE {_WAITS} GROUP BY queue", {"now": now}
    )
    return dict(rows.fetchall())
