"""The connection to NATS: opened once, kept over restarts of the broker, calls of bounded time.

nats-py connects again by itself. Nothing is buffered meanwhile, so that nothing is written long
after its caller was told that it was not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import nats.errors
import structlog
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import APIError, NoStreamResponseError, ServiceUnavailableError

from ...domain.errors import ErrorCode, MaskwireError
from .client import NatsClient

CALL_TIMEOUT_S = 5.0
"""How long a call tries before the backend counts as not reachable."""

NO_MESSAGE = 10037
STREAM_NOT_FOUND = 10059
CONSUMER_NOT_FOUND = 10014

_TRY_TIMEOUT_S = 1.0
_RETRY_PAUSE_S = 0.05
_RECONNECT_PAUSE_S = 0.1

_log = structlog.get_logger(__name__)

_Result = TypeVar("_Result")


class NatsConnection:
    """A connection and the calls on it.

    Args:
        servers: URLs of servers of the same cluster.
        credentials: A `.creds` file.
    """

    def __init__(self, servers: Sequence[str], credentials: Path | None) -> None:
        self._servers = list(servers)
        self._credentials = credentials
        self._client: Client | None = None
        self._up = asyncio.Event()
        self._trouble: Exception | None = None
        self._is_closed = False
        self._connecting = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._on_connect: list[Callable[[Client], Awaitable[None]]] = []
        self._on_stream_missing: list[Callable[[], None]] = []
        self._wakers: set[asyncio.Event] = set()
        self._on_disconnect: list[Callable[[], None]] = []
        self._tries: set[asyncio.Timeout] = set()

    @property
    def is_closed(self) -> bool:
        """Whether it was closed by us."""
        return self._is_closed

    @property
    def is_up(self) -> bool:
        """Whether there is a connection now."""
        return self._client is not None and self._client.is_connected

    def on_connect(self, call: Callable[[Client], Awaitable[None]]) -> None:
        """Have something called whenever there is a connection (again)."""
        self._on_connect.append(call)

    def on_disconnect(self, call: Callable[[], None]) -> None:
        """Have something called when the connection breaks."""
        self._on_disconnect.append(call)

    def on_stream_missing(self, call: Callable[[], None]) -> None:
        """Have something called when the server lacks a stream that was thought to be there."""
        self._on_stream_missing.append(call)

    @contextmanager
    def waking(self, event: asyncio.Event) -> Iterator[None]:
        """Set an event whenever there is a connection again, and when it is closed."""
        self._wakers.add(event)
        try:
            yield
        finally:
            self._wakers.discard(event)

    async def open(self) -> None:
        """Connect.

        Raises:
            MaskwireError: `JOBS_UNAVAILABLE`.
        """
        await self.client()

    async def close(self) -> None:
        """Close the connection; calls fail from now on."""
        self._is_closed = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_TRY_TIMEOUT_S)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.close()
        self._wake()

    def spawn(self, work: Callable[[], Awaitable[Any]]) -> None:
        """Do something in the background that is tried once: nobody waits for it."""
        task = asyncio.get_running_loop().create_task(_quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def connected(self, wait_s: float) -> Client | None:
        """Return the client as soon as it is connected, or None if it is not for `wait_s`."""
        try:
            async with asyncio.timeout(wait_s):
                return await self._connected()
        except TimeoutError:
            return None

    async def client(self) -> Client:
        """Return the client once it is connected.

        Raises:
            MaskwireError: `JOBS_UNAVAILABLE`.
        """
        client = await self.connected(CALL_TIMEOUT_S)
        if client is None:
            raise unavailable("no server answers", self._trouble)
        return client

    async def drop_consumer(self, stream: str, consumer: str) -> None:
        """Remove a consumer if that can be done now; it would forget itself later."""
        client = self._client
        if client is not None and self.is_up:
            with suppress(TimeoutError):
                await client.jetstream(timeout=_TRY_TIMEOUT_S).delete_consumer(stream, consumer)

    async def call(self, attempt: Callable[[JetStreamContext], Awaitable[_Result]]) -> _Result:
        """Return what an attempt returns; tried again while the broker does not answer.

        Args:
            attempt: Something that may be done twice.

        Raises:
            MaskwireError: `JOBS_UNAVAILABLE`.
        """
        reason: Exception | None = None
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                while True:
                    client = await self._connected()
                    try:
                        async with self._trying():
                            return await attempt(client.jetstream(timeout=_TRY_TIMEOUT_S))
                    except Exception as error:
                        if not self._may_pass(error):
                            raise
                        reason = error
                    await asyncio.sleep(_RETRY_PAUSE_S)
        except TimeoutError as error:
            raise unavailable("no answer in time", reason or self._trouble) from error
        except (nats.errors.Error, OSError) as error:
            raise unavailable("it refuses", error) from error

    @asynccontextmanager
    async def _trying(self) -> AsyncGenerator[None, None]:
        """Bound the time of one try, which ends at once where the connection breaks."""
        async with asyncio.timeout(_TRY_TIMEOUT_S) as limit:
            self._tries.add(limit)
            try:
                yield
            finally:
                self._tries.discard(limit)

    def _may_pass(self, error: Exception) -> bool:
        """Return whether a failure is one of those that a moment later may be over."""
        is_stream_missing = isinstance(error, NoStreamResponseError) or (
            isinstance(error, APIError) and error.err_code in (STREAM_NOT_FOUND, CONSUMER_NOT_FOUND)
        )
        if is_stream_missing:
            for call in self._on_stream_missing:
                call()
            return True
        return isinstance(error, _PASSING)

    async def _connected(self) -> Client:
        while True:
            if self._is_closed:
                raise unavailable("the connection was closed")
            client = self._client
            if client is None or client.is_closed:
                # nats-py gives up for good where a server refuses it, e.g. while users change.
                await self._connect(client)
            elif client.is_connected:
                return client
            else:
                self._up.clear()
                await self._up.wait()

    async def _connect(self, former: Client | None) -> None:
        async with self._connecting:
            if self._client is not former:
                return
            client = NatsClient()
            try:
                await client.connect(
                    self._servers,
                    name="maskwire",
                    error_cb=self._failed,
                    disconnected_cb=self._disconnected,
                    reconnected_cb=self._reconnected,
                    closed_cb=self._closed,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=_RECONNECT_PAUSE_S,  # type: ignore[arg-type]
                    connect_timeout=1,
                    ping_interval=10,
                    pending_size=0,
                    user_credentials=None if self._credentials is None else str(self._credentials),
                )
            except nats.errors.Error as error:
                await client.close()
                raise unavailable("it refuses the connection", error) from error
            except BaseException:
                await client.close()
                raise
            self._client = client
            await self._announce(client)

    async def _announce(self, client: Client) -> None:
        self._trouble = None
        for call in self._on_connect:
            await call(client)
        self._wake()

    def _wake(self) -> None:
        self._up.set()
        for event in self._wakers:
            event.set()

    async def _disconnected(self) -> None:
        if not self._is_closed:
            _log.warning("the connection to NATS broke")
        for call in self._on_disconnect:
            call()
        # An answer that is on its way never comes.
        for limit in self._tries:
            limit.reschedule(asyncio.get_running_loop().time())

    async def _reconnected(self) -> None:
        _log.info("connected to NATS again")
        if self._client is not None:
            await self._announce(self._client)

    async def _closed(self) -> None:
        self._up.set()

    async def _failed(self, error: Exception) -> None:
        self._trouble = error
        _log.debug("NATS connection", error=str(error) or type(error).__name__)


_PASSING = (
    TimeoutError,
    OSError,
    nats.errors.ConnectionClosedError,
    nats.errors.ConnectionReconnectingError,
    nats.errors.NoRespondersError,
    nats.errors.OutboundBufferLimitError,
    nats.errors.StaleConnectionError,
    ServiceUnavailableError,
)


def unavailable(what: str, reason: Exception | None = None) -> MaskwireError:
    """Make the error for a broker that does not do its work; the log has what it is."""
    _log.warning("NATS failed", what=what, reason=None if reason is None else repr(reason))
    return MaskwireError(
        ErrorCode.JOBS_UNAVAILABLE, "the service that keeps the jobs does not answer; try again"
    )


async def _quietly(work: Callable[[], Awaitable[Any]]) -> None:
    try:
        await work()
    except nats.errors.Error as error:
        _log.debug("NATS", error=str(error) or type(error).__name__)
