"""Records and events in one stream: a job's messages are its events, each with the record after.

The last message is the record as it stands, so that a record and its event cannot diverge. A
message is written on condition that the one it follows is still the last: the server's own
compare-and-set.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, Header, RawStreamMsg
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from ...domain.errors import MaskwireError
from ...domain.jobs.job import Job, JobEvent, JobKey
from ..records import event_from_json, event_to_json, job_from_json, job_to_json
from .connection import NO_MESSAGE, NatsConnection
from .mailbox import Batch, Mailbox, request_messages
from .names import Names
from .streams import Streams

WRONG_LAST_SEQUENCE = (10071, 10164)
"""The server's codes for: another message came in between."""

_GONE_ALREADY = (10043, 10057)
_WRITE_ID = "Maskwire-Write-Id"
_REMEMBERED_JOBS = 4096
_BATCH = 256
_BATCH_TIMEOUT_S = 2.0
_SCAN_IDLE_S = 60.0
# A change is told of by the server; this is for one that was told while nobody was connected.
_LOOK_AGAIN_S = 1.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """One message: an event, the record after it, and where in the stream it is."""

    job: Job
    event: JobEvent
    position: int


class Journal:
    """The stream of records and events."""

    def __init__(
        self, connection: NatsConnection, names: Names, streams: Streams, mailbox: Mailbox
    ) -> None:
        self._connection = connection
        self._names = names
        self._streams = streams
        self._mailbox = mailbox
        # Version and position of records last seen: saves reading again before a write.
        self._seen: OrderedDict[JobKey, tuple[int, int]] = OrderedDict()

    async def load(self, key: JobKey) -> Entry | None:
        """Return the record of a job as it stands."""
        entry = await self._get(key, after=None)
        if entry is None:
            self._seen.pop(key, None)
        else:
            self._remember(key, entry.event.sequence, entry.position)
        return entry

    async def latest(self, subject: str) -> Entry | None:
        """Return the record of the job with a subject, as it stands."""
        return await self._get_from(subject, after=None)

    async def write_first(self, job: Job, event: JobEvent) -> bool:
        """Write a new job; False where there is one."""
        return await self._write(job, event, follows=0)

    async def append(self, job: Job, event: JobEvent) -> bool:
        """Write the next record; False where the job is not at the version before it."""
        before = event.sequence - 1
        if before < 1:
            return False
        version, position = self._seen.get(job.key, (0, 0))
        if version != before:
            entry = await self.load(job.key)
            if entry is None or entry.event.sequence != before:
                return False
            position = entry.position
        return await self._write(job, event, follows=position)

    async def delete(self, key: JobKey) -> None:
        """Remove a job's record and events.

        The record goes last: what is left by a crash in between is the job as it was. One by one,
        because nats-server 2.9 makes all consumers skip what they have not read when a subject is
        purged.
        """
        self._seen.pop(key, None)
        while (last := await self._get(key, after=None)) is not None:
            position = 0
            while position < last.position:
                first = await self._get(key, after=position)
                if first is None:
                    break
                position = first.position
                await self._connection.call(partial(self._remove, position=position))
        client = await self._connection.client()
        with suppress(
            nats.errors.Error
        ):  # watchers that do not hear of it look again by themselves
            await client.publish(self._names.changes(key))

    async def follow(self, key: JobKey, after_sequence: int) -> AsyncGenerator[JobEvent, None]:
        """Yield a job's events after a sequence, then those to come, until it is gone or we close.

        The server says that there is something new; what it is, is read from the stream, after the
        position of the last. So nothing is lost or repeated, whatever happens to the connection.
        """
        if await self.load(key) is None:
            return
        changed = asyncio.Event()
        sequence, position = 0, 0
        with self._connection.waking(changed):
            async with self._told(key, changed):
                while not self._connection.is_closed:
                    changed.clear()
                    try:
                        async with aclosing(self._since(key, position)) as entries:
                            async for entry in entries:
                                if entry.event.sequence <= sequence:
                                    return  # the job was removed and made again
                                sequence, position = entry.event.sequence, entry.position
                                if sequence > after_sequence:
                                    yield entry.event
                        if not changed.is_set() and await self._get(key, after=None) is None:
                            return
                    except MaskwireError:
                        pass  # the log has it; look again once there is a connection
                    await _wait(changed, _LOOK_AGAIN_S)

    async def newest(self, subject: str) -> AsyncGenerator[Entry, None]:
        """Yield the records, as they stand, of all jobs with a subject."""
        async with aclosing(self._scan(subject, DeliverPolicy.LAST_PER_SUBJECT)) as entries:
            async for entry in entries:
                yield entry

    async def _since(self, key: JobKey, position: int) -> AsyncGenerator[Entry, None]:
        """Yield what there is after a position: all in a few batches, a few one by one."""
        if position == 0:
            async with aclosing(self._scan(self._names.job(key), DeliverPolicy.ALL)) as entries:
                async for entry in entries:
                    yield entry
            return
        while (found := await self._get(key, after=position)) is not None:
            position = found.position
            yield found

    async def _get(self, key: JobKey, after: int | None) -> Entry | None:
        """Return the last entry of a job, or the first after a position."""
        return await self._get_from(self._names.job(key), after)

    async def _get_from(self, subject: str, after: int | None) -> Entry | None:
        async def get(jetstream: JetStreamContext) -> RawStreamMsg | None:
            stream = await self._streams.jobs(jetstream)
            return await _message(jetstream, stream, subject, after)

        message = await self._connection.call(get)
        return None if message is None else _entry_of_stored(message)

    async def _write(self, job: Job, event: JobEvent, follows: int) -> bool:
        """Write an entry if the job's last is at a position; 0 means that there is none."""
        subject = self._names.job(job.key)
        content = {"event": event_to_json(event), "job": job_to_json(job)}
        data = json.dumps(content, separators=(",", ":")).encode()
        write_id = uuid4().hex

        async def publish(jetstream: JetStreamContext) -> int | None:
            stream = await self._streams.jobs(jetstream)
            headers = {Header.EXPECTED_LAST_SUBJECT_SEQUENCE: str(follows), _WRITE_ID: write_id}
            try:
                return (await jetstream.publish(subject, data, headers=headers)).seq
            except APIError as error:
                if error.err_code not in WRONG_LAST_SEQUENCE:
                    raise
            # Either somebody else was first, or we were, in an attempt whose answer was lost.
            first = await _message(jetstream, stream, subject, follows)
            if first is not None:
                return first.seq if _write_id(first) == write_id else None
            if follows and await _message(jetstream, stream, subject, None) is None:
                return None  # the job was deleted
            raise ServiceUnavailableError  # what came in between cannot be read yet

        self._seen.pop(job.key, None)
        position = await self._connection.call(publish)
        if position is None:
            return False
        self._remember(job.key, event.sequence, position)
        return True

    async def _scan(self, subject: str, policy: DeliverPolicy) -> AsyncGenerator[Entry, None]:
        """Yield what the stream has of a subject now, batch by batch."""
        stream, consumer, left = await self._connection.call(
            lambda jetstream: self._make_reader(jetstream, subject, policy)
        )
        try:
            while left > 0:
                client = await self._connection.client()
                batch, size = Batch(consumer), min(left, _BATCH)
                with self._mailbox.receiving(batch) as reply:
                    await request_messages(client, stream, consumer, reply, batch=size, wait_s=1)
                    for _ in range(size):
                        message = await batch.next(_BATCH_TIMEOUT_S)
                        if message is None:  # the rest was removed meanwhile
                            return
                        left -= 1
                        entry = _entry_of_delivered(message)
                        if entry is not None:
                            yield entry
        finally:
            self._connection.spawn(partial(self._connection.drop_consumer, stream, consumer))

    async def _remove(self, jetstream: JetStreamContext, position: int) -> None:
        await remove_message(jetstream, self._names.jobs_stream, position)

    async def _make_reader(
        self, jetstream: JetStreamContext, subject: str, policy: DeliverPolicy
    ) -> tuple[str, str, int]:
        """Make a consumer that forgets itself; return its stream, name and number of messages."""
        stream = await self._streams.jobs(jetstream)
        config = ConsumerConfig(
            deliver_policy=policy,
            ack_policy=AckPolicy.NONE,
            filter_subject=subject,
            inactive_threshold=_SCAN_IDLE_S,
            mem_storage=True,
            num_replicas=1,
        )
        made = await jetstream.add_consumer(stream, config)
        return stream, made.name, made.num_pending or 0

    @asynccontextmanager
    async def _told(self, key: JobKey, changed: asyncio.Event) -> AsyncGenerator[None, None]:
        """Have an event set at every change of a job, as long as the context lasts."""

        async def tell(_: Msg) -> None:
            changed.set()

        client = await self._connection.client()
        subscription = await client.subscribe(self._names.changes(key), cb=tell)
        try:
            yield
        finally:
            with suppress(nats.errors.Error):
                await subscription.unsubscribe()

    def _remember(self, key: JobKey, version: int, position: int) -> None:
        self._seen[key] = (version, position)
        self._seen.move_to_end(key)
        if len(self._seen) > _REMEMBERED_JOBS:
            self._seen.popitem(last=False)


