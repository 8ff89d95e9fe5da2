"""The status that a server gave outlives what grpc.aio makes of a write that came too late."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from maskwire_client import errors
from maskwire_client._first_status import FirstStatus


class Call:
    """A call that is done with one status and then reports another."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        self._status = (code, details)
        self._callbacks: list[Any] = []

    def add_done_callback(self, callback: Any) -> None:
        self._callbacks.append(callback)

    def finish(self) -> None:
        for callback in self._callbacks:
            callback(self)

    async def code(self) -> grpc.StatusCode:
        return self._status[0]

    async def details(self) -> str:
        return self._status[1]

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        return grpc.aio.Metadata()


def raised(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


REPLACED = raised(grpc.StatusCode.INTERNAL, "Internal error from Core")


@pytest.mark.parametrize(
    ("first", "error", "kind", "message"),
    [
        (
            (grpc.StatusCode.UNAUTHENTICATED, "who are you"),
            REPLACED,
            errors.Unauthenticated,
            "who are you",
        ),
        (
            (grpc.StatusCode.UNAVAILABLE, "first"),
            raised(grpc.StatusCode.NOT_FOUND, "second"),
            errors.NotFound,
            "second",
        ),
        (
            (grpc.StatusCode.INTERNAL, "a failure of the server"),
            raised(grpc.StatusCode.INTERNAL, "a failure of the server"),
            errors.InternalError,
            "a failure of the server",
        ),
        (
            (grpc.StatusCode.INTERNAL, "Internal error from Core"),
            REPLACED,
            errors.Unavailable,
            "the connection broke",
        ),
        ((grpc.StatusCode.OK, ""), REPLACED, errors.Unavailable, "the connection broke"),
    ],
)
def test_only_a_replaced_status_is_put_back(first, error, kind, message: str) -> None:
    call = Call(*first)
    status = FirstStatus(call)
    call.finish()
    translated = status.translate(error)
    assert type(translated) is kind
    assert message in translated.message


def test_a_call_that_never_was_done_counts_as_broken() -> None:
    status = FirstStatus(Call(grpc.StatusCode.OK, ""))
    assert isinstance(status.translate(REPLACED), errors.Unavailable)
