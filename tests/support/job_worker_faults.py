"""The ways in which workers, backends, disks and callers fail while a job runs.

Each fault is a function of an arena and a random generator; it returns the jobs that it harmed and
how they must end. `job_worker_arena.examine` then counts what was lost, done twice, left hanging or
not told.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import aclosing, closing
from dataclasses import replace

from maskwire_server.domain.errors import ErrorCode
from maskwire_server.domain.jobs.job import JobState
from tests.support.job_worker_arena import HUNG_S, Arena, Harmed
from tests.support.job_worker_child import script, work
from tests.support.job_worker_world import appeared, contents_in, is_running
from tests.support.stores import LIMITS as FILE_LIMITS

Fault = Callable[[Arena, random.Random], Awaitable[Harmed]]

LEASE_S = 1.5
"""Of the faults that end it: they wait for it, and a machine's pause must not end the next one."""

KEPT_LEASE_S = 15.0
"""Of the faults that leave the worker alone: a machine that pauses for a second must not end it."""

BUSY_TIMEOUT_S = 0.2
"""How long workers wait for a database that another process has locked."""


async def worker_killed(arena: Arena, chance: random.Random) -> Harmed:
    """The worker's process is killed while a job runs; another has it after the lease."""
    worker = await arena.world.worker_process()
    harmed = await arena.submit(_long_at_first(30.0), JobState.SUCCEEDED, range(2, 3))
    await arena.running(harmed)
    await asyncio.sleep(chance.uniform(0.0, 0.5))
    worker.end()
    async with arena.world.workers():
        await _settled(harmed)
    return harmed


async def child_killed(arena: Arena, chance: random.Random) -> Harmed:
    """The child is killed while a job runs; its worker tries again at once."""
    began, go = arena.world.folder / "began", arena.world.folder / "go"
    step = {"do": "until", "began": str(began), "file": str(go), "attempts": [1]}
    async with arena.world.workers():
        harmed = await arena.submit(script(step), JobState.SUCCEEDED, range(2, 3))
        child = int(await appeared(began))
        await asyncio.sleep(chance.uniform(0.0, 0.5))
        subprocess.run(["kill", "-9", str(child)], check=True)  # noqa: ASYNC221 (takes 1 ms)
        await _settled(harmed)
    return harmed


async def worker_frozen(arena: Arena, chance: random.Random) -> Harmed:
    """The worker is frozen for longer than its lease and wakes up while another has the job.

    Its child goes on meanwhile, so that some find a result to commit when they wake.
    """
    frozen = await arena.world.worker_process()
    first_s, second_s = chance.choice([0.3, 30.0]), chance.choice([0.0, 0.8])
    payload = script(
        work("first", first_s, attempts=[1]),
        work("second", second_s, attempts=[2, 3]),
    )
    harmed = await arena.submit(payload, JobState.SUCCEEDED, range(2, 3))
    await arena.running(harmed)
    frozen.signal(signal.SIGSTOP)
    async with arena.world.workers():
        if chance.random() < 0.5:
            await arena.world.until(harmed.job.key, attempt=2)
        else:
            await _settled(harmed)
        frozen.signal(signal.SIGCONT)
        await _settled(harmed)
    # The worker that woke up is of use again.
    after = await arena.world.submit(script(work("first", 0.0)))
    await arena.world.audited(after.key, JobState.SUCCEEDED)
    frozen.end()
    return harmed


async def late_commit(arena: Arena, chance: random.Random) -> Harmed:
    """A worker commits its result when its lease has passed and another has the job."""
    folder = arena.world.folder
    holding, go, began, finish = (folder / name for name in ("holding", "go", "began", "finish"))
    late = await arena.world.worker_process(hold_commit=[str(holding), str(go)])
    until = {"do": "until", "began": str(began), "file": str(finish), "attempts": [2]}
    payload = script(work("first", chance.uniform(0.0, 0.3), attempts=[1]), until)
    harmed = await arena.submit(payload, JobState.SUCCEEDED, range(2, 3))
    await appeared(holding)
    async with arena.world.workers():
        await appeared(began)
        await asyncio.to_thread(go.write_text, "go")
        await asyncio.to_thread(late.wait_for_line, "a job was another worker's at the end")
        await asyncio.to_thread(finish.write_text, "finish")
        await _settled(harmed)
    late.end()
    return harmed


async def worker_stopped(arena: Arena, chance: random.Random) -> Harmed:
    """The worker is told to stop while a job runs; it hands the job back."""
    worker = await arena.world.worker_process()
    payload = script(work("first", 30.0, attempts=[1, 2, 3]))
    harmed = await arena.submit(payload, JobState.SUCCEEDED, range(4, 5))
    for attempt in range(1, 4):  # as often as a job may fail
        await arena.world.until(harmed.job.key, stage="first", attempt=attempt)
        await asyncio.sleep(chance.uniform(0.0, 0.1))
        worker.signal(signal.SIGTERM)
        if attempt < 3:
            worker, old = await arena.world.worker_process(), worker
            await asyncio.to_thread(old.wait)
    async with arena.world.workers():
        await _settled(harmed)
    return harmed


