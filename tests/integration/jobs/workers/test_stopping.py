"""Workers that are stopped: what they have in hand is finished or handed back."""

from __future__ import annotations

from datetime import timedelta

from maskwire_server.domain.jobs.job import JobState
from maskwire_server.domain.jobs.sweeper import JobSweeper
from tests.support.job_backends import utc_now
from tests.support.job_worker_child import script, work
from tests.support.job_worker_world import World, appeared, gone


async def test_a_job_in_hand_may_finish_within_the_grace(world: World) -> None:
    began, go = world.folder / "began", world.folder / "go"
    async with world.workers() as workers:
        job = await world.submit(script({"do": "until", "began": str(began), "file": str(go)}))
        await appeared(began)
        go.touch()
        await workers.stop(30.0)
        assert (await world.ledger.get(job.key)).state is JobState.SUCCEEDED


async def test_a_job_that_takes_longer_is_handed_back_at_once_and_not_counted(world: World) -> None:
    began = world.folder / "began"
    stuck = {"do": "stuck", "began": str(began), "holds_lock": True, "attempts": [1]}
    async with world.workers() as workers:
        job = await world.submit(script(stuck))
        child = int(await appeared(began))
        await workers.stop(0.0)
        await gone(child)
    waiting = await world.ledger.get(job.key)
    assert (waiting.state, waiting.attempt, waiting.tries) == (JobState.QUEUED, 1, 0)
    assert waiting.failure is None
    # No lease has to pass and no pause: it is there to be taken.
    delivery = await world.ledger.take(["segmentation"], timedelta(seconds=0.1))
    assert delivery is not None
    await world.ledger.put_back(delivery)
    async with world.workers():
        done = await world.audited(job.key, JobState.SUCCEEDED)
    assert done.attempt == 2


async def test_a_job_cancelled_before_it_is_handed_back_is_cancelled(world: World) -> None:
    began = world.folder / "began"
    async with world.workers(cancel_grace_s=60.0) as workers:
        job = await world.submit(script({"do": "stuck", "began": str(began)}))
        await appeared(began)
        await world.ledger.cancel(job.key)
        await workers.stop(0.0)
        await world.audited(job.key, JobState.CANCELLED)


async def test_a_lost_job_is_given_up_and_its_child_kept(world: World) -> None:
    async with world.workers(cancel_grace_s=30.0):
        job = await world.submit(script(work("first", 60.0)))
        await world.until(job.key, stage="first")
        await world.backend.delete(job.key)
        after = await world.submit(script(work("first", 0.0)))
        await world.audited(after.key, JobState.SUCCEEDED)
        restarts = world.metrics.registry.get_sample_value(
            "maskwire_job_child_restarts_total", {"reason": "failed"}
        )
    assert not restarts
    lost = {"method": job.method, "outcome": "lost"}
    assert world.metrics.registry.get_sample_value("maskwire_job_attempts_total", lost) == 1


async def test_idle_workers_stop_at_once_and_take_no_job_any_more(world: World) -> None:
    async with world.workers(2) as workers:
        await world.audited((await world.submit(script())).key, JobState.SUCCEEDED)
        await workers.stop(0.0)
        job = await world.submit(script())
    assert (await world.ledger.get(job.key)).attempt == 0


async def test_what_workers_did_is_measured(world: World) -> None:
    async with world.workers():
        for payload in (script(), script({"do": "exit", "code": 1, "attempts": [1]})):
            done = await world.audited((await world.submit(payload)).key, JobState.SUCCEEDED)
        value = world.metrics.registry.get_sample_value
        queue = {"queue": "segmentation"}
        assert value("maskwire_job_workers", queue) == 1
    method = {"method": done.method}
    attempts = "maskwire_job_attempts_total"
    assert value(attempts, {**method, "outcome": "succeeded"}) == 2
    assert value(attempts, {**method, "outcome": "died"}) == 1
    assert value("maskwire_job_attempt_seconds_count", method) == 3
    assert value("maskwire_jobs_finished_total", {**method, "state": "succeeded"}) == 2
    assert value("maskwire_job_child_restarts_total", {"reason": "died"}) == 1
    assert value("maskwire_job_queue_depth", queue) == 0
    assert value("maskwire_job_workers", queue) == 0
    assert value("maskwire_job_wait_seconds_count", queue) == 2  # the second attempt is no new wait


async def test_a_sweep_removes_jobs_that_expired_with_what_they_carry(world: World) -> None:
    async with world.workers():
        done = await world.submit(script(work("first", 0.0)))
        await world.audited(done.key, JobState.SUCCEEDED)
    waiting = await world.submit(script())
    early = JobSweeper(world.backend, world.contents, timedelta(hours=1), utc_now)
    assert await early.sweep() == 0
    late = JobSweeper(
        world.backend, world.contents, timedelta(hours=1), lambda: utc_now() + timedelta(hours=2)
    )
    assert await late.sweep() == 1
    assert await world.backend.load(done.key) is None
    assert await world.backend.load(waiting.key) is not None
    folders = {file.parent.name for file in world.folder.glob("contents/t-alice/jobs/*/*")}
    assert folders == {waiting.key.job_id}
