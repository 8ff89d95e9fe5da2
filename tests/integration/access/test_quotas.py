"""Quotas at a real server process: each limit of a tenant, and that others do not notice."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2

from maskwire.v1 import file_pb2, file_pb2_grpc, model_pb2, model_pb2_grpc
from maskwire_client import Client, Point, errors
from maskwire_client.jobs import SegmentCall
from tests.support.grpc_serving import detail, reason
from tests.support.metrics_page import wait_until_scraped
from tests.support.server_process import ServerProcess, server_process

from .conftest import Keys

IMAGE = np.random.default_rng(6).integers(0, 255, (48, 64, 3), np.uint8)
POINTS = [Point(20, 20)]
TENANTS = ("caller", "busy", "queuer", "storer", "free")


class _Limited:
    """A server with a tenant for each limit, and one without any."""

    def __init__(self, process: ServerProcess, keys: dict[str, str]) -> None:
        self.process = process
        self.keys = keys

    def client(self, tenant: str, **options: Any) -> Client:
        chosen: dict[str, Any] = {"retry_attempts": 1, "overload_retries": 0, **options}
        return Client(self.process.address, api_key=self.keys[tenant], **chosen)

    def metadata(self, tenant: str) -> tuple[tuple[str, str], ...]:
        return (("x-api-key", self.keys[tenant]),)

    def wait_until_refused(self, limit: str) -> None:
        wait_until_scraped(self.process.metrics_port, 1, "maskwire_quota_refused_total", limit)


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Limited]:
    folder = tmp_path_factory.mktemp("limited")
    keys = Keys(folder / "keys.json")
    made = {tenant: keys.create(tenant)[1] for tenant in TENANTS}
    settings: dict[str, Any] = {
        "auth": {"keys_file": str(keys.path)},
        "models": {"cpu_threads": 1},
        "jobs": {"workers": 0},
        "sessions": {"max_sessions_per_tenant": 1},
        "storage": {"max_tenant_bytes": 100_000},
        "quotas.tenants.caller": {"calls_per_minute": 60, "burst": 3},
        "quotas.tenants.busy": {"concurrent_calls": 2, "concurrent_uploads": 1},
        "quotas.tenants.queuer": {"unfinished_jobs": 2},
    }
    with server_process(folder, **settings) as process:
        yield _Limited(process, made)


def _first_refusal(call: Callable[[], object]) -> Exception:
    """Call until it is refused; the rate lets one more through each second."""
    for _ in range(20):
        try:
            call()
        except (errors.MaskwireError, grpc.RpcError) as error:
            return error
    raise AssertionError("nothing was refused")


def test_a_rate(limited: _Limited):
    with limited.client("caller") as caller, limited.client("free") as free:
        for _ in range(3):
            caller.models()
        refusal = _first_refusal(caller.models)
        assert isinstance(refusal, errors.QuotaExceeded)
        assert refusal.quota == errors.QuotaViolation(
            limit="quotas.calls_per_minute", subject="tenant:caller", most=60
        )
        assert refusal.retry_after is not None
        assert 0 < refusal.retry_after.total_seconds() <= 1
        for _ in range(20):
            free.models()
    limited.wait_until_refused("quotas.calls_per_minute")


def test_the_client_comes_back_when_it_is_told_to(limited: _Limited):
    with limited.client("caller", overload_retries=2) as caller:
        for _ in range(5):
            caller.models()


def test_the_details_of_a_refusal(limited: _Limited):
    with grpc.insecure_channel(limited.process.address) as channel:
        stub = model_pb2_grpc.ModelServiceStub(channel)
        request, metadata = model_pb2.ListModelsRequest(), limited.metadata("caller")
        refusal = _first_refusal(lambda: stub.ListModels(request, metadata=metadata, timeout=30))
    assert reason(refusal) == "QUOTA_EXCEEDED"
    assert detail(refusal, error_details_pb2.RetryInfo).HasField("retry_delay")
    [violation] = detail(refusal, error_details_pb2.QuotaFailure).violations
    assert (violation.subject, violation.quota_id) == (
        "tenant:caller",
        "quotas.calls_per_minute",
    )


class _OpenUpload:
    """An upload whose beginning the server has taken, and which sends nothing until it is ended."""

    def __init__(self, channel: grpc.Channel, metadata: Any) -> None:
        self._end = threading.Event()
        stub: Any = file_pb2_grpc.FileServiceStub(channel)
        # A future, and not its result: so that the answer to the beginning can be waited for.
        self.call = stub.UploadFile.future(self._requests(), metadata=metadata, timeout=60)
        assert self.call.initial_metadata()

    def _requests(self) -> Iterator[file_pb2.UploadFileRequest]:
        data = b"held"
        yield file_pb2.UploadFileRequest(
            description=file_pb2.UploadDescription(
                upload_id=str(uuid.uuid4()),
                content_type="application/octet-stream",
                size_bytes=len(data),
                digest="sha256:" + hashlib.sha256(data).hexdigest(),
            )
        )
        assert self._end.wait(60)
        yield file_pb2.UploadFileRequest(chunk=data)

    def end(self) -> file_pb2.UploadFileResponse:
        self._end.set()
        response = self.call.result()
        assert isinstance(response, file_pb2.UploadFileResponse)
        return response


def test_calls_and_uploads_at_a_time(limited: _Limited):
    with (
        grpc.insecure_channel(limited.process.address) as channel,
        limited.client("busy") as busy,
        limited.client("free") as free,
    ):
        held = _OpenUpload(channel, limited.metadata("busy"))
        # One more upload is too many; one more call is not.
        with pytest.raises(errors.QuotaExceeded) as refusal:
            busy.upload(b"x")
        assert refusal.value.quota is not None
        assert refusal.value.quota.limit == "quotas.concurrent_uploads"
        busy.models()
        free.upload(b"x")
        with busy.open_session():
            with pytest.raises(errors.QuotaExceeded) as refusal:
                busy.models()
            assert refusal.value.quota is not None
            assert refusal.value.quota.limit == "quotas.concurrent_calls"
            free.models()
        assert held.end().file.size_bytes == 4
        busy.upload(b"x")


def test_sessions(limited: _Limited):
    with limited.client("storer") as storer, limited.client("free") as free:
        with (
            storer.open_session(),
            free.open_session(),
            pytest.raises(errors.QuotaExceeded) as refusal,
            storer.open_session(),
        ):
            pass
        assert refusal.value.quota == errors.QuotaViolation(
            limit="sessions.max_sessions_per_tenant", subject="tenant:storer", most=1
        )
        with storer.open_session():
            pass


def test_unfinished_jobs(limited: _Limited):
    with limited.client("queuer") as queuer, limited.client("free") as free:
        jobs = [queuer.submit_job(SegmentCall(IMAGE, points=POINTS)) for _ in range(2)]
        with pytest.raises(errors.QuotaExceeded) as refusal:
            queuer.submit_job(SegmentCall(IMAGE, points=POINTS))
        assert refusal.value.quota == errors.QuotaViolation(
            limit="quotas.unfinished_jobs", subject="tenant:queuer", most=2
        )
        assert refusal.value.retry_after is not None
        for _ in range(3):
            free.submit_job(SegmentCall(IMAGE, points=POINTS))
        queuer.cancel_job(jobs[0].name)
        queuer.submit_job(SegmentCall(IMAGE, points=POINTS))


def test_stored_bytes(limited: _Limited):
    with limited.client("storer") as storer:
        storer.upload(b"x" * 60_000)
        with pytest.raises(errors.QuotaExceeded) as refusal:
            storer.upload(b"y" * 60_000)
    assert refusal.value.quota == errors.QuotaViolation(
        limit="storage.max_tenant_bytes", subject="tenant:storer", most=100_000
    )
    # Waiting alone does not help.
    assert refusal.value.retry_after is None
    limited.wait_until_refused("storage.max_tenant_bytes")
