"""The streams and consumers of a deployment: how they are set up, and that they are."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RePublish,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import APIError, NotFoundError

from ...domain.errors import ErrorCode, MaskwireError
from .names import WORKERS, Names

MAX_MESSAGE_BYTES = 2**20
"""Largest record with its event; the server's own limit is by default as high."""

# What is compared with a stream that is there: an operator may set anything else. Not `republish`,
# which some servers cannot change: watchers look again by themselves, only later.
_COMPARED = (
    "subjects",
    "retention",
    "storage",
    "num_replicas",
    "max_msgs_per_subject",
    "max_age",
)

_log = structlog.get_logger(__name__)


class Streams:
    """Makes streams and consumers when they are first needed, once each.

    Args:
        names: What they are called.
        lease: How long a delivery is a worker's.
        replicas: On how many servers each stream is.
    """

    def __init__(self, names: Names, lease: timedelta, replicas: int) -> None:
        self._names = names
        self._lease_s = lease.total_seconds()
        self._replicas = replicas
        self._known: set[str] = set()
        self._making = asyncio.Lock()

    def forget(self) -> None:
        """Look again at everything when it is next needed."""
        self._known.clear()

    async def jobs(self, jetstream: JetStreamContext) -> str:
        """Return the stream of records, which is there.

        Raises:
            MaskwireError: `JOBS_UNAVAILABLE` where there is one that cannot be set up as it must.
        """
        name = self._names.jobs_stream
        if name not in self._known:
            async with self._making:
                if name not in self._known:
                    await _ensure(jetstream, self._jobs_config())
                    self._known.add(name)
        return name

    async def queue(self, jetstream: JetStreamContext, queue: str) -> str:
        """Return the stream of a queue, which is there and has its consumer; errors as `jobs`."""
        name = self._names.queue_stream(queue)
        if name not in self._known:
            async with self._making:
                if name not in self._known:
                    await _ensure(jetstream, self._queue_config(queue))
                    await jetstream.add_consumer(name, self._consumer_config())
                    self._known.add(name)
        return name

    def _jobs_config(self) -> StreamConfig:
        names = self._names
        return StreamConfig(
            name=names.jobs_stream,
            subjects=[names.all_jobs],
            retention=RetentionPolicy.LIMITS,
            discard=DiscardPolicy.NEW,
            storage=StorageType.FILE,
            num_replicas=self._replicas,
            max_age=0,
            max_msgs_per_subject=-1,
            max_msg_size=MAX_MESSAGE_BYTES,
            # Tells watchers that there is something to read, only after it was stored.
            republish=RePublish(src=names.all_jobs, dest=names.all_changes, headers_only=True),
        )

    def _queue_config(self, queue: str) -> StreamConfig:
        return StreamConfig(
            name=self._names.queue_stream(queue),
            subjects=[self._names.queue_subjects(queue)],
            retention=RetentionPolicy.WORK_QUEUE,
            discard=DiscardPolicy.NEW,
            storage=StorageType.FILE,
            num_replicas=self._replicas,
            max_age=0,
            max_msgs_per_subject=-1,
            max_msg_size=MAX_MESSAGE_BYTES,
        )

    def _consumer_config(self) -> ConsumerConfig:
        return ConsumerConfig(
            durable_name=WORKERS,
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self._lease_s,
            max_deliver=-1,  # attempts are counted in the record
            max_ack_pending=20_000,
            max_waiting=2048,
        )


async def _ensure(jetstream: JetStreamContext, wanted: StreamConfig) -> None:
    name = wanted.name
    assert name is not None
    try:
        present = (await jetstream.stream_info(name)).config
    except NotFoundError:
        await jetstream.add_stream(wanted)
        return
    changes = {
        field: getattr(wanted, field)
        for field in _COMPARED
        if (getattr(present, field) or None) != (getattr(wanted, field) or None)
    }
    if not changes:
        return
    try:
        await jetstream.update_stream(present.evolve(**changes))
    except APIError as error:
        _log.error("a stream is set up otherwise", stream=name, refused=changes, error=repr(error))
        raise MaskwireError(
            ErrorCode.JOBS_UNAVAILABLE,
            f"the NATS stream {name} is there with another {', '.join(changes)}",
            resource=name,
        ) from error
