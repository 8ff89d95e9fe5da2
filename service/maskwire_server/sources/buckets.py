"""Fetches files from buckets of object stores: those that the settings name, and no others.

A place is a bucket, or a folder in one; it may be each tenant's own by having the tenant's name in
its path. Keys are compared by whole segments, so that no name is the beginning of another.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Self

import obstore
import structlog
from obstore.exceptions import BaseError
from obstore.store import from_url

from ..domain.errors import ErrorCode, MaskwireError, invalid_field
from ..domain.remote_sources import RemoteSource, WantedContent
from ..domain.segmentation import Caller

if TYPE_CHECKING:  # a name that obstore has for type checkers only
    from obstore.store import ObjectStore

_log = structlog.get_logger(__name__)

TENANT = "{tenant}"
"""Stands for the caller's tenant in the path of a place."""

_CHUNK_BYTES = 256 * 1024
_MAX_KEY_BYTES = 1024
_URI = re.compile(r"(s3|gs|az)://([a-z0-9][a-z0-9._-]{1,254})(?:/(.*))?", re.IGNORECASE | re.DOTALL)
_CONNECT_TIMEOUT = "5s"
_RETRIES = 2
_RETRY_TIMEOUT = timedelta(seconds=20)


@dataclass(frozen=True, slots=True)
class BucketPlace:
    """A bucket, or a folder in one.

    Attributes:
        bucket: Scheme and name, e.g. `s3://pictures`.
        folder: Segments of the folder's path; `{tenant}` may be in them.
        options: What an S3 store needs beside its URL, e.g. `endpoint` and `region`; may be secret.
        allow_http: Whether to speak to the endpoint without TLS.
    """

    bucket: str
    folder: tuple[str, ...]
    options: Mapping[str, str] = field(repr=False)
    allow_http: bool = False

    @classmethod
    def read(cls, url: str, options: Mapping[str, str], *, allow_http: bool = False) -> Self:
        """Read a place of the settings.

        Raises:
            ValueError: The URL is none; says the rule.
        """
        bucket, key = _read_uri(url.rstrip("/"))
        folder = _read_key(key) if key else ()
        return cls(bucket, folder, options, allow_http)

    def folder_of(self, tenant: str) -> tuple[str, ...] | None:
        """Return the segments of a tenant's folder; None where this place has none for it."""
        if not tenant and any(TENANT in segment for segment in self.folder):
            return None
        return tuple(segment.replace(TENANT, tenant) for segment in self.folder)


class BucketSource(RemoteSource):
    """Fetches from the buckets that the settings name."""

    def __init__(self, places: Sequence[BucketPlace]) -> None:
        self._places = tuple(places)
        self._stores: dict[int, ObjectStore] = {}

    async def read(
        self, uri: str, wanted: WantedContent, caller: Caller
    ) -> AsyncGenerator[bytes, None]:
        """Yield an object's bytes; as the interface says."""
        try:
            bucket, key = _read_uri(uri)
            segments = _read_key(key)
        except ValueError as error:
            raise invalid_field(wanted.field, str(error)) from None
        place = self._place_of(bucket, segments, caller.tenant)
        if place is None:
            raise MaskwireError(
                ErrorCode.SOURCE_FORBIDDEN,
                f"{wanted.field}: this server does not fetch from there for you",
            )
        with _failures(wanted.field, bucket):
            store = self._store_of(place)
            found = await obstore.get_async(store, "/".join(segments))
            # The answer's head: of the content no more has come than was on the way with it.
            wanted.check_size(found.meta["size"])
            async for chunk in found.stream(min_chunk_size=_CHUNK_BYTES):
                yield bytes(chunk)

    def _place_of(self, bucket: str, segments: tuple[str, ...], tenant: str) -> BucketPlace | None:
        for place in self._places:
            folder = place.folder_of(tenant)
            if folder is None or place.bucket != bucket or len(segments) <= len(folder):
                continue
            if segments[: len(folder)] == folder:
                return place
        return None

    def _store_of(self, place: BucketPlace) -> ObjectStore:
        index = self._places.index(place)
        if index not in self._stores:
            self._stores[index] = _open(place)
        return self._stores[index]


def _open(place: BucketPlace) -> ObjectStore:
    # The options of a store are strings under names that depend on it.
    return from_url(  # type: ignore[call-overload, no-any-return]
        place.bucket,
        client_options={"allow_http": place.allow_http, "connect_timeout": _CONNECT_TIMEOUT},
        retry_config={"max_retries": _RETRIES, "retry_timeout": _RETRY_TIMEOUT},
        **place.options,
    )


def _read_uri(text: str) -> tuple[str, str]:
    """Return the bucket's URL and the key, which may be empty."""
    parts = _URI.fullmatch(text)
    if parts is None:
        raise ValueError("must have the form s3://bucket/key, gs://bucket/key or az://bucket/key")
    scheme, bucket, key = parts.groups()
    return f"{scheme.lower()}://{bucket}", key or ""


def _read_key(key: str) -> tuple[str, ...]:
    if not 1 <= len(key.encode(errors="replace")) <= _MAX_KEY_BYTES:
        raise ValueError(f"must have a key of 1 to {_MAX_KEY_BYTES} bytes")
    if not key.isprintable() or "\\" in key:
        raise ValueError("must have a key of printable characters, without backslashes")
    segments = tuple(key.split("/"))
    if any(segment in ("", ".", "..") for segment in segments):
        raise ValueError("must have a key whose parts between slashes are not empty, '.' or '..'")
    return segments


@contextmanager
def _failures(field: str, bucket: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise MaskwireError(
            ErrorCode.FILE_NOT_FOUND, f"{field}: the bucket holds no such object"
        ) from None
    except (BaseError, OSError, ValueError) as error:
        _log.warning("a bucket could not be read", bucket=bucket, error=str(error)[:2000])
        raise MaskwireError(
            ErrorCode.SOURCE_UNAVAILABLE, f"{field}: the object store did not give it"
        ) from None
