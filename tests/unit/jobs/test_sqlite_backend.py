"""What is peculiar to jobs in SQLite: the file, those who share it, and what can go wrong."""

from __future__ import annotations

import asyncio
import os
import random
import re
import sqlite3
import stat
import subprocess
import sys
from collections import defaultdict
from contextlib import AsyncExitStack, closing
from datetime import timedelta
from pathlib import Path

import pytest

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.jobs.job import Job, JobFilter, JobKey, JobState
from maskwire_server.jobs.sqlite import schema
from tests.support.job_backends import (
    LONG,
    NOW,
    append,
    create,
    first_events,
    new_job,
    sqlite_store,
    utc_now,
)
from tests.support.job_writer import EVENTS

ROOT = Path(__file__).parents[3]
QUEUE = "segmentation"
SHORT = timedelta(milliseconds=50)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "jobs.sqlite"


@pytest.fixture
def store(tmp_path):
    return sqlite_store(tmp_path)


async def unavailable(awaitable) -> str:
    """Await what must fail because of the database, and return what it says."""
    with pytest.raises(MaskwireError) as raised:
        await awaitable
    assert raised.value.code is ErrorCode.JOBS_UNAVAILABLE
    return raised.value.message


async def test_nothing_is_made_before_the_first_job(tmp_path):
    folder = tmp_path / "a" / "b"
    async with sqlite_store(folder).opened() as backend:
        key = new_job().key
        assert await backend.load(key) is None
        assert (await backend.list("alice", JobFilter(), page_size=1, page_token="")).jobs == ()
        assert [event async for event in backend.events(key, 0)] == []
        assert [job async for job in backend.expired(utc_now())] == []
        assert await backend.take([QUEUE], SHORT) is None
        assert (await backend.depths(), await backend.queue_position(new_job())) == ({}, 0)
        await backend.delete(key)
        await backend.enqueue(QUEUE, key)
        assert not (tmp_path / "a").exists()
        await create(backend)
        assert stat.S_IMODE((folder / "jobs.sqlite").stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    # Whoever closes it last leaves one whole file.
    assert [path.name for path in folder.iterdir()] == ["jobs.sqlite"]


async def test_a_log_is_synced_before_a_write_is_acknowledged(store):
    async with store.opened() as backend:
        await create(backend)
        read = backend._database.read
        assert await read(lambda db: db.execute("PRAGMA synchronous").fetchone()) == (2,)
        assert await read(lambda db: db.execute("PRAGMA journal_mode").fetchone()) == ("wal",)
        assert await read(lambda db: db.execute("PRAGMA foreign_keys").fetchone()) == (1,)


async def test_many_may_make_the_file_at_once(store):
    async with AsyncExitStack() as stack:
        backends = [await stack.enter_async_context(store.opened()) for _ in range(8)]
        jobs = await asyncio.gather(*(create(backend) for backend in backends))
        for backend in backends:
            assert (await backend.depths())[QUEUE] == 8
            for job in jobs:
                assert await backend.load(job.key) == job


async def test_a_file_that_others_keep_locked_is_unavailable_to_writers(store, file):
    async with store.opened(busy_timeout=SHORT) as backend:
        job = await create(backend)
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            message = await unavailable(create(backend))
            assert str(file) not in message
            await unavailable(append(backend, job))
            await unavailable(backend.take([QUEUE], NOW))
            assert await backend.load(job.key) == job
            other.execute("ROLLBACK")
        await append(backend, job)


async def test_a_writer_waits_for_others(store, file):
    async with store.opened() as backend:
        job = await create(backend)
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            writing = asyncio.ensure_future(append(backend, job))
            await asyncio.wait([writing], timeout=0.1)
            assert not writing.done()
            other.execute("ROLLBACK")
            assert (await writing).last_event_sequence == 2


@pytest.mark.parametrize(
    "content",
    [b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000],
    ids=["text", "header"],
)
async def test_a_file_that_is_no_database_is_refused_and_left(store, file, content):
    file.write_bytes(content)
    backend = store.make()
    await unavailable(backend.open())
    await unavailable(create(backend))
    await unavailable(backend.take([QUEUE], LONG))
    await backend.close()
    assert file.read_bytes() == content


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (["CREATE TABLE notes (text)"], "something else"),
        (["PRAGMA user_version = 1"], "something else"),
        (["PRAGMA application_id = 7"], "something else"),
        (
            [f"PRAGMA application_id = {schema.APPLICATION_ID}", "PRAGMA user_version = 99"],
            "version 99, this program knows 1",
        ),
    ],
)
async def test_a_database_that_is_not_ours_is_refused_and_left(store, file, statements, message):
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        for statement in ["PRAGMA journal_mode = WAL", *statements]:
            other.execute(statement)
        before = other.execute("SELECT count(*) FROM sqlite_master").fetchone()
    backend = store.make()
    assert message in await unavailable(backend.open())
    assert message in await unavailable(create(backend))
    await backend.close()
    with closing(sqlite3.connect(file)) as other:
        assert other.execute("SELECT count(*) FROM sqlite_master").fetchone() == before


