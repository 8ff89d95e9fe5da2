"""Images, videos and maps that the server fetches from where a caller says they are.

The interface of one kind of place, and the bounds that hold for all of them: how many fetches at a
time, how long, how large, and which content. The adapters are in `sources/`.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import timedelta

from .errors import ErrorCode, MaskwireError, too_large
from .observer import Observer
from .segmentation import Caller

HTTPS_SCHEME = "https"
BUCKET_SCHEMES = frozenset(("s3", "gs", "az"))
"""Schemes of object-store URIs."""
REMOTE_SCHEMES = BUCKET_SCHEMES | {HTTPS_SCHEME}
"""Every scheme that the contract names beside `data:`."""

BYTES_OF_ANY_KIND = frozenset(("application/octet-stream", "binary/octet-stream"))
"""Media types that say nothing about what the content is."""

_START_BYTES = 128
"""By so many first bytes every format is known."""
_RETRY_AFTER = timedelta(seconds=1)
_LONGEST_QUOTED_SCHEME = 16
_EXECUTOR = "sources"
_OUTCOMES = {
    ErrorCode.INVALID_ARGUMENT: "invalid",
    ErrorCode.FILE_NOT_FOUND: "not_found",
    ErrorCode.SOURCE_FORBIDDEN: "forbidden",
    ErrorCode.SOURCE_UNAVAILABLE: "unavailable",
    ErrorCode.PAYLOAD_TOO_LARGE: "too_large",
    ErrorCode.DEADLINE_EXCEEDED: "timed_out",
}

SOURCE_OUTCOMES = ("fetched", "cancelled", "failed", *_OUTCOMES.values())
"""How a fetch may end."""

ChunkWriter = Callable[[bytes], Awaitable[object]]
"""Takes the next bytes of what is fetched."""


@dataclass(frozen=True, slots=True)
class WantedContent:
    """What a fetch is to bring.

    Attributes:
        field: Path of the URI in the request, for errors.
        max_bytes: Most bytes.
        media_types: Those that a place may state, beside `BYTES_OF_ANY_KIND`; lower case.
        check_start: Raises `INVALID_ARGUMENT` where the first bytes of a file (up to 128) are of
            no format that is read; the fetch then ends.
        schemes: Where it may come from.
    """

    field: str
    max_bytes: int
    media_types: frozenset[str]
    check_start: Callable[[bytes], object]
    schemes: frozenset[str] = REMOTE_SCHEMES

    def check_size(self, size_bytes: int) -> None:
        """Refuse more bytes than may be.

        Raises:
            MaskwireError: `PAYLOAD_TOO_LARGE`.
        """
        if size_bytes > self.max_bytes:
            raise too_large(self.field, f"{size_bytes} bytes exceed the limit of {self.max_bytes}")


class RemoteSource(ABC):
    """One kind of place that files are fetched from."""

    @abstractmethod
    def read(self, uri: str, wanted: WantedContent, caller: Caller) -> AsyncGenerator[bytes, None]:
        """Yield a file's bytes, at most 1 MiB or so at a time; nothing blocks the event loop.

        Closing or cancelling it ends the connection. A size that the place states is checked by
        `wanted.check_size` before the content is read; that of the bytes that come, and their
        time, by `RemoteSources`.

        Args:
            uri: Where the file is, in the caller's words.
            wanted: What it is to be.
            caller: Who wants it.

        Raises:
            MaskwireError: `INVALID_ARGUMENT` for a URI that is malformed or content of another
                kind, `SOURCE_FORBIDDEN` for a place that the settings do not allow,
                `SOURCE_UNAVAILABLE` where the file could not be had, in the same words for every
                address that is not public; `FILE_NOT_FOUND`, `PAYLOAD_TOO_LARGE`.
        """


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What fetching may use.

    Attributes:
        max_fetches: Most fetches at a time.
        max_fetches_per_tenant: Most of one tenant.
        timeout_s: Longest time of one, in seconds, redirects included.
    """

    max_fetches: int
    max_fetches_per_tenant: int
    timeout_s: float


