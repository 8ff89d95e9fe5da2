"""Objects by key in whatever store the settings name: a folder, memory, S3, GCS or Azure.

A thin layer over obstore that opens the store when it is first used, knows what a store cannot do,
and turns its failures into one domain error. What the objects mean is said in `layout.py`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
import structlog
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, S3Store, from_url

from ..domain.errors import ErrorCode, MaskwireError

if TYPE_CHECKING:  # names that obstore has for type checkers only
    from obstore.store import ObjectStore

_log = structlog.get_logger(__name__)

_LIST_CHUNK = 1000


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """Where objects are kept.

    Attributes:
        url: `s3://bucket/prefix`, `gs://`, `az://`, `memory://` or `file:///`; None means `folder`.
        folder: The local folder, made when the first object is stored.
        options: What an S3 store needs beside its URL, e.g. `endpoint` and `region`; may be secret.
        allow_http: Whether to speak to the endpoint without TLS.
    """

    url: str | None
    folder: Path
    options: Mapping[str, str]
    allow_http: bool = False


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object in a listing: its key, size in bytes, and when it was written (UTC)."""

    key: str
    size_bytes: int
    modified: datetime


class Objects:
    """The objects of one store. Keys are paths without a leading slash.

    Every method raises `MaskwireError` with `STORAGE_UNAVAILABLE` when the store fails.
    """

    def __init__(self, location: StoreLocation) -> None:
        self._location = location

    @property
    def can_sign(self) -> bool:
        """Whether the store has presigned URLs."""
        return isinstance(self._store, S3Store | GCSStore | AzureStore)

    async def put_new(
        self, key: str, data: bytes, attributes: Mapping[str, str] | None = None
    ) -> bool:
        """Write an object where none is; return whether it was written.

        Args:
            key: Where to.
            data: Its bytes.
            attributes: HTTP headers to be served with it, where the store has such a thing.
        """
        with self._failures("put"):
            try:
                await obstore.put_async(
                    self._store,
                    key,
                    data,
                    mode="create",
                    use_multipart=False,
                    attributes=self._attributes(attributes),
                )
            except AlreadyExistsError:
                return False
        return True

    async def put_stream(
        self, key: str, chunks: AsyncIterable[bytes], attributes: Mapping[str, str] | None = None
    ) -> None:
        """Write an object of any size in parts; it appears when all of them are there.

        What `chunks` raises ends the writing and leaves here as it is.
        """
        failures: list[Exception] = []

        async def watched() -> AsyncIterator[bytes]:
            try:
                async for chunk in chunks:
                    yield chunk
            except Exception as error:
                failures.append(error)
                raise

        with self._failures("put"):
            try:
                await obstore.put_async(
                    self._store,
                    key,
                    watched(),
                    max_concurrency=2,
                    attributes=self._attributes(attributes),
                )
            except Exception:
                if not failures:
                    raise
        if failures:
            raise failures[0]

    async def flush(self, key: str) -> None:
        """Have a local object survive a loss of power; other stores see to that themselves."""
        if isinstance(self._store, LocalStore) and self._store.prefix is not None:
            with self._failures("flush"):
                await asyncio.to_thread(_flush, Path(self._store.prefix) / key)

    async def get(self, key: str) -> bytes | None:
        """Return the bytes of a small object, or None where there is none."""
        if not self._exists():
            return None
        with self._failures("get"):
            try:
                found = await obstore.get_async(self._store, key)
                return bytes(await found.bytes_async())
            except FileNotFoundError:
                return None

    async def get_range(self, key: str, start: int, length: int) -> bytes | None:
        """Return bytes of an object, or None where there is none; `length` is at least 1."""
        with self._failures("get"):
            try:
                found = await obstore.get_range_async(self._store, key, start=start, length=length)
            except FileNotFoundError:
                return None
            return bytes(found)

    async def walk(self, prefix: str) -> AsyncIterator[StoredObject]:
        """Yield every object below a folder, in any order."""
        if not self._exists():
            return
        with self._failures("list"):
            async for listed in obstore.list(self._store, prefix, chunk_size=_LIST_CHUNK):
                for one in listed:
                    yield StoredObject(one["path"], one["size"], one["last_modified"])

    async def folders(self) -> list[str]:
        """Return the names of the folders at the root."""
        if not self._exists():
            return []
        with self._failures("list"):
            listed = await obstore.list_with_delimiter_async(self._store)
            return [prefix.rstrip("/") for prefix in listed["common_prefixes"]]

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; those that are not there are no failure."""
        for key in keys:
            with self._failures("delete"):
                try:
                    await obstore.delete_async(self._store, key)
                except FileNotFoundError:
                    continue

    async def sign(self, key: str, time_to_live: timedelta) -> str:
        """Return a URL that fetches an object; only where `can_sign`."""
        store = self._store
        assert isinstance(store, S3Store | GCSStore | AzureStore)
        with self._failures("sign"):
            return await obstore.sign_async(store, "GET", key, time_to_live)

    @cached_property
    def _store(self) -> ObjectStore:
        url = self._location.url
        with self._failures("open"):
            if url is None:
                folder = self._location.folder.expanduser()
                return LocalStore(folder, automatic_cleanup=True, mkdir=True)
            if url.startswith("file:"):
                return from_url(url, automatic_cleanup=True, mkdir=True)
            client = {"allow_http": True} if self._location.allow_http else None
            # The options of a store are strings under names that depend on it.
            return from_url(url, client_options=client, **self._location.options)  # type: ignore[call-overload, no-any-return]

    def _exists(self) -> bool:
        """Whether anything may be there: looking for files makes no folder."""
        return self._location.url is not None or self._location.folder.expanduser().is_dir()

    def _attributes(self, attributes: Mapping[str, str] | None) -> dict[str, str] | None:
        return dict(attributes) if attributes and self.can_sign else None

    @contextmanager
    def _failures(self, operation: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, AlreadyExistsError):
            raise
        except (BaseError, OSError, ValueError) as error:
            _log.error("the file store failed", operation=operation, error=str(error)[:2000])
            raise MaskwireError(
                ErrorCode.STORAGE_UNAVAILABLE, "the file store failed; try again later"
            ) from error


def _flush(file: Path) -> None:
    """Write a file, and that it is in its folder, to the disk."""
    for path in (file, file.parent):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
