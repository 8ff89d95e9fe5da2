"""Where the answers to pull requests arrive: one subscription for the whole process.

A pull request cannot be taken back. A job that arrives for a request that nobody waits for any more
goes to whoever waits for its queue, or back to the queue at once, not when its lease ends.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Protocol

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import DEFAULT_PREFIX

from .connection import NatsConnection, unavailable

GIVE_BACK = b"-NAK"
"""What a message is answered with to have it delivered again at once."""

# The server's words for: there is none (any more). Anything else is trouble.
_NO_MORE = ("404", "408")


class Receiver(Protocol):
    """Something that waits for the answers to pull requests."""

    def receive(self, message: Msg) -> bool:
        """Take a message; False where it is not for this receiver, or not any more."""

    def end(self, status: str) -> None:
        """Learn that the server has ended one of the requests."""

    def interrupt(self) -> None:
        """Learn that the server has forgotten the requests."""


class Mailbox:
    """The replies to the pull requests of one process."""

    def __init__(self, connection: NatsConnection) -> None:
        self._connection = connection
        self._client: Client | None = None
        self._address = ""
        self._numbers = count(1)
        # By the last token of the address that their requests name; who waits longest is first.
        self._receivers: dict[str, Receiver] = {}

    async def connected(self, client: Client) -> None:
        """Receive on a connection."""
        if client is not self._client:
            self._address = client.new_inbox()
            await client.subscribe(f"{self._address}.*", cb=self._receive)
            self._client = client

    def interrupt(self) -> None:
        """Let nobody wait any longer: the server has forgotten all requests."""
        for receiver in self._receivers.values():
            receiver.interrupt()

    @contextmanager
    def receiving(self, receiver: Receiver) -> Iterator[str]:
        """Give a receiver an address for its requests, for as long as the context lasts."""
        token = str(next(self._numbers))
        self._receivers[token] = receiver
        try:
            yield f"{self._address}.{token}"
        finally:
            del self._receivers[token]

    def give_back(self, message: Msg) -> None:
        """Let a delivered job be delivered again at once, by any worker."""
        if self._client is not None:
            self._connection.spawn(partial(self._client.publish, message.reply, GIVE_BACK))

    async def _receive(self, message: Msg) -> None:
        # The server's words come to the address of the request; messages keep their own subjects.
        status = None if message.headers is None else message.headers.get("Status")
        if status is not None:
            receiver = self._receivers.get(message.subject.rpartition(".")[2])
            if receiver is not None:
                receiver.end(status)
        elif not any(receiver.receive(message) for receiver in self._receivers.values()):
            self.give_back(message)


class FirstMessage:
    """Waits for the first message that one of some streams brings, one request each."""

    def __init__(self, streams: Collection[str]) -> None:
        self._streams = streams
        self._future: asyncio.Future[Msg | None] = asyncio.get_running_loop().create_future()
        self._open = len(streams)
        self.is_troubled = False
        """Whether a request was refused or forgotten."""

    def receive(self, message: Msg) -> bool:
        """See `Receiver`."""
        return message.metadata.stream in self._streams and self._answer(message)

    def end(self, status: str) -> None:
        """See `Receiver`."""
        self.is_troubled |= status not in _NO_MORE
        self._open -= 1
        if self._open == 0:
            self._answer(None)

    def interrupt(self) -> None:
        """See `Receiver`."""
        self.is_troubled = True
        self._answer(None)

    async def wait(self, mailbox: Mailbox, timeout_s: float) -> Msg | None:
        """Return the message, or None if there is none; cancelled, it is given back."""
        is_claimed = False
        try:
            async with asyncio.timeout(timeout_s):
                message = await self._future
            is_claimed = True
        except TimeoutError:
            return None
        finally:
            if not is_claimed:
                self._let_go(mailbox)
        return message

    def _let_go(self, mailbox: Mailbox) -> None:
        if not self._future.done():
            self._future.cancel()
        elif not self._future.cancelled():
            message = self._future.result()
            if message is not None:
                mailbox.give_back(message)

    def _answer(self, message: Msg | None) -> bool:
        if self._future.done():
            return False
        self._future.set_result(message)
        return True


class Batch:
    """Waits for the messages that one request to a consumer brings: as many as were asked for."""

    def __init__(self, consumer: str) -> None:
        self._consumer = consumer
        self._arrived: asyncio.Queue[Msg | str] = asyncio.Queue()

    def receive(self, message: Msg) -> bool:
        """See `Receiver`."""
        if message.metadata.consumer != self._consumer:
            return False
        self._arrived.put_nowait(message)
        return True

    def end(self, status: str) -> None:
        """See `Receiver`."""
        self._arrived.put_nowait(status)

    def interrupt(self) -> None:
        """See `Receiver`."""
        self._arrived.put_nowait("an interruption")

    async def next(self, timeout_s: float) -> Msg | None:
        """Return the next message, or None where there is no more.

        Raises:
            MaskwireError: `JOBS_UNAVAILABLE`.
        """
        try:
            async with asyncio.timeout(timeout_s):
                arrived = await self._arrived.get()
        except TimeoutError as error:
            raise unavailable("messages do not come") from error
        if isinstance(arrived, Msg):
            return arrived
        if arrived in _NO_MORE:
            return None
        raise unavailable(f"{arrived} in answer to a request for messages")


async def request_messages(
    client: Client, stream: str, consumer: str, reply: str, *, batch: int, wait_s: float
) -> None:
    """Ask a consumer for messages.

    Args:
        client: The connection.
        stream: The consumer's stream.
        consumer: The consumer.
        reply: Where the server's answer shall go.
        batch: How many at most.
        wait_s: How long the request holds; 0 asks for what there is.
    """
    request: dict[str, object] = {"batch": batch}
    if wait_s > 0:
        request["expires"] = int(wait_s * 1e9)
    else:
        request["no_wait"] = True
    subject = f"{DEFAULT_PREFIX}.CONSUMER.MSG.NEXT.{stream}.{consumer}"
    await client.publish(subject, json.dumps(request).encode(), reply=reply)
