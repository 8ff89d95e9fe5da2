"""nats-py's client, except that a request can be cancelled at any time.

Its own waits with `asyncio.wait_for`, which in Python 3.11 loses a cancellation that comes at the
same time as the answer: a task that was told to end would then go on.
"""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import Header

_NO_RESPONDERS = "503"


class NatsClient(Client):
    """A client whose requests end when they are cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self._answers: dict[str, asyncio.Future[Msg]] = {}
        self._answers_address: str | None = None
        self._request_numbers = count(1)

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        timeout: float = 0.5,  # noqa: ASYNC109 - the parameter is nats-py's
        old_style: bool = False,
        headers: dict[str, Any] | None = None,
    ) -> Msg:
        """Send a message and return the answer.

        Raises:
            nats.errors.NoRespondersError: Nobody receives the subject.
            nats.errors.TimeoutError: No answer came.
        """
        if self._answers_address is None:
            self._answers_address = self.new_inbox()
            await self.subscribe(f"{self._answers_address}.*", cb=self._answered)
        token = str(next(self._request_numbers))
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._answers[token] = answer
        try:
            address = f"{self._answers_address}.{token}"
            await self.publish(subject, payload, reply=address, headers=headers)
            async with asyncio.timeout(timeout):
                message = await answer
        except TimeoutError as error:
            raise nats.errors.TimeoutError from error
        finally:
            del self._answers[token]
        if message.headers and message.headers.get(Header.STATUS) == _NO_RESPONDERS:
            raise nats.errors.NoRespondersError
        return message

    async def _answered(self, message: Msg) -> None:
        answer = self._answers.get(message.subject.rpartition(".")[2])
        if answer is not None and not answer.done():
            answer.set_result(message)
