"""The status with which a server ended an asyncio stream, whatever grpc.aio makes of it later.

A write that fails because the stream has just ended makes grpc.aio (1.85; its issue 36066) replace
the server's status by INTERNAL, "Internal error from Core". The status that came first is the true
one, and is still there when the call reports that it is done.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import grpc

from . import errors
from ._errors import error_from_rpc
from .errors import MaskwireError

_REPLACED = "Internal error from Core"


class FirstStatus:
    """Remembers the first status of a call.

    Args:
        call: A call of the asyncio channel, just begun.
    """

    def __init__(self, call: Any) -> None:
        self._error: grpc.aio.AioRpcError | None = None
        call.add_done_callback(self._note)

    def translate(self, error: grpc.RpcError) -> MaskwireError:
        """Return the exception for what the call raised."""
        if not _is_replaced(error):
            return error_from_rpc(error)
        if self._error is None or _is_replaced(self._error):
            return errors.Unavailable(
                "the connection broke while a request was sent", status="UNAVAILABLE"
            )
        return error_from_rpc(self._error)

    def _note(self, call: Any) -> None:
        code = at_once(call.code())
        if code is not grpc.StatusCode.OK:
            trailing, details = at_once(call.trailing_metadata()), at_once(call.details())
            self._error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details)


def _is_replaced(error: grpc.RpcError) -> bool:
    return (
        isinstance(error, grpc.aio.AioRpcError)
        and error.code() is grpc.StatusCode.INTERNAL
        and error.details() == _REPLACED
    )


def at_once(value: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine returns that has nothing to wait for: the call is done."""
    try:
        value.send(None)
    except StopIteration as stop:
        return stop.value
    value.close()
    raise AssertionError("a call that is done knows its status")
