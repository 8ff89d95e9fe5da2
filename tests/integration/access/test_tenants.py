"""What one tenant's handles open for another: nothing, as if they had never been."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import grpc
import numpy as np
import pytest

from maskwire.v1 import file_pb2, file_pb2_grpc
from maskwire_client import Client, ImageReference, Point, errors
from maskwire_client.jobs import SegmentCall

from .conftest import GuardedServer

IMAGE = np.random.default_rng(6).integers(0, 255, (48, 64, 3), np.uint8)
POINTS = [Point(20, 20)]


@pytest.fixture
def acme(guarded: GuardedServer):
    with guarded.client(guarded.acme) as client:
        yield client


@pytest.fixture
def globex(guarded: GuardedServer):
    with guarded.client(guarded.globex) as client:
        yield client


def same_refusal(call, handle, unknown):
    """Check that another's handle is refused in the words for one that never was."""
    with pytest.raises(errors.NotFound) as of_another:
        call(handle)
    with pytest.raises(errors.NotFound) as of_nobody:
        call(unknown)
    assert type(of_another.value) is type(of_nobody.value)
    assert of_another.value.reason == of_nobody.value.reason
    assert of_another.value.message.replace(handle, "") == of_nobody.value.message.replace(
        unknown, ""
    )


def test_an_images_digest(acme: Client, globex: Client):
    digest = acme.segment(IMAGE, points=POINTS).image.digest
    assert acme.segment(digest, points=POINTS).masks
    unknown = "sha256:" + "0" * 64
    same_refusal(lambda handle: globex.segment(handle, points=POINTS), digest, unknown)


def test_a_stored_file(acme: Client, globex: Client, tmp_path: Path):
    stored = acme.upload(b"secret" * 1000)
    name = stored.name
    unknown = "files/" + "0" * 32
    assert acme.read_file(name) == b"secret" * 1000
    same_refusal(globex.read_file, name, unknown)
    same_refusal(lambda handle: globex.download(handle, tmp_path / "stolen"), name, unknown)
    with pytest.raises(errors.StoredFileNotFound):
        globex.segment(ImageReference(name), points=POINTS)
    assert name not in {file.name for file in globex.files()}
    same_refusal(globex.delete_file, name, unknown)
    assert acme.read_file(name) == b"secret" * 1000
    assert not (tmp_path / "stolen").exists()


def test_an_upload_is_not_gone_on_with_by_another(acme: Client, globex: Client):
    upload = "6f2b1a9e-58b5-4f5e-9d3c-3d0a5b6f7c8d"
    ours = acme.upload(b"a" * 70_000, upload_id=upload)
    theirs = globex.upload(b"b" * 70_000, upload_id=upload)
    assert ours.name != theirs.name
    assert acme.read_file(ours.name) == b"a" * 70_000
    assert globex.read_file(theirs.name) == b"b" * 70_000


def test_a_job(acme: Client, globex: Client):
    job = acme.submit_job(SegmentCall(IMAGE, points=POINTS))
    unknown = "jobs/" + "0" * 32
    same_refusal(globex.job, job.name, unknown)
    same_refusal(globex.cancel_job, job.name, unknown)
    same_refusal(globex.job_result, job.name, unknown)
    same_refusal(lambda name: next(iter(globex.watch_job(name))), job.name, unknown)
    assert job.name not in {one.name for one in globex.jobs()}
    assert acme.job(job.name).name == job.name


def test_a_request_identifier_names_a_job_of_each_tenants_own(acme: Client, globex: Client):
    request_id = "2c1a7b0e-3f4d-4f5e-8d3c-3d0a5b6f7c8d"
    ours = acme.submit_job(SegmentCall(IMAGE, points=POINTS), request_id=request_id)
    theirs = globex.submit_job(SegmentCall(IMAGE, points=[Point(5, 5)]), request_id=request_id)
    assert ours.name != theirs.name


def test_a_page_of_a_list_is_not_read_on_by_another(guarded: GuardedServer, acme: Client):
    for number in range(3):
        acme.upload(bytes([number]) * 100)
    ours = {file.name for file in acme.files()}
    with grpc.insecure_channel(guarded.process.address) as channel:
        stub = file_pb2_grpc.FileServiceStub(channel)
        first = stub.ListFiles(
            file_pb2.ListFilesRequest(page_size=1), metadata=(("x-api-key", guarded.acme),)
        )
        assert first.next_page_token
        request = file_pb2.ListFilesRequest(page_size=1, page_token=first.next_page_token)
        try:
            page = stub.ListFiles(request, metadata=(("x-api-key", guarded.globex),))
        except grpc.RpcError as error:
            assert cast(grpc.Call, error).code() is grpc.StatusCode.INVALID_ARGUMENT  # noqa: PT017
        else:
            assert ours.isdisjoint(file.name for file in page.files)


def test_a_sessions_seed(acme: Client, globex: Client):
    with acme.open_session() as session:
        session.track(IMAGE, points=POINTS)
        seed = session.export_seed()
    with acme.open_session(resume_from=seed) as session:
        assert session.track(IMAGE) is not None
    with pytest.raises(errors.MaskwireError) as caught, globex.open_session(resume_from=seed):
        pass
    assert caught.value.status in ("NOT_FOUND", "PERMISSION_DENIED", "FAILED_PRECONDITION")


def test_the_log_names_no_handle_of_another_tenant(guarded: GuardedServer, acme: Client, globex):
    name = acme.upload(b"secret").name
    before = guarded.lines_read()
    with pytest.raises(errors.NotFound):
        globex.read_file(name)
    assert guarded.lines_read() > before
    assert not [line for line in guarded.process.log_since(before) if name in line]
