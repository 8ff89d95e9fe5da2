"""Streams that are there already, and what is put right when jobs and queues disagree."""

from __future__ import annotations

from datetime import timedelta

import nats
import pytest

from maskwire_server.app import Application
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.jobs.nats import NatsJobBackend
from maskwire_server.settings import Settings
from tests.support.job_backends import (
    LEASE,
    LONG,
    NOW,
    append,
    create,
    first_events,
    new_job,
    utc_now,
)

QUEUE = "inflate"


@pytest.fixture
async def jetstream(server):
    client = await nats.connect(server.url)
    yield client.jetstream()
    await client.close()


def new_backend(server, prefix: str, **options) -> NatsJobBackend:
    return NatsJobBackend([server.url], LEASE, prefix=prefix, **options)


async def test_a_stream_of_an_older_version_is_updated(server, jetstream):
    await jetstream.add_stream(name="old_JOBS", subjects=["old.job.>"], max_age=60, max_msgs=1000)
    # Its server does not tell of changes, and that cannot be altered: watchers look again instead.
    backend = new_backend(server, "old")
    await backend.open()
    try:
        job = await create(backend)
        await append(backend, job)
        assert len(await first_events(backend, job.key, 2)) == 2
    finally:
        await backend.close()
    config = (await jetstream.stream_info("old_JOBS")).config
    assert config.max_age == 0
    assert config.max_msgs == 1000  # an operator's own limit stays


async def test_a_stream_that_cannot_be_updated_is_named(server, jetstream):
    await jetstream.add_stream(name="odd_JOBS", subjects=["odd.job.>"], retention="workqueue")
    backend = new_backend(server, "odd")
    await backend.open()
    try:
        with pytest.raises(MaskwireError) as raised:
            await create(backend)
    finally:
        await backend.close()
    assert raised.value.code is ErrorCode.JOBS_UNAVAILABLE
    assert "odd_JOBS" in raised.value.message
    assert "retention" in raised.value.message


async def test_nothing_is_made_before_it_is_needed(server, jetstream):
    backend = new_backend(server, "unused")
    await backend.open()
    await backend.close()
    assert await jetstream.streams_info() == []


async def test_a_sweep_makes_queues_ahead_of_their_first_job(server, jetstream):
    backend = new_backend(server, "ahead", queues=[QUEUE, "segmentation"])
    await backend.open()
    try:
        # Two passes, and a worker's look between: what is there is left as it is.
        assert [found async for found in backend.expired(utc_now())] == []
        assert await backend.take([QUEUE], NOW) is None
        assert [found async for found in backend.expired(utc_now())] == []
        assert await backend.depths() == {}
    finally:
        await backend.close()
    made = {info.config.name for info in await jetstream.streams_info()}
    assert made == {"ahead_JOBS", f"ahead_QUEUE_{QUEUE}", "ahead_QUEUE_segmentation"}
    for stream in made - {"ahead_JOBS"}:
        (consumer,) = await jetstream.consumers_info(stream)
        assert consumer.name == "workers"


async def test_a_server_makes_the_queues_of_the_engines_that_it_takes_jobs_for(server, tmp_path):
    settings = Settings.read(
        grpc={"port": 0, "drain_notice_s": 0},
        metrics={"enabled": False},
        storage={"folder": tmp_path / "files"},
        jobs={"backend": "nats", "nats_url": server.url, "nats_prefix": "served", "workers": 0},
        reconstruction={"object_models": ["inflate", "sam3d-objects"], "body_models": []},
    )
    client = await nats.connect(server.url)
    created = await client.subscribe("$JS.EVENT.ADVISORY.STREAM.CREATED.*")
    await client.flush()
    application = await Application.start(settings)
    try:
        subjects = [(await created.next_msg(LONG.total_seconds())).subject for _ in range(4)]
    finally:
        await application.stop()
        await client.close()
    assert {subject.rpartition(".")[2] for subject in subjects} == {
        "served_JOBS",
        "served_QUEUE_segmentation",
        "served_QUEUE_inflate",
        "served_QUEUE_sam3d-objects",
    }


async def test_prefixes_and_tenants_share_nothing(server):
    one, another = new_backend(server, "one"), new_backend(server, "one_QUEUE_x")
    await one.open()
    await another.open()
    try:
        job = await create(one, queue=QUEUE)
        assert await another.load(job.key) is None
        assert await another.depths() == {}
        await create(another, queue="x")
        assert await one.depths() == {QUEUE: 1}
        for tenant in ("*", ">", "a.b", "", " "):
            hostile = await create(one, tenant=tenant)
            assert await one.load(hostile.key) == hostile
        assert [found async for found in one.expired(utc_now())] == []
    finally:
        await one.close()
        await another.close()


@pytest.mark.parametrize("repair", ["create", "sweep"])
async def test_a_job_whose_server_died_before_it_was_queued_is_queued(
    server, backend, jetstream, repair
):
    new = new_job(queue=QUEUE)
    job = await create(backend, queue=QUEUE, request_id=new.request_id)
    (stream,) = [
        info.config.name for info in await jetstream.streams_info() if "QUEUE" in info.config.name
    ]
    await jetstream.purge_stream(stream)
    assert await backend.take([QUEUE], NOW) is None
    if repair == "create":
        assert await create(backend, queue=QUEUE, request_id=new.request_id) == job
    else:
        assert [found async for found in backend.expired(utc_now())] == []
    assert (await backend.take([QUEUE], LONG)).key == job.key
    assert await backend.take([QUEUE], NOW) is None


async def test_a_place_without_a_job_does_no_harm(store):
    async with store.opened() as backend, store.ledger() as ledger:
        await backend.enqueue(QUEUE, new_job().key)
        assert await ledger.claim([QUEUE], LONG) is None
        assert await ledger.claim([QUEUE], timedelta(seconds=1)) is None
        assert await backend.depths() == {}