async def test_a_database_of_an_earlier_release_gets_its_index(store, file):
    """Programs of that release go on with it: the version of its tables is the same."""
    async with store.opened() as backend:
        job = await create(backend)
    with closing(sqlite3.connect(file)) as other:
        other.execute("DROP INDEX jobs_unfinished")
    async with store.opened() as backend:
        assert await backend.has_unfinished(job.key.tenant, 1)
        assert not await backend.has_unfinished(job.key.tenant, 2)


def test_the_index_is_of_the_states_that_are_not_done():
    states = {state.value for state in JobState if not state.is_done}
    assert set(re.findall(r"'(\w+)'", schema.UNFINISHED)) == states


async def test_a_file_that_is_damaged_while_it_is_open_is_unavailable(store, file):
    async with store.opened() as backend:
        job = await create(backend)
    async with store.opened() as backend:
        assert await backend.load(job.key) == job
        size = file.stat().st_size
        with file.open("r+b") as opened:
            opened.seek(100)
            opened.write(os.urandom(size - 100))
        watching = asyncio.ensure_future(first_events(backend, job.key, 9))
        await unavailable(append(backend, job))
        await unavailable(watching)


async def test_a_file_that_was_removed_is_made_again_for_all(store, file):
    async with store.opened() as backend, store.opened() as other:
        lost = await create(backend)
        assert await other.load(lost.key) == lost
        for path in file.parent.iterdir():
            path.unlink()
        assert await backend.load(lost.key) is None
        taking = asyncio.ensure_future(other.take([QUEUE], LONG))
        job = await create(backend)
        assert (await taking).key == job.key
        assert await other.load(job.key) == job


async def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path):
    (tmp_path / "taken").write_text("a file")
    async with sqlite_store(tmp_path / "other").opened() as backend:
        (tmp_path / "other").write_text("a file, by now")
        await unavailable(create(backend))
    await unavailable(sqlite_store(tmp_path / "taken").make().open())


async def test_what_a_cancelled_caller_began_is_done_wholly_or_not_at_all(store):
    chance = random.Random(4)
    async with store.opened() as backend:
        jobs = [new_job() for _ in range(60)]
        tasks = [asyncio.ensure_future(create(backend, request_id=job.request_id)) for job in jobs]
        for task in chance.sample(tasks, 40):
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        there = 0
        for job, result in zip(jobs, results, strict=True):
            kept = await backend.load(job.key)
            assert kept is not None or isinstance(result, asyncio.CancelledError)
            if kept is not None:
                there += 1
                assert len(await first_events(backend, job.key, 1)) == 1
        assert (await backend.depths())[QUEUE] == there
        assert there >= 20