class RemoteSources:
    """Fetches from every kind of place that the settings allow; used on the event loop only."""

    def __init__(
        self, sources: Mapping[str, RemoteSource], limits: FetchLimits, observer: Observer
    ) -> None:
        """Take what is needed.

        Args:
            sources: The places by scheme, in lower case; those that are not here are not fetched.
            limits: Bounds of all of them.
            observer: Hears of every fetch.
        """
        self._sources = dict(sources)
        self._limits = limits
        self._observer = observer
        self._fetches: Counter[str] = Counter()

    async def fetch(self, uri: str, wanted: WantedContent, caller: Caller) -> list[bytes]:
        """Return the bytes of a file in the pieces that they came in.

        Raises:
            MaskwireError: As `copy`.
        """
        chunks: list[bytes] = []

        async def keep(chunk: bytes) -> None:
            chunks.append(chunk)

        await self.copy(uri, wanted, caller, keep)
        return chunks

    async def copy(
        self, uri: str, wanted: WantedContent, caller: Caller, write: ChunkWriter
    ) -> None:
        """Hand the bytes of a file to `write`, piece by piece.

        Raises:
            MaskwireError: As `RemoteSource.read`; `SOURCE_DISABLED` for a scheme that this server
                does not fetch, `OVERLOADED` where the server or the tenant fetches too much
                already, `DEADLINE_EXCEEDED` where it takes too long; and what `write` raises.
        """
        scheme = uri.partition(":")[0].lower()
        source = self._sources.get(scheme) if scheme in wanted.schemes else None
        if source is None:
            raise MaskwireError(
                ErrorCode.SOURCE_DISABLED,
                f"{wanted.field}: this server does not fetch {scheme[:_LONGEST_QUOTED_SCHEME]!r} "
                "URIs; send the bytes or upload them",
            )
        with self._admitted(caller), self._observed(scheme) as progress:
            try:
                async with asyncio.timeout(self._limits.timeout_s):
                    await _copy(source.read(uri, wanted, caller), wanted, write, progress)
            except TimeoutError:
                raise MaskwireError(
                    ErrorCode.DEADLINE_EXCEEDED,
                    f"{wanted.field}: it was not there within {self._limits.timeout_s:g} s, "
                    "the limit of this server",
                ) from None

    @contextmanager
    def _admitted(self, caller: Caller) -> Iterator[None]:
        most = self._limits.max_fetches
        if self._fetches.total() >= most:
            raise self._refused(f"the server has its limit of {most} fetches in work")
        most = self._limits.max_fetches_per_tenant
        if self._fetches[caller.tenant] >= most:
            raise self._refused(f"{most} fetches of yours are in work, the limit for a tenant")
        self._fetches[caller.tenant] += 1
        try:
            yield
        finally:
            self._fetches[caller.tenant] -= 1
            if not self._fetches[caller.tenant]:
                del self._fetches[caller.tenant]

    def _refused(self, message: str) -> MaskwireError:
        self._observer.overload_refused(_EXECUTOR)
        return MaskwireError(
            ErrorCode.OVERLOADED, message, retry_after=_RETRY_AFTER, resource=_EXECUTOR
        )

    @contextmanager
    def _observed(self, scheme: str) -> Iterator[_Progress]:
        progress, started, outcome = _Progress(), time.perf_counter(), "failed"
        try:
            yield progress
            outcome = "fetched"
        except MaskwireError as error:
            outcome = _OUTCOMES.get(error.code, "failed")
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            seconds = time.perf_counter() - started
            self._observer.source_fetched(scheme, outcome, seconds, progress.size_bytes)


@dataclass(slots=True)
class _Progress:
    """How many bytes came so far."""

    size_bytes: int = 0


async def _copy(
    chunks: AsyncGenerator[bytes, None],
    wanted: WantedContent,
    write: ChunkWriter,
    progress: _Progress,
) -> None:
    """Hand on what comes, once its start has shown what it is, as long as it is not too much."""
    start: bytes | None = b""
    async with aclosing(chunks):
        async for chunk in chunks:
            progress.size_bytes += len(chunk)
            wanted.check_size(progress.size_bytes)
            if start is not None:
                start += chunk
                if len(start) < _START_BYTES:
                    continue
                wanted.check_start(start[:_START_BYTES])
                chunk, start = start, None
            await write(chunk)
    if start is not None:
        wanted.check_start(start)
        await write(start)
