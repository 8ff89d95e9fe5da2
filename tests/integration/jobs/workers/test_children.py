"""What becomes of a job whose child process does anything but answer."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from maskwire_server.domain.errors import ErrorCode
from maskwire_server.domain.jobs.job import JobState
from tests.support.job_worker_child import script, work
from tests.support.job_worker_world import (
    World,
    appeared,
    gone,
    is_running,
    job_world,
    sqlite_place,
)

RESULT_BYTES = 20 * 2**20


async def test_a_job_runs_in_a_child_and_tells_how_far_it_is(world: World) -> None:
    payload = script(work("first", 0.1), work("second", 0.1, log_line="hello"), result_bytes=5)
    async with world.workers():
        job = await world.submit(payload)
        done = await world.audited(job.key, JobState.SUCCEEDED)
    assert done.attempt == 1
    assert json.loads(await world.result(job.key))["pid"] != os.getpid()
    events = await world.events(job.key)
    stages = [one.stage for one in events if one.state is JobState.RUNNING]
    assert list(dict.fromkeys(stages)) == ["", "first", "second"]
    assert any(one.log_line == "hello" for one in events)
    assert [one.fraction for one in events] == sorted(one.fraction for one in events)


async def test_the_next_job_finds_the_child_that_the_last_one_had(world: World) -> None:
    async with world.workers():
        first = await world.submit(script(work("only", 0.0)))
        await world.audited(first.key, JobState.SUCCEEDED)
        second = await world.submit(script(work("only", 0.0)))
        await world.audited(second.key, JobState.SUCCEEDED)
    pids = {json.loads(await world.result(one.key))["pid"] for one in (first, second)}
    assert len(pids) == 1
    await gone(pids.pop())


async def test_several_workers_work_at_a_time(world: World) -> None:
    marks = [world.folder / f"began-{number}" for number in range(2)]
    go = world.folder / "go"
    async with world.workers(2):
        jobs = [
            await world.submit(script({"do": "until", "began": str(mark), "file": str(go)}))
            for mark in marks
        ]
        pids = {await appeared(mark) for mark in marks}
        go.touch()
        for job in jobs:
            await world.audited(job.key, JobState.SUCCEEDED)
    assert len(pids) == 2


async def test_large_requests_and_results_pass(world: World) -> None:
    padding = {"do": "print", "lines": 0, "padding": "x" * RESULT_BYTES}
    async with world.workers():
        job = await world.submit(script(padding, result_bytes=RESULT_BYTES))
        done = await world.audited(job.key, JobState.SUCCEEDED)
    assert done.result is not None
    assert done.result.size_bytes == RESULT_BYTES


async def test_a_result_that_is_too_large_fails_once(world: World) -> None:
    async with world.workers(max_body_bytes=2**20):
        job = await world.submit(script(result_bytes=2**20 + 1))
        done = await world.audited(job.key, JobState.FAILED)
        assert done.failure is not None
        assert done.failure.code is ErrorCode.PAYLOAD_TOO_LARGE
        assert done.attempt == 1
        next_job = await world.submit(script(result_bytes=2**20))
        await world.audited(next_job.key, JobState.SUCCEEDED)


@pytest.mark.parametrize(
    ("step", "ending"),
    [
        ({"do": "signal", "signal": "SIGSEGV"}, "SIGSEGV"),
        ({"do": "signal", "signal": "SIGKILL"}, "SIGKILL"),
        ({"do": "exit", "code": 7}, "exit code 7"),
    ],
)
async def test_a_child_that_dies_ends_its_attempt_at_once(world: World, step, ending) -> None:
    async with world.workers():
        job = await world.submit(script(work("calm", 0.1), step | {"attempts": [1]}))
        done = await world.audited(job.key, JobState.SUCCEEDED)
    assert done.attempt == 2
    lines = [one.log_line for one in await world.events(job.key)]
    (failed,) = [line for line in lines if line.startswith("attempt 1 failed")]
    assert ending in failed
    if step["do"] == "signal":
        assert "in stage dying" in failed
        assert "about to die" in failed


async def test_a_poison_job_fails_after_three_attempts_and_the_next_one_runs(world: World) -> None:
    async with world.workers():
        poison = await world.submit(script({"do": "signal", "signal": "SIGSEGV"}))
        innocent = await world.submit(script(work("calm", 0.0)))
        failed = await world.audited(poison.key, JobState.FAILED)
        await world.audited(innocent.key, JobState.SUCCEEDED)
    assert failed.attempt == 3
    assert failed.failure is not None
    assert failed.failure.code is ErrorCode.WORKER_LOST
    assert "SIGSEGV" in failed.failure.message


@pytest.mark.parametrize("code", [ErrorCode.OVERLOADED, ErrorCode.MODEL_UNAVAILABLE])
async def test_what_may_be_there_later_is_tried_again(world: World, code: ErrorCode) -> None:
    step = {"do": "fail", "code": code.name, "message": "not now", "attempts": [1, 2]}
    async with world.workers():
        job = await world.submit(script(step))
        done = await world.audited(job.key, JobState.SUCCEEDED)
    assert done.attempt == 3


async def test_what_is_wrong_with_the_request_is_not_tried_again(world: World) -> None:
    async with world.workers():
        job = await world.submit(
            script({"do": "fail", "code": "INVALID_ARGUMENT", "message": "image: is a cat"})
        )
        done = await world.audited(job.key, JobState.FAILED)
    assert done.attempt == 1
    assert done.failure is not None
    assert (done.failure.code, done.failure.message) == (
        ErrorCode.INVALID_ARGUMENT,
        "image: is a cat",
    )


async def test_what_nobody_foresaw_is_tried_again_in_another_child_and_not_told(
    world: World,
) -> None:
    async with world.workers():
        job = await world.submit(script({"do": "raise"}))
        done = await world.audited(job.key, JobState.FAILED)
    assert done.attempt == 3
    assert done.failure is not None
    assert done.failure.code is ErrorCode.INTERNAL
    told = [one.log_line for one in await world.events(job.key)] + [done.failure.message]
    assert not any("secret" in line for line in told)
    ended = {"reason": "failed"}
    assert world.metrics.registry.get_sample_value("maskwire_job_child_restarts_total", ended) == 3


@pytest.mark.parametrize(
    ("configuration", "code"),
    [(b"broken", ErrorCode.MODEL_UNAVAILABLE), (b"unforeseen", ErrorCode.INTERNAL)],
)
async def test_a_child_without_a_runner_fails_jobs(world: World, configuration, code) -> None:
    async with world.workers(configuration=configuration):
        job = await world.submit(script())
        done = await world.audited(job.key, JobState.FAILED)
    assert done.attempt == 3
    assert done.failure is not None
    assert done.failure.code is code


async def test_a_child_beyond_its_memory_fails_the_job(world: World) -> None:
    step = {"do": "allocate", "bytes": 8 * 2**30}
    async with world.workers(child_memory_bytes=4 * 2**30):
        job = await world.submit(script(step))
        done = await world.audited(job.key, JobState.FAILED)
    assert done.failure is not None
    assert done.failure.message == "the worker ran out of memory"


@pytest.mark.parametrize("holds_lock", [False, True])
async def test_a_child_that_says_nothing_is_killed(world: World, holds_lock: bool) -> None:
    began = world.folder / "began"
    stuck = {"do": "stuck", "began": str(began), "holds_lock": holds_lock, "attempts": [1]}
    async with world.workers(stall_timeout_s=4.0):
        job = await world.submit(script(stuck))
        pid = int(await appeared(began))
        done = await world.audited(job.key, JobState.SUCCEEDED)
        await gone(pid)
    assert done.attempt == 2
    lines = [one.log_line for one in await world.events(job.key)]
    assert "attempt 1 failed: no progress for 4 s in stage stuck" in lines


async def test_work_longer_than_the_stall_limit_and_the_lease_is_left_alone(
    tmp_path: Path,
) -> None:
    async with (
        job_world(tmp_path, sqlite_place(tmp_path), lease_s=4.0) as world,
        world.workers(stall_timeout_s=5.0),
    ):
        job = await world.submit(script(work("long", 5.5)))
        done = await world.audited(job.key, JobState.SUCCEEDED)
    assert done.attempt == 1


async def test_what_children_print_disturbs_nothing(world: World) -> None:
    async with world.workers():
        job = await world.submit(script({"do": "print", "lines": 200_000}, work("after", 0.0)))
        await world.audited(job.key, JobState.SUCCEEDED)


async def test_log_lines_are_bounded(world: World) -> None:
    async with world.workers():
        job = await world.submit(script({"do": "log", "lines": 1000, "characters": 10_000}))
        await world.audited(job.key, JobState.SUCCEEDED)
    lines = [one.log_line for one in await world.events(job.key) if one.log_line]
    assert 0 < len(lines) <= 201
    assert max(len(line) for line in lines) <= 500


async def test_an_idle_child_is_ended_and_the_next_job_gets_another(world: World) -> None:
    async with world.workers(child_idle_s=0.1):
        first = await world.submit(script())
        await world.audited(first.key, JobState.SUCCEEDED)
        first_pid = json.loads(await world.result(first.key))["pid"]
        await gone(first_pid)
        second = await world.submit(script())
        await world.audited(second.key, JobState.SUCCEEDED)
    assert json.loads(await world.result(second.key))["pid"] != first_pid
    ended = {"reason": "idle"}
    assert world.metrics.registry.get_sample_value("maskwire_job_child_restarts_total", ended)


async def test_what_a_child_started_dies_with_it(world: World) -> None:
    started, began = world.folder / "started", world.folder / "began"
    steps = [
        {"do": "spawn", "file": str(started)},
        {"do": "stuck", "began": str(began)},
    ]
    async with world.workers():
        job = await world.submit(script(*steps))
        grandchild = int(await appeared(started))
        await appeared(began)
        assert is_running(grandchild)
        await world.ledger.cancel(job.key)
        await world.audited(job.key, JobState.CANCELLED)
        await gone(grandchild)


async def test_a_child_ends_with_a_worker_that_is_killed(world: World) -> None:
    worker = await world.worker_process()
    began = world.folder / "began"
    await world.submit(script({"do": "stuck", "began": str(began), "holds_lock": True}))
    pid = int(await appeared(began))
    worker.end()
    await gone(pid)