async def backend_gone(arena: Arena, chance: random.Random) -> Harmed:
    """The NATS server is killed and restarted, or the database locked, while a job runs."""
    worker = await arena.world.worker_process(busy_timeout_s=BUSY_TIMEOUT_S)
    harmed = await arena.submit(script(work("first", 0.8), work("second", 0.8)), JobState.SUCCEEDED)
    await arena.running(harmed)
    await asyncio.sleep(chance.uniform(0.0, 0.5))
    for_s = chance.uniform(0.1, 2.0)
    if arena.server is not None:
        await asyncio.to_thread(arena.server.kill)
        await asyncio.sleep(for_s)
        await asyncio.to_thread(arena.server.start)
    else:
        with closing(sqlite3.connect(arena.world.place.address)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            await asyncio.sleep(BUSY_TIMEOUT_S + for_s)
            connection.rollback()
    await _settled(harmed)
    worker.end()
    return harmed


async def crash_before_commit(arena: Arena, chance: random.Random) -> Harmed:
    """The worker dies after it stored a result and before it committed it."""
    mark = arena.world.folder / "crashed"
    worker = await arena.world.worker_process(crash_in_commit=str(mark))
    payload = script(work("first", chance.uniform(0.0, 0.3)), result_bytes=chance.randrange(2**21))
    harmed = await arena.submit(payload, JobState.SUCCEEDED, range(2, 3))
    await asyncio.to_thread(worker.wait)
    assert mark.exists()
    async with arena.world.workers():
        await _settled(harmed)
    return harmed


async def poison(arena: Arena, chance: random.Random) -> Harmed:
    """A job kills whatever runs it."""
    name = chance.choice(["SIGSEGV", "SIGABRT", "SIGKILL"])
    async with arena.world.workers(2):
        harmed = await arena.submit(
            script({"do": "signal", "signal": name}), JobState.FAILED, range(3, 4)
        )
        await _settled(harmed)
    failed = await arena.world.ledger.get(harmed.job.key)
    assert failed.failure is not None
    assert failed.failure.code is ErrorCode.WORKER_LOST
    assert name in failed.failure.message
    return harmed


async def disk_full(arena: Arena, chance: random.Random) -> Harmed:
    """The worker's disk takes no result; another's does."""
    worker = await arena.world.worker_process(max_file_bytes=6 * 2**20)
    payload = script(work("first", 0.0), result_bytes=chance.randrange(8, 12) * 2**20)
    harmed = await arena.submit(payload, JobState.SUCCEEDED, range(2, 4))
    await arena.world.until(harmed.job.key, state=JobState.QUEUED, attempt=1)
    worker.end()
    async with arena.world.workers():
        await _settled(harmed)
    return harmed


async def quota_full(arena: Arena, chance: random.Random) -> Harmed:
    """The tenant may store no more: trying again would not help."""
    limits = replace(FILE_LIMITS, max_tenant_bytes=2**20)
    with contents_in(arena.world.folder / "contents", limits) as contents:
        async with arena.world.workers(contents=contents):
            payload = script(work("first", 0.0), result_bytes=chance.randrange(2**20, 2**22))
            harmed = await arena.submit(payload, JobState.FAILED, range(1, 2))
            await _settled(harmed)
    failed = await arena.world.ledger.get(harmed.job.key)
    assert failed.failure is not None
    assert failed.failure.code is ErrorCode.QUOTA_EXCEEDED
    return harmed


async def cancelled_in_queue(arena: Arena, chance: random.Random) -> Harmed:
    """A job is cancelled while it waits, just as a worker may take it."""
    harmed = await arena.submit(script(work("first", 30.0)), JobState.CANCELLED, range(2))
    async with arena.world.workers():
        await asyncio.sleep(chance.uniform(0.0, 0.05))
        await arena.world.ledger.cancel(harmed.job.key)
        await _settled(harmed)
    return harmed


async def cancelled_at_work(arena: Arena, chance: random.Random) -> Harmed:
    """A job is cancelled while it runs and says how far it is."""
    async with arena.world.workers():
        harmed = await arena.submit(script(work("first", 30.0)), JobState.CANCELLED, range(1, 2))
        await arena.running(harmed)
        await asyncio.sleep(chance.uniform(0.0, 0.5))
        await arena.world.ledger.cancel(harmed.job.key)
        await _settled(harmed)
    return harmed


async def cancelled_when_stuck(arena: Arena, chance: random.Random) -> Harmed:
    """A job is cancelled that hears nothing, in native code."""
    began = arena.world.folder / "began"
    stuck = {"do": "stuck", "began": str(began), "holds_lock": chance.random() < 0.5}
    async with arena.world.workers(stall_timeout_s=600.0):
        harmed = await arena.submit(script(stuck), JobState.CANCELLED, range(1, 2))
        child = int(await appeared(began))
        await arena.world.ledger.cancel(harmed.job.key)
        await _settled(harmed)
        assert not is_running(child)
    return harmed


async def cancelled_at_commit(arena: Arena, chance: random.Random) -> Harmed:
    """A job is cancelled when its result is stored and not committed."""
    holding, go = arena.world.folder / "holding", arena.world.folder / "go"
    worker = await arena.world.worker_process(hold_commit=[str(holding), str(go)])
    payload = script(work("first", chance.uniform(0.0, 0.2)))
    # Where the lease ends meanwhile, the same worker takes it again and finds it cancelled.
    harmed = await arena.submit(payload, JobState.CANCELLED, range(1, 3))
    await appeared(holding)
    await arena.world.ledger.cancel(harmed.job.key)
    await asyncio.to_thread(go.write_text, "go")
    await _settled(harmed)
    worker.end()
    return harmed


async def watcher_killed(arena: Arena, chance: random.Random) -> Harmed:
    """The process that tells the caller of a job is killed; another tells from there on."""
    place = arena.world.place
    harmed = await arena.submit(script(work("first", 1.0)), JobState.SUCCEEDED, range(1, 2))
    key = harmed.job.key
    settings = {
        "kind": place.kind,
        "address": place.address,
        "prefix": place.prefix,
        "tenant": key.tenant,
        "job_id": key.job_id,
    }
    async with arena.world.workers():
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.job_watch_main", json.dumps(settings)),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        told = [int(await process.stdout.readline()) for _ in range(chance.randrange(1, 5))]
        process.kill()
        told += [int(line) for line in (await process.stdout.read()).splitlines()]
        await process.wait()
        told += [one.sequence for one in await arena.world.events(key, told[-1])]
    done = await arena.world.ledger.get(key)
    assert told == list(range(1, done.last_event_sequence + 1))
    return harmed


async def caller_vanished(arena: Arena, chance: random.Random) -> Harmed:
    """The caller goes away in the middle, and comes back with the same request."""
    request_id = f"{chance.randrange(2**32):08x}-0000-4000-8000-000000000000"
    payload = script(work("first", 0.5))
    async with arena.world.workers():
        harmed = await arena.submit(payload, JobState.SUCCEEDED, range(1, 2), request_id=request_id)
        told: list[int] = []
        async with aclosing(arena.world.ledger.watch(harmed.job.key, 0)) as events:
            most = chance.randrange(1, 6)
            async for event in events:
                told.append(event.sequence)
                if len(told) == most:
                    break
        await asyncio.sleep(chance.uniform(0.0, 1.0))
        again = await arena.world.submit(payload, request_id=request_id)
        assert again.key == harmed.job.key
        assert again.create_time == harmed.job.create_time
        told += [one.sequence for one in await arena.world.events(again.key, told[-1])]
        await _settled(harmed)
    done = await arena.world.ledger.get(harmed.job.key)
    assert told == list(range(1, done.last_event_sequence + 1))
    return harmed


FAULTS: dict[str, Fault] = {
    "worker kill -9 mid-job": worker_killed,
    "child kill -9 mid-job": child_killed,
    "worker SIGSTOP past its lease, woken": worker_frozen,
    "worker commits after its lease": late_commit,
    "worker SIGTERM, three times": worker_stopped,
    "backend gone and back": backend_gone,
    "crash between upload and commit": crash_before_commit,
    "poison job": poison,
    "disk full": disk_full,
    "quota full": quota_full,
    "cancel while queued": cancelled_in_queue,
    "cancel while running": cancelled_at_work,
    "cancel while stuck": cancelled_when_stuck,
    "cancel at commit": cancelled_at_commit,
    "watching process kill -9": watcher_killed,
    "caller vanishes and re-attaches": caller_vanished,
}


_KEEP_THE_LEASE = {
    child_killed,
    worker_stopped,
    poison,
    quota_full,
    cancelled_at_work,
    cancelled_when_stuck,
    watcher_killed,
    caller_vanished,
}


def lease_s_of(name: str) -> float:
    """Return how long leases are while a fault happens."""
    return KEPT_LEASE_S if FAULTS[name] in _KEEP_THE_LEASE else LEASE_S


def _long_at_first(seconds: float) -> bytes:
    return script(work("first", seconds, attempts=[1]), work("second", 0.1))


async def _settled(harmed: Harmed) -> None:
    """Wait for the watcher to hear of the end; one that hangs is counted later."""
    await asyncio.wait({harmed.watching}, timeout=HUNG_S)
