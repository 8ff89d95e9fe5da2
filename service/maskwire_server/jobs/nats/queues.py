"""Queues: a work-queue stream each, whose consumer hands every message to one worker at a time.

JetStream delivers a message again that was not extended for a lease, but it does not fence: whoever
had it first may still extend, settle or release it. So a delivery knows when its lease ends, by the
clock of its own process, and does nothing from then on.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any

import nats.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import DEFAULT_PREFIX, ConsumerInfo, Header
from nats.js.errors import APIError

from ...domain.errors import MaskwireError
from ...domain.jobs.backend import Delivery
from ...domain.jobs.job import Job, JobKey
from .connection import NatsConnection
from .journal import WRONG_LAST_SEQUENCE, last_message, remove_message
from .mailbox import GIVE_BACK, FirstMessage, Mailbox, request_messages
from .names import WORKERS, Names
from .streams import Streams

_SETTLED = b"+ACK"
_IN_PROGRESS = b"+WPI"

# Requests for messages are forgotten by a server that restarts or hands its consumer over.
_LONGEST_REQUEST_S = 1.0
_ANSWER_S = 0.5
_TROUBLE_PAUSE_S = 0.1


class _Handout:
    """A message that was delivered, until when it is ours, and whether we are done with it."""

    __slots__ = ("ends", "is_over", "position", "reply")

    def __init__(self, reply: str, position: int, ends: float) -> None:
        self.reply = reply
        self.position = position
        self.ends = ends
        self.is_over = False

    def is_lost(self) -> bool:
        """Whether it may be another's by now."""
        return self.is_over or time.monotonic() >= self.ends


