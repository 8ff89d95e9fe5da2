"""Reads on for a moment when a client stream is answered early, so that its client hears it.

A client of grpc.aio that meets the end of its call in the middle of a write reports INTERNAL and
not the status, where the failed write comes to it first. What is on its way when the server answers
is therefore read and thrown away, within bounds; a client that pauses hears the answer at once.
"""

from __future__ import annotations

import asyncio

import grpc

from .calls import Call

_MAX_BYTES = 32 * 2**20
_MAX_S = 2.0
_IDLE_S = 0.05


async def drain_requests(call: Call) -> None:
    """Throw away what the client still sends: until it ends or pauses, or a bound is reached."""
    loop = asyncio.get_running_loop()
    end = loop.time() + _MAX_S
    drained = 0
    while drained < _MAX_BYTES and (left := end - loop.time()) > 0:
        # The read is left alone when it does not end in time: one that is cancelled leaks.
        reading = asyncio.ensure_future(call.context.read())
        reading.add_done_callback(look_at_failure)
        done, _ = await asyncio.wait((reading,), timeout=min(left, _IDLE_S))
        if not done:
            return
        message = reading.result()
        if message is grpc.aio.EOF:
            return
        drained += len(message)


def look_at_failure(reading: asyncio.Future[object]) -> None:
    """Take note of how a read ended that nobody waits for any more."""
    if not reading.cancelled():
        reading.exception()
