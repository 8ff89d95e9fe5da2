"""The connection to the job database, on a thread of its own.

Several processes may have the file open. It is made by the first write; until then reading finds
nothing. A failure closes the connection, and the next call opens it anew: what was wrong with the
file, the disk or the other processes may be over by then.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import structlog

from ...domain.errors import ErrorCode, MaskwireError
from . import schema

_log = structlog.get_logger(__name__)

Value = TypeVar("Value")
Work = Callable[[sqlite3.Connection], Value]
"""What runs on the database's thread."""

_LOCKED_PAUSE_S = 0.01


class Database:
    """Runs work on the database's file; every method raises `JOBS_UNAVAILABLE` where that fails."""

    def __init__(self, path: Path, busy_timeout: timedelta) -> None:
        self._path = path
        self._busy_s = busy_timeout.total_seconds()
        # One thread, and one call at a time of each caller: the callers bound its queue.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="job-database")
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._opened = 0
        self._is_closed = False

    async def write(self, work: Work[Value]) -> Value:
        """Run work as one transaction, in a file that is made where there is none.

        A caller that is cancelled leaves the work to be done wholly or not at all.
        """
        return await self._run(lambda: self._written(work))

    async def read(self, work: Work[Value]) -> Value | None:
        """Run work that reads; return None where there is no file."""
        return await self._run(lambda: self._read(work))

    async def version(self) -> tuple[int, int]:
        """Return what differs after another process wrote, or after the file was made."""
        return await self._run(self._current_version)

    async def close(self) -> None:
        """Let go of the file, once what runs is done."""
        if self._is_closed:
            return
        self._is_closed = True
        done = asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown(wait=False)
        await asyncio.shield(done)

    async def _run(self, function: Callable[[], Value]) -> Value:
        if self._is_closed:
            raise _unavailable("the job database is closed")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._guarded, function)

    # From here on all runs on the thread.

    def _guarded(self, function: Callable[[], Value]) -> Value:
        try:
            return function()
        except schema.UnknownDatabaseError as error:
            self._disconnect()
            raise _unavailable(str(error)) from error
        except (sqlite3.Error, OSError) as error:
            self._disconnect()
            _log.error("the job database failed", database=str(self._path), error=str(error))
            raise _unavailable("the job database failed") from error

    def _written(self, work: Work[Value]) -> Value:
        connection = self._connected()
        if connection is None:
            self._make_file()
            connection = self._connected()
        if connection is None:
            raise FileNotFoundError(self._path)
        with _transaction(connection):
            return work(connection)

    def _read(self, work: Work[Value]) -> Value | None:
        connection = self._connected()
        return None if connection is None else work(connection)

    def _current_version(self) -> tuple[int, int]:
        connection = self._connected()
        if connection is None:
            return (0, 0)
        return (self._opened, int(connection.execute("PRAGMA data_version").fetchone()[0]))

    def _connected(self) -> sqlite3.Connection | None:
        """Return the connection to the file that is there now, or None where none is."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self._disconnect()
            return None
        # A file that was removed stays usable to those who have it open, and to nobody else.
        file = (found.st_dev, found.st_ino)
        if file != self._file:
            self._disconnect()
        if self._connection is None:
            self._connection = self._connect()
            self._file = file
            self._opened += 1
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=self._busy_s, isolation_level=None)
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")
            self._use_write_ahead_log(connection)
            if not schema.is_ready(connection):
                with _transaction(connection):
                    schema.prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _use_write_ahead_log(self, connection: sqlite3.Connection) -> None:
        # SQLite does not wait here for another process that does the same.
        patience = time.monotonic() + self._busy_s
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or time.monotonic() >= patience:
                    raise
                time.sleep(_LOCKED_PAUSE_S)

    def _make_file(self) -> None:
        """Make an empty file that only its owner reads."""
        folder = self._path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        entry = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(entry)
        finally:
            os.close(entry)

    def _disconnect(self) -> None:
        connection, self._connection, self._file = self._connection, None, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite ends some transactions itself when it fails.
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _unavailable(message: str) -> MaskwireError:
    return MaskwireError(ErrorCode.JOBS_UNAVAILABLE, message)
