"""The file of API keys: read again whenever it changes, changed by `maskwire keys`.

It may be a file of this machine or a mounted secret of a cluster. The server reads it only.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..domain.identity import Authenticator, Credentials, Identity, unauthenticated
from .api_keys import KEY_PREFIX, NOBODYS_KEY, ApiKeyRecord, split_key

_log = structlog.get_logger(__name__)

_Version = tuple[int, int, int]

_MAX_FILE_BYTES = 16 * 2**20
_NOT_VALID = "the API key is not valid"


class KeyFileError(Exception):
    """The file of keys is missing, unreadable or not one; the message says what is wrong."""


class _Contents(BaseModel):
    """The file's JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = Field(default=1, ge=1, le=1)
    keys: tuple[ApiKeyRecord, ...] = ()


def read_keys(path: Path) -> dict[str, ApiKeyRecord]:
    """Return the keys of a file by identifier, in the order in which they were made.

    Raises:
        KeyFileError: It cannot be read, or is no file of keys.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
        if len(data) > _MAX_FILE_BYTES:
            raise KeyFileError(f"{path} is larger than {_MAX_FILE_BYTES} bytes")
        contents = _Contents.model_validate_json(data)
    except OSError as error:
        raise KeyFileError(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors(include_input=False)
        )
        raise KeyFileError(f"{path} is no file of API keys: {problems}") from error
    keys = {key.key_id: key for key in contents.keys}
    if len(keys) != len(contents.keys):
        raise KeyFileError(f"{path} has two keys of one identifier")
    return keys


@contextmanager
def changed_keys(path: Path) -> Iterator[dict[str, ApiKeyRecord]]:
    """Give the keys of a file to change, and write them when the block ends without an error.

    One process at a time has them. A file that does not exist is made, for its owner alone; a
    reader sees the old file or the new one, never half of one.

    Raises:
        KeyFileError: As `read_keys`, or the file cannot be written.
    """
    path = path.resolve()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(path.name + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = read_keys(path) if path.exists() else {}
            yield keys
            _write(path, keys)
    except OSError as error:
        raise KeyFileError(f"cannot write {path}: {error.strerror}") from error


class KeyFile(Authenticator):
    """Recognises the API keys of a file, as it is now."""

    def __init__(
        self,
        path: Path,
        reload_interval: timedelta,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Read the file.

        Args:
            path: The file.
            reload_interval: How often is looked whether it changed, once `start` was called.
            now: Tells the time, in UTC.

        Raises:
            KeyFileError: It cannot be read, or is no file of keys.
        """
        self._path = path
        self._interval_s = reload_interval.total_seconds()
        self._now = now
        self._seen = _version_of(path)
        self._keys: Mapping[str, ApiKeyRecord] = read_keys(path)
        self._problem: tuple[_Version | None, str] | None = None
        self._watching: asyncio.Task[None] | None = None

    def authenticate(self, credentials: Credentials) -> Identity | None:
        """Return whose key it is; as the interface says."""
        if not credentials.secret.startswith(KEY_PREFIX):
            return None
        parts = split_key(credentials.secret)
        if parts is None:
            raise unauthenticated(_NOT_VALID)
        key_id, secret = parts
        record = self._keys.get(key_id, NOBODYS_KEY)
        if not record.matches(secret):
            raise unauthenticated(_NOT_VALID)
        status = record.status(self._now())
        if status != "valid":
            raise unauthenticated(f"the API key is {status}")
        return record.identity

    def start(self) -> None:
        """Begin to watch the file."""
        self._watching = asyncio.create_task(self._watch(), name="key-file")

    async def stop(self) -> None:
        """Watch it no more."""
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await asyncio.to_thread(self.reload)

    def reload(self) -> None:
        """Read the file again if it changed; one that cannot be read changes nothing."""
        version = None
        try:
            version = _version_of(self._path)
            if version == self._seen:
                return
            self._keys = read_keys(self._path)
        except KeyFileError as error:
            # Callers must not lose access by a file in the middle of being replaced; the next look
            # tries again. Told once of each state of the file.
            problem = (version, str(error))
            if problem != self._problem:
                self._problem = problem
                _log.error("the API keys were not read again", problem=str(error))
            return
        self._seen, self._problem = version, None
        _log.info("API keys read", file=str(self._path), keys=len(self._keys))


def _version_of(path: Path) -> _Version:
    """Return what changes whenever the file does; a secret's mount swaps a link to it."""
    try:
        found = path.stat()
    except OSError as error:
        raise KeyFileError(f"cannot read {path}: {error.strerror}") from error
    return found.st_ino, found.st_mtime_ns, found.st_size


def _write(path: Path, keys: Mapping[str, ApiKeyRecord]) -> None:
    text = _Contents(keys=tuple(keys.values())).model_dump_json(indent=2, exclude_none=True)
    # Made readable by its owner alone, which replacing keeps.
    descriptor, temporary = tempfile.mkstemp(prefix=path.name, dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise
