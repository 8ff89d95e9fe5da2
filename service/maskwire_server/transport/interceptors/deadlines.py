"""Bounds how long unary calls take: a default for those without a deadline, a cap for all."""

from __future__ import annotations

import asyncio
from typing import Any

from ...domain.errors import ErrorCode, MaskwireError
from ..calls import Call
from .pipeline import Interceptor, Proceed


class DeadlineInterceptor(Interceptor):
    """Ends unary calls whose time is over with `DEADLINE_EXCEEDED`.

    gRPC itself enforces deadlines that clients bring, so this acts only where there is none or
    one beyond the cap. Streams have leases of their own.
    """

    def __init__(self, default_s: float, max_s: float) -> None:
        self._default_s = default_s
        self._max_s = max_s

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        """Run the call within its time."""
        if call.method.kind != "unary":
            return await proceed()
        # Typed as a number in the stubs, None where the client set no deadline.
        remaining: float | None = call.context.time_remaining()
        if remaining is not None and remaining <= self._max_s:
            return await proceed()
        limit = min(self._default_s, self._max_s) if remaining is None else self._max_s
        timeout = asyncio.timeout(limit)
        try:
            async with timeout:
                return await proceed()
        except TimeoutError as error:
            if not timeout.expired():
                raise
            raise MaskwireError(
                ErrorCode.DEADLINE_EXCEEDED,
                f"the call took longer than the server's limit of {limit:g} s",
            ) from error
