"""The clients of a load run: the public one, with its attempts counted, on connections apart."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import grpc

from .._async_client import AsyncClient
from .._calls import Attempt
from .._configuration import DEFAULT_MAX_MESSAGE_BYTES
from .plan import LoadPlan

__all__ = ["Attempts", "attempts_counted", "open_clients"]

_ResponseT = TypeVar("_ResponseT")


@dataclass(slots=True)
class Attempts:
    """What the client did about one call besides its first attempt.

    What gRPC repeats by itself, after UNAVAILABLE, no client library sees.

    Attributes:
        overloads: Attempts that the server refused because it was full.
        digest_misses: Attempts that named an image which the server did not hold.
    """

    overloads: int = 0
    digest_misses: int = 0


_current: ContextVar[Attempts | None] = ContextVar("maskwire_load_attempts", default=None)


@contextmanager
def attempts_counted() -> Iterator[Attempts]:
    """Count the attempts of the calls that the block makes in this task."""
    attempts = Attempts()
    token = _current.set(attempts)
    try:
        yield attempts
    finally:
        _current.reset(token)


class _MeasuringClient(AsyncClient):
    """The client as it is, but for counting."""

    @staticmethod
    async def _attempt(
        step: Attempt,
        method: Callable[..., Awaitable[_ResponseT]],
        request: object,
        metadata: Sequence[tuple[str, str]],
    ) -> _ResponseT:
        try:
            return await AsyncClient._attempt(step, method, request, metadata)
        except grpc.RpcError as error:
            attempts = _current.get()
            if attempts is not None and isinstance(error, grpc.aio.AioRpcError):
                attempts.overloads += error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                attempts.digest_misses += error.code() is grpc.StatusCode.NOT_FOUND
            raise


@asynccontextmanager
async def open_clients(plan: LoadPlan) -> AsyncIterator[list[AsyncClient]]:
    """Open the clients of a run, each with connections of its own."""
    # gRPC shares connections between channels whose options are equal.
    limits = range(DEFAULT_MAX_MESSAGE_BYTES, DEFAULT_MAX_MESSAGE_BYTES - plan.connections, -1)
    async with AsyncExitStack() as stack:
        clients: list[AsyncClient] = []
        for limit in limits:
            make = partial(
                _MeasuringClient, plan.target, timeout_s=plan.deadline_s, max_message_bytes=limit
            )
            client = make() if plan.retries else make(retry_attempts=1, overload_retries=0)
            clients.append(await stack.enter_async_context(client))
        yield clients