class Queues:
    """The queues of a deployment."""

    def __init__(
        self,
        connection: NatsConnection,
        names: Names,
        streams: Streams,
        mailbox: Mailbox,
        lease: timedelta,
    ) -> None:
        self._connection = connection
        self._names = names
        self._streams = streams
        self._mailbox = mailbox
        self._lease_s = lease.total_seconds()
        self._turns = count()

    async def make(self, queue: str) -> None:
        """Have a queue's stream and its consumer there."""
        await self._connection.call(partial(self._streams.queue, queue=queue))

    async def enqueue(self, queue: str, key: JobKey) -> None:
        """See `JobBackend`."""
        place = self._names.place(queue, key)
        data = json.dumps({"tenant": key.tenant, "job_id": key.job_id}).encode()

        async def publish(jetstream: JetStreamContext) -> None:
            await self._streams.queue(jetstream, queue)
            try:
                headers: dict[str, Any] = {Header.EXPECTED_LAST_SUBJECT_SEQUENCE: "0"}
                await jetstream.publish(place, data, headers=headers)
            except APIError as error:
                if error.err_code not in WRONG_LAST_SEQUENCE:  # it has its place
                    raise

        await self._connection.call(publish)

    async def take(self, queues: Collection[str], wait: timedelta) -> Delivery | None:
        """See `JobBackend`; waits, too, for a broker that is away."""
        ends = time.monotonic() + wait.total_seconds()
        turned = self._in_turn(sorted(set(queues)))
        request_s = 0.0
        while turned:
            left = ends - time.monotonic()
            try:
                if await self._connection.connected(max(left, 0.0)) is None:
                    return None
                if len(turned) > 1 and request_s == 0:
                    delivery = await self._look(turned)
                else:
                    delivery = await self._request(turned, request_s)
            except MaskwireError:
                if self._connection.is_closed:
                    return None
                if self._connection.is_up:
                    raise
                continue
            left = ends - time.monotonic()
            if delivery is not None or left <= 0:
                return delivery
            request_s = min(left, _LONGEST_REQUEST_S, self._lease_s / 2)
        return None

    async def extend(self, delivery: Delivery) -> bool:
        """See `JobBackend`."""
        handout = _handout(delivery)
        if handout.is_lost():
            return False
        began = time.monotonic()
        await self._answer(handout, _IN_PROGRESS)
        if handout.is_lost():  # it took longer than the lease
            return False
        handout.ends = began + self._lease_s
        return True

    async def settle(self, delivery: Delivery) -> None:
        """See `JobBackend`; what is no longer the caller's is left to its next holder."""
        handout = _handout(delivery)
        if handout.is_lost():
            return
        # Removed and only then acknowledged: an acknowledged message is still there for a moment in
        # a cluster, where a new place for the same job would be refused and so lost; and it is
        # there again after `kill -9` of a server that did not sync.
        stream = self._names.queue_stream(delivery.queue)
        await self._connection.call(
            partial(remove_message, stream=stream, position=handout.position)
        )
        handout.is_over = True
        await self._answer(handout, _SETTLED)

    async def release(self, delivery: Delivery, delay: timedelta) -> None:
        """See `JobBackend`; as `settle` otherwise."""
        handout = _handout(delivery)
        if handout.is_lost():
            return
        pause_ns = int(delay.total_seconds() * 1e9)
        answer = GIVE_BACK
        if pause_ns > 0:
            answer += b" " + json.dumps({"delay": pause_ns}).encode()
        await self._answer(handout, answer)
        handout.is_over = True

    async def position(self, job: Job) -> int:
        """Return how many jobs are before a waiting one."""
        place = self._names.place(job.queue, job.key)

        async def look(jetstream: JetStreamContext) -> int:
            stream = await self._streams.queue(jetstream, job.queue)
            consumer = await jetstream.consumer_info(stream, WORKERS)
            message = await last_message(jetstream, stream, place)
            if message is None or message.seq is None:
                return 0
            delivered = 0 if consumer.delivered is None else consumer.delivered.stream_seq
            ahead = message.seq - delivered - 1
            return max(0, min(ahead, _waiting(consumer) - 1))

        return await self._connection.call(look)

    async def waiting(self, queue: str) -> int:
        """Return how many jobs wait in a queue."""

        async def look(jetstream: JetStreamContext) -> int:
            stream = await self._streams.queue(jetstream, queue)
            consumer = await jetstream.consumer_info(stream, WORKERS)
            if not consumer.num_pending:
                return 0
            # In a cluster the consumer's own count may stay too high after a server was killed.
            return min(_waiting(consumer), (await jetstream.stream_info(stream)).state.messages)

        return await self._connection.call(look)

    async def depths(self) -> Mapping[str, int]:
        """See `JobBackend`."""
        queues = await self._queues()
        waiting = await asyncio.gather(*(self.waiting(queue) for queue in queues))
        return {queue: jobs for queue, jobs in zip(queues, waiting, strict=True) if jobs}

    async def places(self, tenant: str) -> Sequence[str]:
        """Return the subjects of a tenant's places in all queues, for jobs that run as well."""
        wanted = self._names.tenant_places(tenant)

        async def look(queue: str, jetstream: JetStreamContext) -> Sequence[str]:
            stream = await self._streams.queue(jetstream, queue)
            info = await jetstream.stream_info(stream, subjects_filter=wanted)
            return tuple(info.state.subjects or ())

        queues = await self._queues()
        calls = (self._connection.call(partial(look, queue)) for queue in queues)
        return [place for found in await asyncio.gather(*calls) for place in found]

    async def delete(self, key: JobKey) -> None:
        """Remove a job's places in all queues."""

        async def remove(queue: str, jetstream: JetStreamContext) -> None:
            stream = await self._streams.queue(jetstream, queue)
            message = await last_message(jetstream, stream, self._names.place(queue, key))
            if message is not None and message.seq is not None:
                await remove_message(jetstream, stream, message.seq)

        for queue in await self._queues():
            await self._connection.call(partial(remove, queue))

    async def _queues(self) -> Sequence[str]:
        """Return the queues that there are streams of."""

        async def look(jetstream: JetStreamContext) -> Sequence[str]:
            streams: list[str] = []
            while True:
                page = await self._stream_names(len(streams))
                streams.extend(page["streams"] or ())
                if not page["streams"] or len(streams) >= page["total"]:
                    break
            return [queue for name in streams if (queue := self._names.queue_of(name))]

        return await self._connection.call(look)

    async def _stream_names(self, offset: int) -> dict[str, Any]:
        client = await self._connection.client()
        request = json.dumps({"subject": self._names.all_queued, "offset": offset}).encode()
        answer = json.loads(
            (await client.request(f"{DEFAULT_PREFIX}.STREAM.NAMES", request, timeout=1)).data
        )
        if "error" in answer:
            APIError.from_error(answer["error"])
        return dict(answer)

    def _in_turn(self, queues: Sequence[str]) -> Sequence[str]:
        """Return the queues, another first each time: none starves behind a long one."""
        first = next(self._turns) % len(queues) if queues else 0
        return [*queues[first:], *queues[:first]]

    async def _look(self, queues: Sequence[str]) -> Delivery | None:
        """Return the first job that waits, asking one queue after the other."""
        for queue in queues:
            delivery = await self._request([queue], 0.0)
            if delivery is not None:
                return delivery
        return None

    async def _request(self, queues: Sequence[str], wait_s: float) -> Delivery | None:
        """Return the first job that comes from any of some queues; others are given back."""
        for queue in queues:
            await self.make(queue)
        began = time.monotonic()
        streams = [self._names.queue_stream(queue) for queue in queues]
        first = FirstMessage(streams)
        with self._mailbox.receiving(first) as reply:
            try:
                client = await self._connection.client()
                for stream in streams:
                    await request_messages(client, stream, WORKERS, reply, batch=1, wait_s=wait_s)
            except nats.errors.Error:
                first.is_troubled = True
                message = None
            else:
                message = await first.wait(self._mailbox, wait_s + _ANSWER_S)
        if message is not None:
            return self._delivery(message, began)
        if first.is_troubled:
            # The consumer is gone, or the server has no room for the request, or is away.
            self._streams.forget()
            await asyncio.sleep(_TROUBLE_PAUSE_S)
        return None

    def _delivery(self, message: Msg, asked: float) -> Delivery | None:
        """Return a delivery, or None where this process was held up until it was another's."""
        now = time.monotonic()
        if now - asked > self._lease_s:
            return None
        place = json.loads(message.data)
        metadata = message.metadata
        handout = _Handout(message.reply, metadata.sequence.stream, now + self._lease_s)
        queue = self._names.queue_of(metadata.stream)
        assert queue is not None
        return Delivery(queue, JobKey(place["tenant"], place["job_id"]), handout)

    async def _answer(self, handout: _Handout, answer: bytes) -> None:
        """Send the consumer an answer to a message, until it says that it has it."""

        async def send(_: JetStreamContext) -> None:
            client = await self._connection.client()
            await client.request(handout.reply, answer, timeout=1)

        await self._connection.call(send)


def _handout(delivery: Delivery) -> _Handout:
    assert isinstance(delivery.token, _Handout)
    return delivery.token


def _waiting(consumer: ConsumerInfo) -> int:
    return consumer.num_pending or 0
