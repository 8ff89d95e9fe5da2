"""Reporting the ends of jobs, from the ledger to a receiver, over a real backend and real HTTPS."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta

import pytest
from aiohttp import web

from maskwire_server.domain.errors import ErrorCode
from maskwire_server.domain.jobs import machine
from maskwire_server.domain.jobs.calls import AttemptFailed
from maskwire_server.domain.jobs.job import JobFailure, JobState, WebhookDelivery, WebhookState
from maskwire_server.domain.jobs.ledger import WEBHOOK_QUEUE
from maskwire_server.domain.jobs.webhooks import WebhookDeliverer, WebhookRules
from maskwire_server.jobs.webhooks import HttpWebhookSender
from maskwire_server.observability.metrics import Metrics
from tests.support.job_backends import (
    KEPT_LEASE,
    LEASE,
    LONG,
    NOW,
    RULES,
    STEADY_LEASE,
    first_events,
    leases_pass,
    new_job,
    new_ledger,
    new_result,
    sqlite_store,
    steady_leases_pass,
    utc_now,
)
from tests.support.webhook_receiver import SECRET, make_certificate, receiving

QUEUE = "segmentation"
AT_ONCE = timedelta(milliseconds=20)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
async def receiver(certificate):
    async with receiving(certificate) as running:
        yield running


@pytest.fixture
def lease():
    """How long leases last; tests that wait for their end have others."""
    return KEPT_LEASE


@pytest.fixture
def store(tmp_path, lease):
    return sqlite_store(tmp_path, lease)


@pytest.fixture
async def backend(store):
    async with store.opened() as opened:
        yield opened


@pytest.fixture
def ledger(backend):
    return new_ledger(backend)


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def delivering(certificate, metrics, lease):
    """Runs a deliverer on a backend, as one replica does."""

    @asynccontextmanager
    async def run(backend, first_delay=AT_ONCE, *, allow_private_addresses=True):
        rules = WebhookRules(max_attempts=3, first_delay=first_delay, lease=lease)
        sender = HttpWebhookSender(
            SECRET,
            timedelta(seconds=10),
            utc_now,
            ca_file=certificate.authority,
            allow_private_addresses=allow_private_addresses,
        )
        deliverer = WebhookDeliverer(backend, sender, rules, metrics, utc_now)
        deliverer.start()
        try:
            yield
        finally:
            await deliverer.stop()
            await sender.close()

    return run


async def finished(ledger, url, outcome=None):
    """Return a job that is done and to be reported."""
    await ledger.submit(new_job(webhook=WebhookDelivery(url)))
    claim = await ledger.claim([QUEUE], LONG)
    return await ledger.commit(claim, outcome or new_result())


async def reported(backend, job):
    """Return a job once its report is delivered or given up."""
    async with asyncio.timeout(LONG.total_seconds()):
        async with aclosing(backend.events(job.key, job.last_event_sequence)) as events:
            async for _ in events:
                job = await backend.load(job.key)
                if job.webhook.state is not WebhookState.PENDING:
                    return job
    raise AssertionError


async def settled(backend):
    """Return once no report has a place in the queue, be it given to somebody or not."""
    count = "SELECT count(*) FROM queue_entries WHERE queue = ?"
    async with asyncio.timeout(LONG.total_seconds()):
        while await backend._database.read(
            lambda db: db.execute(count, (WEBHOOK_QUEUE,)).fetchone()
        ) != (0,):
            pass


def counted(metrics, outcome):
    return metrics.registry.get_sample_value("maskwire_webhooks_total", {"outcome": outcome}) or 0


async def test_the_end_of_a_job_is_reported(backend, ledger, receiver, delivering, metrics):
    job = await finished(ledger, receiver.url)
    async with delivering(backend):
        done = await reported(backend, job)
        await settled(backend)
    (request,) = receiver.received
    assert request.verified() == {
        "type": "job.succeeded",
        "timestamp": job.end_time.isoformat().replace("+00:00", "Z"),
        "data": {
            "name": job.key.name,
            "method": job.method,
            "state": "SUCCEEDED",
            "request_id": job.request_id,
            "attempt": 1,
            "create_time": job.create_time.isoformat().replace("+00:00", "Z"),
            "end_time": job.end_time.isoformat().replace("+00:00", "Z"),
        },
    }
    assert job.key.tenant.encode() not in request.body
    assert done.webhook == WebhookDelivery(receiver.url, WebhookState.DELIVERED, 1, 200, None)
    assert counted(metrics, "delivered") == 1


async def test_a_failed_job_says_why(backend, ledger, receiver, delivering):
    why = JobFailure(ErrorCode.INVALID_ARGUMENT, "image: is not one")
    async with delivering(backend):
        await finished(ledger, receiver.url, AttemptFailed(why, is_retryable=False))
        (request,) = await receiver.requests(1)
    report = request.verified()
    assert report["type"] == "job.failed"
    assert report["data"]["error"] == {"code": "INVALID_ARGUMENT", "message": why.message}


async def test_a_job_that_is_cancelled_while_it_waits_is_reported(
    backend, ledger, receiver, delivering
):
    job = await ledger.submit(new_job(webhook=WebhookDelivery(receiver.url)))
    async with delivering(backend):
        await ledger.cancel(job.key)
        (request,) = await receiver.requests(1)
        assert request.verified()["type"] == "job.cancelled"
        # A worker that comes to it later finds nothing to do, and nothing more to report.
        await reported(backend, job)
        assert await ledger.claim([QUEUE], LONG) is None
        await settled(backend)
    assert len(receiver.received) == 1


async def test_a_job_without_a_webhook_is_not_reported(backend, ledger):
    await ledger.submit(new_job())
    await ledger.commit(await ledger.claim([QUEUE], LONG), new_result())
    assert await backend.take([WEBHOOK_QUEUE], NOW) is None


async def test_a_report_is_tried_again_until_it_is_delivered(
    backend, ledger, receiver, delivering, metrics
):
    receiver.statuses = [500, 302]
    job = await finished(ledger, receiver.url)
    async with delivering(backend):
        done = await reported(backend, job)
    assert done.webhook == WebhookDelivery(receiver.url, WebhookState.DELIVERED, 3, 200, None)
    assert len({request.headers["webhook-id"] for request in receiver.received}) == 1
    assert len({request.body for request in receiver.received}) == 1
    assert {request.path for request in receiver.received} == {"/hook"}
    events = await first_events(backend, job.key, 6)
    assert [event.log_line for event in events[3:]] == [
        "webhook: attempt 1 failed: HTTP status 500",
        "webhook: attempt 2 failed: HTTP status 302",
        "webhook: delivered",
    ]
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5, 6]
    assert (counted(metrics, "refused"), counted(metrics, "delivered")) == (2, 1)


@leases_pass
async def test_a_pending_report_says_when_it_is_due(backend, ledger, receiver, delivering):
    receiver.statuses = [503]
    job = await finished(ledger, receiver.url)
    async with delivering(backend, timedelta(minutes=10)):
        await first_events(backend, job.key, 1, job.last_event_sequence)
        webhook = (await backend.load(job.key)).webhook
        assert (webhook.state, webhook.attempts) == (WebhookState.PENDING, 1)
        assert webhook.last_http_status == 503
        due = webhook.next_attempt_time - utc_now()
        assert timedelta(minutes=7) < due < timedelta(minutes=12)
        assert await backend.take([WEBHOOK_QUEUE], 2 * LEASE) is None
    assert len(receiver.received) == 1


async def test_a_report_is_given_up(backend, ledger, receiver, delivering, metrics):
    receiver.statuses = [500] * 9
    job = await finished(ledger, receiver.url)
    async with delivering(backend):
        done = await reported(backend, job)
        await settled(backend)
    assert done.webhook == WebhookDelivery(receiver.url, WebhookState.FAILED, 3, 500, None)
    assert done.state is JobState.SUCCEEDED
    assert len(receiver.received) == 3
    assert (counted(metrics, "refused"), counted(metrics, "gave_up")) == (3, 1)


async def test_a_receiver_that_is_gone_is_not_asked_again(backend, ledger, receiver, delivering):
    receiver.statuses = [410]
    job = await finished(ledger, receiver.url)
    async with delivering(backend):
        done = await reported(backend, job)
    assert done.webhook == WebhookDelivery(receiver.url, WebhookState.FAILED, 1, 410, None)


async def test_an_address_that_is_not_public_is_given_up_at_once(
    backend, ledger, receiver, delivering, metrics
):
    job = await finished(ledger, receiver.url)
    async with delivering(backend, allow_private_addresses=False):
        done = await reported(backend, job)
    assert done.webhook == WebhookDelivery(receiver.url, WebhookState.FAILED, 1, 0, None)
    assert not receiver.received
    assert (counted(metrics, "unreachable"), counted(metrics, "gave_up")) == (1, 1)


@leases_pass
async def test_a_worker_that_dies_after_its_commit_leaves_the_report_to_the_next(
    store, receiver, delivering
):
    async with store.opened() as backend:
        ledger = new_ledger(backend)
        await ledger.submit(new_job(webhook=WebhookDelivery(receiver.url)))
        claim = await ledger.claim([QUEUE], LONG)
        assert claim is not None
        # All that a commit does before its worker dies.
        change = machine.succeeded(claim.job, utc_now(), new_result(), RULES.retention)
        assert await backend.append(change.job, change.event)
    async with store.opened() as backend, delivering(backend):
        assert await new_ledger(backend).claim([QUEUE], LONG) is None
        assert (await reported(backend, change.job)).webhook.state is WebhookState.DELIVERED
    assert receiver.received[0].verified()["type"] == "job.succeeded"


@leases_pass
async def test_a_replica_that_dies_while_it_reports_leaves_it_to_the_next(
    store, backend, ledger, receiver, delivering
):
    reached = asyncio.Event()

    async def hang(request):
        reached.set()
        await asyncio.Event().wait()

    receiver.answer = hang
    job = await finished(ledger, receiver.url)
    async with store.opened() as other, delivering(other):
        await reached.wait()
    receiver.answer = None
    async with delivering(backend):
        done = await reported(backend, job)
    assert done.webhook.attempts == 1
    first, second = receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]


@leases_pass
async def test_an_attempt_that_was_written_is_not_made_again_early(
    backend, ledger, receiver, delivering
):
    job = await finished(ledger, receiver.url)
    due = utc_now() + timedelta(minutes=10)
    tried = WebhookDelivery(receiver.url, WebhookState.PENDING, 1, 500, due)
    change = machine.webhook_tried(job, utc_now(), tried, "")
    assert await backend.append(change.job, change.event)
    # The queue still hands it out, because the replica died before it gave it back.
    async with delivering(backend):
        while (delivery := await backend.take([WEBHOOK_QUEUE], NOW)) is not None:
            await backend.release(delivery, NOW)
        # The deliverer had it, and gave it back until it is due.
        assert await backend.take([WEBHOOK_QUEUE], 2 * LEASE) is None
    assert not receiver.received


@steady_leases_pass
async def test_a_slow_receiver_is_asked_once(store, backend, ledger, receiver, delivering):
    async with store.opened() as other:

        async def slow(request):
            # Longer than a lease: another replica would have it by then.
            assert await other.take([WEBHOOK_QUEUE], 1.5 * STEADY_LEASE) is None
            return web.Response()

        receiver.answer = slow
        job = await finished(ledger, receiver.url)
        async with delivering(backend):
            done = await reported(backend, job)
    assert done.webhook == WebhookDelivery(receiver.url, WebhookState.DELIVERED, 1, 200, None)
    assert len(receiver.received) == 1


async def test_replicas_share_the_work(store, backend, ledger, receiver, delivering):
    async with store.opened() as other, delivering(backend), delivering(other):
        jobs = [await finished(ledger, receiver.url) for _ in range(20)]
        done = await asyncio.gather(*(reported(backend, job) for job in jobs))
    assert all(job.webhook.attempts == 1 for job in done)
    assert len({request.headers["webhook-id"] for request in receiver.received}) == 20
    assert len(receiver.received) == 20


async def test_a_removed_job_is_not_reported(backend, ledger, receiver, delivering):
    job = await finished(ledger, receiver.url)
    await backend.delete(job.key)
    other = await finished(ledger, receiver.url)
    async with delivering(backend):
        await reported(backend, other)
    assert [one.verified()["data"]["name"] for one in receiver.received] == [other.key.name]


def test_pauses_double_up_to_an_hour():
    rules = WebhookRules(max_attempts=20, first_delay=timedelta(seconds=5), lease=LEASE)
    for attempts, expected in [(1, 5), (2, 10), (3, 20), (8, 640), (11, 3600), (20, 3600)]:
        pauses = [rules.delay_after(attempts).total_seconds() for _ in range(50)]
        assert all(0.8 * expected <= pause <= 1.2 * expected for pause in pauses)
        assert len(set(pauses)) > 1