async def remove_message(jetstream: JetStreamContext, stream: str, position: int) -> None:
    """Remove a message of a stream, if it is there."""
    try:
        await jetstream.delete_msg(stream, position)
    except APIError as error:
        if error.err_code not in _GONE_ALREADY:
            raise


async def last_message(
    jetstream: JetStreamContext, stream: str, subject: str
) -> RawStreamMsg | None:
    """Return the last message of a subject."""
    return await _message(jetstream, stream, subject, None)


async def _message(
    jetstream: JetStreamContext, stream: str, subject: str, after: int | None
) -> RawStreamMsg | None:
    """Return the last message of a subject, or the first after a position.

    Asked of the stream's leader: another server may be behind.
    """
    try:
        if after is None:
            return await jetstream.get_last_msg(stream, subject)
        return await jetstream.get_msg(stream, seq=after + 1, subject=subject, next=True)
    except NotFoundError as error:
        if error.err_code != NO_MESSAGE:
            raise
        return None


def _write_id(message: RawStreamMsg) -> str | None:
    return (message.headers or {}).get(_WRITE_ID)


def _entry_of_stored(message: RawStreamMsg) -> Entry:
    assert message.seq is not None
    return _entry(message.data or b"", message.seq)


def _entry_of_delivered(message: Msg) -> Entry | None:
    """Return an entry; None for one that this version cannot read, so that the others are read."""
    position = message.metadata.sequence.stream
    try:
        return _entry(message.data, position)
    except (KeyError, ValueError) as error:
        _log.error("a job's record cannot be read", position=position, exc_info=error)
        return None


def _entry(data: bytes, position: int) -> Entry:
    content = json.loads(data)
    return Entry(job_from_json(content["job"]), event_from_json(content["event"]), position)


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
