"""The tables of the job database, and who may open it.

Times are whole microseconds since 1970, in UTC. A queue's entry is free from `free_at` on: a
delivery moves that to the end of its lease, so that a lease that passed needs nobody to notice it.
"""

from __future__ import annotations

import sqlite3

APPLICATION_ID = 0x4D534B57
"""Marks the file as ours: "MSKW"."""
VERSION = 1
"""Version of the tables; raised, with a migration, when they change."""

UNFINISHED = "state IN ('queued', 'running')"
"""What is true of the rows of jobs that wait or run; in these words, or their index is not used."""

_TABLES = """
CREATE TABLE jobs (
    ordinal INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    job_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    state TEXT NOT NULL,
    method TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    record TEXT NOT NULL,
    UNIQUE (tenant, job_id)
);
CREATE INDEX jobs_by_age ON jobs (tenant, created_at, job_id);
CREATE INDEX jobs_by_expiry ON jobs (expires_at, ordinal) WHERE expires_at IS NOT NULL;
CREATE TABLE events (
    job INTEGER NOT NULL REFERENCES jobs (ordinal) ON DELETE CASCADE,
    sequence INTEGER NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (job, sequence)
) WITHOUT ROWID;
CREATE TABLE queue_entries (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    job INTEGER NOT NULL REFERENCES jobs (ordinal) ON DELETE CASCADE,
    free_at INTEGER NOT NULL,
    token TEXT,
    UNIQUE (queue, job)
);
CREATE INDEX queue_entries_by_time ON queue_entries (queue, free_at, token);
CREATE INDEX queue_entries_by_job ON queue_entries (job);
"""


_LATER = f"""
CREATE INDEX IF NOT EXISTS jobs_unfinished ON jobs (tenant) WHERE {UNFINISHED}
"""
"""What a database may lack that an earlier release made: programs of that release go on with it."""


class UnknownDatabaseError(Exception):
    """The file is a database of something else, or of a newer version; the message says which."""


def is_ready(connection: sqlite3.Connection) -> bool:
    """Return whether the tables are there, without waiting for anybody who writes."""
    has_later = "SELECT count(*) FROM sqlite_master WHERE name = 'jobs_unfinished'"
    return _is_ours(connection) and _number(connection, has_later) == 1


def prepare(connection: sqlite3.Connection) -> None:
    """Make the tables where there are none, in the transaction that is open.

    Raises:
        UnknownDatabaseError: The tables are not ones that this version can use.
    """
    if _is_ours(connection):
        connection.execute(_LATER)
        return
    application = _number(connection, "PRAGMA application_id")
    version = _number(connection, "PRAGMA user_version")
    if application == APPLICATION_ID:
        raise UnknownDatabaseError(
            f"the job database has version {version}, this program knows {VERSION}"
        )
    if application or version or _number(connection, "SELECT count(*) FROM sqlite_master"):
        raise UnknownDatabaseError("the file of the job database is a database of something else")
    # Not executescript: it would end the transaction first.
    for statement in _TABLES.split(";"):
        connection.execute(statement)
    connection.execute(_LATER)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _is_ours(connection: sqlite3.Connection) -> bool:
    """Return whether the tables are those of this version."""
    return (
        _number(connection, "PRAGMA application_id") == APPLICATION_ID
        and _number(connection, "PRAGMA user_version") == VERSION
    )


def _number(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])
