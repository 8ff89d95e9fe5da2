"""Sending one report: what the receiver sees, and which addresses nothing is sent to."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from aiohttp import web
from standardwebhooks import WebhookVerificationError

from maskwire_server.domain.jobs.webhooks import WebhookAnswer, WebhookReport
from maskwire_server.jobs.webhooks import HttpWebhookSender
from tests.support.job_backends import utc_now
from tests.support.webhook_receiver import SECRET, Certificate, make_certificate, receiving

CONTENT = {"type": "job.succeeded", "data": {"name": "jobs/1", "note": "für alle"}}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
async def receiver(certificate):
    async with receiving(certificate) as running:
        yield running


@asynccontextmanager
async def sending(certificate, **changes):
    options = {
        "secret": SECRET,
        "timeout": timedelta(seconds=10),
        "now": utc_now,
        "ca_file": certificate.authority,
        "allow_private_addresses": True,
    }
    sender = HttpWebhookSender(**(options | changes))
    try:
        yield sender
    finally:
        await sender.close()


async def send(certificate, url, **changes) -> WebhookAnswer:
    async with sending(certificate, **changes) as sender:
        return await sender.send(WebhookReport(url, "report-1", CONTENT))


async def test_a_report_is_signed(certificate, receiver):
    answer = await send(certificate, receiver.url)
    assert answer == WebhookAnswer(200)
    assert answer.is_delivered
    (request,) = receiver.received
    assert request.verified() == CONTENT
    assert request.headers["webhook-id"] == "report-1"
    assert request.headers["content-type"] == "application/json"


async def test_a_receiver_can_tell_a_report_that_was_tampered_with(certificate, receiver):
    await send(certificate, receiver.url)
    (request,) = receiver.received
    for tampered in (
        {"body": request.body.replace(b"jobs/1", b"jobs/2")},
        {"headers": request.headers | {"webhook-id": "report-2"}},
        {"headers": request.headers | {"webhook-timestamp": str(int(utc_now().timestamp()) + 1)}},
    ):
        with pytest.raises(WebhookVerificationError):
            type(request)(**(vars(request) | tampered)).verified()
    with pytest.raises(WebhookVerificationError):
        request.verified("whsec_" + "A" * 32)


@pytest.mark.parametrize("status", [201, 204, 400, 404, 410, 500, 503])
async def test_the_status_is_the_receivers(certificate, receiver, status):
    receiver.statuses = [status]
    answer = await send(certificate, receiver.url)
    assert answer == WebhookAnswer(status)
    assert answer.is_delivered == (status < 300)
    assert answer.is_final == (status == 410)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(certificate, receiver, status):
    receiver.statuses = [status]
    answer = await send(certificate, receiver.url)
    assert answer.http_status == status
    assert not answer.is_delivered
    assert [request.path for request in receiver.received] == ["/hook"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
async def test_nothing_is_sent_to_an_address_that_is_not_public(certificate, receiver, host):
    url = f"https://{host}:{receiver.port}/hook"
    answer = await send(certificate, url, allow_private_addresses=False)
    assert answer == WebhookAnswer(0, "the address is not public", is_forbidden=True)
    assert answer.is_final
    assert not receiver.received


async def test_no_connection_is_opened_to_an_address_that_is_not_public(certificate):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        url = f"https://127.0.0.1:{listening.getsockname()[1]}/"
        answer = await send(certificate, url, allow_private_addresses=False)
        assert answer.is_forbidden
        with pytest.raises(BlockingIOError):
            listening.accept()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "ftp://127.0.0.1/", "file:///etc/passwd", "", "https"]
)
async def test_only_https_is_spoken(certificate, url):
    answer = await send(certificate, url)
    assert answer == WebhookAnswer(0, "the URL does not begin with https://", is_forbidden=True)


@pytest.mark.parametrize(
    "url", ["https://", "https://:0", "https://[", "https://a b/", "https://%"]
)
async def test_a_url_that_is_none_is_an_answer_too(certificate, url):
    answer = await send(certificate, url)
    assert answer.http_status == 0
    assert answer.problem


async def test_nobody_there_is_an_answer_too(certificate):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    answer = await send(certificate, f"https://127.0.0.1:{port}/")
    assert answer == WebhookAnswer(0, "no connection")


async def test_a_certificate_that_is_not_trusted_is_refused(certificate, receiver):
    answer = await send(certificate, receiver.url, ca_file=None)
    assert answer == WebhookAnswer(0, "the TLS connection failed")
    assert not receiver.received


async def test_a_receiver_that_says_nothing_is_left(certificate, receiver):
    ended = asyncio.Event()

    async def never(request):
        await ended.wait()
        return web.Response()

    receiver.answer = never
    answer = await send(certificate, receiver.url, timeout=timedelta(seconds=0.3))
    ended.set()
    assert answer == WebhookAnswer(0, "no answer within 0.3 s")


async def test_an_endless_answer_is_not_read(certificate, receiver):
    sent = 0

    async def endless(request):
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(65536))
            sent += 65536

    receiver.answer = endless
    answer = await send(certificate, receiver.url)
    assert answer == WebhookAnswer(200)
    assert sent < 16 * 2**20  # what buffers hold, not what ten seconds could bring


async def test_proxies_of_the_environment_are_not_used(certificate, receiver, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert await send(certificate, receiver.url) == WebhookAnswer(200)


async def test_many_are_sent_at_once(certificate, receiver):
    async with sending(certificate) as sender:
        answers = await asyncio.gather(
            *(sender.send(WebhookReport(receiver.url, str(one), {"n": one})) for one in range(20))
        )
    assert answers == [WebhookAnswer(200)] * 20
    sent = {
        request.headers["webhook-id"]: json.loads(request.body) for request in receiver.received
    }
    assert sent == {str(one): {"n": one} for one in range(20)}


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_a", "whsec_ä"])
def test_a_secret_that_is_none_is_refused_and_not_shown(certificate, secret):
    with pytest.raises(ValueError, match="is not whsec_ and base 64"):
        HttpWebhookSender(secret, timedelta(seconds=1), utc_now)
