"""Decides whether a call is taken at all, before its request is read.

Calls that need a device for all that they do pass a door of their own, so that those that its queue
would refuse are refused before they are read and their pictures decoded.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from ...domain.errors import ErrorCode, MaskwireError
from ...domain.fair_door import FairDoor
from ...domain.observer import Observer
from ..calls import Call
from .pipeline import Interceptor, Proceed

_RETRY_AFTER = timedelta(milliseconds=250)
_NAME = "calls"

_DEVICE_PATHS = frozenset({"/maskwire.v1.SegmentationService/SegmentImage"})
"""Calls that are quick, many, and made of one or two runs of a device."""


class AdmissionInterceptor(Interceptor):
    """Counts the calls in flight, refuses those over a limit, and all of them once closed."""

    def __init__(
        self, max_in_flight_calls: int, observer: Observer, device_door: FairDoor | None = None
    ) -> None:
        """Take the limits.

        Args:
            max_in_flight_calls: Most calls and streams of all kinds at a time.
            observer: Hears of refusals.
            device_door: What calls to devices must pass; None lets all in.
        """
        self._max_in_flight_calls = max_in_flight_calls
        self._observer = observer
        self._device_door = device_door
        self._in_flight = 0
        self._refused_when_closed = 0
        self._closed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def in_flight(self) -> int:
        """Calls and streams that were taken and have not ended."""
        return self._in_flight

    @property
    def closed(self) -> asyncio.Event:
        """Set when the server begins to refuse calls; streams end themselves then."""
        return self._closed

    def close(self) -> None:
        """Refuse every call from now on."""
        self._closed.set()

    async def wait_until_idle(self) -> None:
        """Return when no call is in flight."""
        await self._idle.wait()

    async def wait_until_quiet(self, quiet_s: float, *, at_most_s: float) -> None:
        """Return when no call had to be refused for `quiet_s`, or `at_most_s` have passed."""
        loop = asyncio.get_running_loop()
        end, seen = loop.time() + at_most_s, -1
        while seen != self._refused_when_closed and loop.time() < end:
            seen = self._refused_when_closed
            await asyncio.sleep(quiet_s)

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        """Take the call or raise `SHUTTING_DOWN` or `OVERLOADED`."""
        if self._closed.is_set():
            self._refused_when_closed += 1
            raise MaskwireError(
                ErrorCode.SHUTTING_DOWN, "the server is shutting down; another one may serve this"
            )
        if self._in_flight >= self._max_in_flight_calls:
            self._observer.overload_refused(_NAME)
            raise MaskwireError(
                ErrorCode.OVERLOADED,
                f"the server has its limit of {self._max_in_flight_calls} calls in flight",
                retry_after=_RETRY_AFTER,
            )
        self._in_flight += 1
        self._idle.clear()
        try:
            if self._device_door is None or call.method.path not in _DEVICE_PATHS:
                return await proceed()
            with self._device_door.enter():
                return await proceed()
        finally:
            self._in_flight -= 1
            if self._in_flight == 0:
                self._idle.set()