async def test_what_a_cancelled_caller_wrote_wakes_those_who_wait(store):
    async with store.opened() as backend:
        job = await create(backend)
        watching = asyncio.ensure_future(first_events(backend, job.key, 2))
        await backend.depths()
        writing = asyncio.ensure_future(append(backend, job))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        writing.cancel()
        await asyncio.wait([writing])
        if (await backend.load(job.key)).last_event_sequence == 1:
            await append(backend, job)
        assert len(await watching) == 2


async def test_a_clock_that_is_set_back_hides_no_new_job(store):
    ahead = [timedelta(hours=2)]

    def now():
        return utc_now() + ahead[0]

    async with store.opened(now=now) as backend:
        job = await create(backend)
        ahead[0] = timedelta(0)
        assert (await backend.take([QUEUE], LONG)).key == job.key


async def test_a_closed_backend_is_unavailable(store):
    async with store.opened() as backend:
        job = await create(backend)
    await unavailable(backend.load(job.key))
    await unavailable(append(backend, job))
    assert await backend.take([QUEUE], LONG) is None
    await backend.close()


def start_writer(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.job_writer", str(folder), *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


async def check_all_is_there(backend, lines) -> int:
    """Check that all that was acknowledged is there, without gaps, and return how many jobs are."""
    told: dict[str, int] = defaultdict(int)
    for line in lines:
        if match := re.fullmatch(r"(?:created|appended) ([0-9a-f]{32})(?: ([0-9]+))?\n", line):
            told[match[1]] = int(match[2] or 1)
    assert told
    jobs: dict[str, Job] = {}
    token = ""
    while True:
        page = await backend.list("alice", JobFilter(), page_size=100, page_token=token)
        jobs |= {job.key.job_id: job for job in page.jobs}
        token = page.next_page_token
        if not token:
            break
    for job_id, sequence in told.items():
        assert jobs[job_id].last_event_sequence >= sequence
    for job_id, job in jobs.items():
        assert job.last_event_sequence <= EVENTS
        events = await first_events(backend, JobKey("alice", job_id), job.last_event_sequence)
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert (await backend.depths())[QUEUE] == len(jobs)
    return len(jobs)


async def kill_in_the_middle(store, tmp_path, chance) -> None:
    """Kill a process that writes, while this one has the file open too."""
    async with store.opened() as backend:
        mine = await create(backend, tenant="bob", queue="inflate")
        writer = start_writer(tmp_path)
        told = writer.stdout
        assert told is not None
        with told:
            wanted = chance.randrange(1, 200)
            lines = [await asyncio.to_thread(told.readline) for _ in range(wanted)]
            writer.kill()
            lines += await asyncio.to_thread(told.readlines)
        writer.wait()
        count = await check_all_is_there(backend, lines)
        for _ in range(count):
            assert await backend.take([QUEUE], NOW) is not None
        await append(backend, mine)
    async with store.opened() as backend:
        check = await backend._database.read(
            lambda db: db.execute("PRAGMA integrity_check").fetchall()
        )
        assert check == [("ok",)]


async def test_all_that_was_acknowledged_survives_a_kill(store, tmp_path):
    await kill_in_the_middle(store, tmp_path, random.Random(1))


@pytest.mark.robustness
@pytest.mark.parametrize("seed", range(20))
async def test_all_that_was_acknowledged_survives_any_kill(store, tmp_path, seed):
    await kill_in_the_middle(store, tmp_path, random.Random(seed))


async def test_a_full_disk_loses_nothing_and_is_over_once_there_is_room(store, tmp_path):
    writer = start_writer(tmp_path, str(300_000))
    lines = (await asyncio.to_thread(writer.communicate))[0].splitlines(keepends=True)
    assert writer.returncode == 0
    assert lines[-3:-1] == ["failed JOBS_UNAVAILABLE\n", f"reads {QUEUE}\n"]
    assert len(lines) > 8
    async with store.opened() as backend:
        await check_all_is_there(backend, lines)
