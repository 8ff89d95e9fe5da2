"""Files over a real connection: what clients of every kind see, and that images may be files."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2

from maskwire.v1 import file_pb2, file_pb2_grpc, image_pb2, segmentation_pb2, segmentation_pb2_grpc
from tests.integration.server.conftest import small_model_settings
from tests.support.grpc_serving import detail, reason
from tests.support.metrics_page import scraped
from tests.support.sam2_checkpoints import Sam2Files
from tests.support.server_process import ServerProcess, server_process

CHUNK = 2**20
MAX_FILE = 12 * 2**20
DEADLINE_S = 60.0
IDLE_S = 6.0
"""Longer than this machine stands still: only an upload that sends nothing is ended by it."""
PICTURE = Path(__file__).parents[3] / "clients/python/pictures/demo.jpg"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stored")


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, folder: Path, small_sam2: Sam2Files
) -> Iterator[ServerProcess]:
    storage = {
        "folder": str(folder / "files"),
        "max_file_bytes": MAX_FILE,
        "max_uploads": 2,
        "upload_idle_s": IDLE_S,
    }
    with server_process(
        tmp_path_factory.mktemp("server"),
        models=small_model_settings(small_sam2),
        storage=storage,
        limits={"max_image_bytes": 2**20},
    ) as process:
        yield process


@pytest.fixture
def files(server: ServerProcess) -> Iterator[file_pb2_grpc.FileServiceStub]:
    with grpc.insecure_channel(server.address) as channel:
        yield file_pb2_grpc.FileServiceStub(channel)


def describe(data: bytes, **changes) -> file_pb2.UploadFileRequest:
    values = {
        "upload_id": str(uuid.uuid4()),
        "content_type": "image/png",
        "file_name": "picture.png",
        "size_bytes": len(data),
        "digest": f"sha256:{hashlib.sha256(data).hexdigest()}",
        **changes,
    }
    return file_pb2.UploadFileRequest(description=file_pb2.UploadDescription(**values))


def chunks(data: bytes, size: int = CHUNK) -> Iterator[file_pb2.UploadFileRequest]:
    for start in range(0, len(data), size):
        yield file_pb2.UploadFileRequest(chunk=data[start : start + size])


def messages(data: bytes, **changes) -> Iterator[file_pb2.UploadFileRequest]:
    yield describe(data, **changes)
    yield from chunks(data)


def stored(files, data: bytes, **changes) -> file_pb2.StoredFile:
    return files.UploadFile(messages(data, **changes), timeout=DEADLINE_S).file


def refused(call) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value


def test_the_folder_is_made_for_the_first_file_only(folder, files):
    files.ListFiles(file_pb2.ListFilesRequest())
    assert refused(lambda: _get(files, "files/none")).code() is grpc.StatusCode.NOT_FOUND
    assert not (folder / "files").exists()
    stored(files, b"1")
    assert (folder / "files").is_dir()


def test_a_file_goes_up_and_down(server, files):
    data = os.urandom(9_000_001)
    file = stored(files, data)
    assert (file.size_bytes, file.content_type) == (len(data), "image/png")
    assert file.file_name == "picture.png"
    assert _get(files, file.name) == file
    answers = list(files.DownloadFile(file_pb2.DownloadFileRequest(name=file.name)))
    assert answers[0].file == file
    assert all(len(answer.chunk) <= CHUNK for answer in answers)
    assert not any(answer.HasField("file") for answer in answers[1:])
    assert b"".join(answer.chunk for answer in answers) == data
    assert _bytes(files, file.name, offset_bytes=8_000_000) == data[8_000_000:]
    assert _bytes(files, file.name, offset_bytes=5, limit_bytes=7) == data[5:12]
    assert _bytes(files, file.name, offset_bytes=len(data)) == b""
    assert scraped(server.metrics_port, "maskwire_file_bytes_total", "put") >= len(data)
    assert scraped(server.metrics_port, "maskwire_file_bytes_total", "get") >= len(data)


def test_an_offset_past_the_end_is_out_of_range(files):
    file = stored(files, b"123")
    error = refused(lambda: _bytes(files, file.name, offset_bytes=4))
    assert error.code() is grpc.StatusCode.OUT_OF_RANGE
    assert reason(error) == "OUT_OF_RANGE"


def test_files_are_listed_and_deleted(files):
    file = stored(files, b"listed")
    pages, token = [], ""
    while True:
        page = files.ListFiles(file_pb2.ListFilesRequest(page_size=1, page_token=token))
        pages += page.files
        token = page.next_page_token
        if not token:
            break
    assert pages[0] == file
    assert len({one.name for one in pages}) == len(pages)
    files.DeleteFile(file_pb2.DeleteFileRequest(name=file.name))
    error = refused(lambda: _get(files, file.name))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert detail(error, error_details_pb2.ResourceInfo).resource_type == "file"


def test_a_folder_has_no_presigned_urls(files):
    file = stored(files, b"1")
    request = file_pb2.CreateDownloadUrlRequest(name=file.name)
    error = refused(lambda: files.CreateDownloadUrl(request))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_a_finished_upload_answers_again_whatever_follows(files):
    data = os.urandom(3 * CHUNK)
    upload = str(uuid.uuid4())
    first = stored(files, data, upload_id=upload)
    assert stored(files, data, upload_id=upload) == first


def test_an_upload_outlives_its_connection(server, files):
    data = os.urandom(12 * CHUNK)
    upload = str(uuid.uuid4())
    sent = 0

    def part():
        nonlocal sent
        yield describe(data, upload_id=upload)
        for message in chunks(data[: 10 * CHUNK]):
            sent += 1
            yield message

    error = refused(lambda: files.UploadFile(part(), timeout=DEADLINE_S))
    assert _field(error) == "description.size_bytes"
    held = files.GetUpload(file_pb2.GetUploadRequest(upload_id=upload))
    assert (held.received_bytes, held.size_bytes) == (sent * CHUNK, len(data))

    def rest():
        yield describe(data, upload_id=upload, offset_bytes=held.received_bytes)
        yield from chunks(data[held.received_bytes :])

    with grpc.insecure_channel(server.address) as other:
        file = file_pb2_grpc.FileServiceStub(other).UploadFile(rest(), timeout=DEADLINE_S).file
    assert _bytes(files, file.name) == data
    gone = refused(lambda: files.GetUpload(file_pb2.GetUploadRequest(upload_id=upload)))
    assert gone.code() is grpc.StatusCode.NOT_FOUND


DATA = b"x" * (3 * CHUNK)


def _wrong_digest():
    return messages(DATA, digest="sha256:" + "0" * 64)


def _two_descriptions():
    yield from messages(DATA)
    yield describe(DATA)


WRONG = {
    "chunk first": (lambda: chunks(DATA), "description"),
    "nothing": (lambda: iter(()), "description"),
    "no message": (lambda: iter([file_pb2.UploadFileRequest()]), "message"),
    "second description": (_two_descriptions, "description"),
    "empty chunk": (
        lambda: iter([describe(DATA), file_pb2.UploadFileRequest(chunk=b"")]),
        "chunk",
    ),
    "chunk too large": (
        lambda: iter([describe(DATA), file_pb2.UploadFileRequest(chunk=b"x" * (CHUNK + 1))]),
        "chunk",
    ),
    "wrong offset": (lambda: messages(DATA, offset_bytes=5), "description.offset_bytes"),
    "wrong digest": (_wrong_digest, "description.digest"),
    "too short": (lambda: messages(DATA, size_bytes=len(DATA) + 1), "description.size_bytes"),
    "too long": (lambda: messages(DATA, size_bytes=len(DATA) - 1), "chunk"),
    "size 0": (lambda: messages(DATA, size_bytes=0), "description.size_bytes"),
    "no uuid": (lambda: messages(DATA, upload_id="../x"), "description.upload_id"),
    "no digest": (lambda: messages(DATA, digest="md5:0"), "description.digest"),
    "no media type": (lambda: messages(DATA, content_type="a\r\nb/c"), "description.content_type"),
    "no life": (
        lambda: iter([_with_time_to_live(describe(DATA), -1)]),
        "description.time_to_live",
    ),
}


@pytest.mark.parametrize("client", ["blocking", "asyncio", "asyncio writer"])
@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named_to_every_client(server, case, client):
    make, field = WRONG[case]
    error = _upload_error(server, client, make())
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error
    assert _field(error) == field


@pytest.mark.parametrize("client", ["blocking", "asyncio", "asyncio writer"])
def test_a_file_too_large_is_refused_to_every_client_while_it_sends(server, client):
    data = b"x" * (MAX_FILE + 1)
    for _ in range(5):
        error = _upload_error(server, client, messages(data))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert reason(error) == "PAYLOAD_TOO_LARGE"


def test_a_client_that_waits_for_the_answer_to_its_description_hears_it_at_once(server):
    async def ask(description):
        async with grpc.aio.insecure_channel(server.address) as channel:
            call = file_pb2_grpc.FileServiceStub(channel).UploadFile(timeout=DEADLINE_S)
            await call.write(description)
            if "maskwire-upload-accepted" not in dict(await call.initial_metadata()):
                return await call
            await call.write(file_pb2.UploadFileRequest(chunk=b"123"))
            await call.done_writing()
            return await call

    assert asyncio.run(ask(describe(b"123"))).file.size_bytes == 3
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        asyncio.run(ask(describe(b"x" * (MAX_FILE + 1))))
    assert reason(raised.value) == "PAYLOAD_TOO_LARGE"


def test_uploads_that_stand_still_are_ended_and_never_block_others_for_long(server, files):
    async def stand_still():
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = file_pb2_grpc.FileServiceStub(channel)
            calls = []
            for _ in range(2):
                call = stub.UploadFile(timeout=DEADLINE_S)
                await call.write(describe(b"123"))
                await call.initial_metadata()
                calls.append(call)
            third = stub.UploadFile(messages(b"123"), timeout=DEADLINE_S)
            results = await asyncio.gather(third, *calls, return_exceptions=True)
            return results[0], results[1:]

    refusal, ended = asyncio.run(stand_still())
    assert isinstance(refusal, grpc.aio.AioRpcError)
    assert refusal.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert detail(refusal, error_details_pb2.RetryInfo).retry_delay.seconds == 1
    for one in ended:
        assert isinstance(one, grpc.aio.AioRpcError)
        assert one.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert reason(one) == "DEADLINE_EXCEEDED"
    stored(files, b"after that")


def test_a_stored_picture_is_segmented_as_the_same_picture_sent(server, files):
    picture = PICTURE.read_bytes()
    file = stored(files, picture, content_type="image/jpeg")
    inline = _segment(server, image_pb2.ImageSource(data=picture))
    by_name = _segment(server, image_pb2.ImageSource(uri=file.name))
    assert by_name.info.image.digest == file.digest
    assert by_name.masks == inline.masks


def test_an_image_file_that_is_not_there_or_too_large_is_refused(server, files):
    missing = refused(lambda: _segment(server, image_pb2.ImageSource(uri="files/" + "0" * 32)))
    assert missing.code() is grpc.StatusCode.NOT_FOUND
    assert reason(missing) == "FILE_NOT_FOUND"
    large = stored(files, b"x" * (2**20 + 1))
    error = refused(lambda: _segment(server, image_pb2.ImageSource(uri=large.name)))
    assert reason(error) == "PAYLOAD_TOO_LARGE"
    assert _field(error) == "image.uri"


def test_a_server_killed_in_the_middle_leaves_no_half_file(tmp_path, small_sam2):
    """Files that were answered are there afterwards; those that were not are not."""
    data = os.urandom(20 * CHUNK)
    settings = {
        "models": small_model_settings(small_sam2),
        "storage": {"folder": str(tmp_path / "files")},
    }
    uploads = [str(uuid.uuid4()) for _ in range(4)]
    answered: list[file_pb2.StoredFile] = []
    with server_process(tmp_path, **settings) as server:
        with grpc.insecure_channel(server.address) as channel, ThreadPoolExecutor(4) as threads:
            stub = file_pb2_grpc.FileServiceStub(channel)
            answered.append(stored(stub, data))
            calls = [threads.submit(stored, stub, data, upload_id=upload) for upload in uploads]
            _wait_for_parts(tmp_path / "files", len(answered))
            server.signal(signal.SIGKILL)
            answered += [call.result() for call in calls if call.exception() is None]
        server.wait()
    with (
        server_process(tmp_path, **settings) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = file_pb2_grpc.FileServiceStub(channel)
        listed = stub.ListFiles(file_pb2.ListFilesRequest()).files
        assert {file.name for file in answered} <= {file.name for file in listed}
        for file in listed:
            assert hashlib.sha256(_bytes(stub, file.name)).hexdigest() == file.digest[7:]
        for upload in uploads:
            file = _resumed(stub, upload, data)
            assert _bytes(stub, file.name) == data


def _resumed(files, upload: str, data: bytes) -> file_pb2.StoredFile:
    try:
        held = files.GetUpload(file_pb2.GetUploadRequest(upload_id=upload)).received_bytes
    except grpc.RpcError:
        held = 0

    def rest():
        yield describe(data, upload_id=upload, offset_bytes=held)
        yield from chunks(data[held:])

    return files.UploadFile(rest(), timeout=DEADLINE_S).file


def _wait_for_parts(folder: Path, files: int) -> None:
    """Return once parts of uploads lie beside those of so many whole files."""
    whole = 3 * files
    while len(list(folder.glob("*/files/*/data-*"))) <= whole:
        os.sched_yield()


def _upload_error(server: ServerProcess, client: str, requests) -> grpc.RpcError:
    if client == "blocking":
        with grpc.insecure_channel(server.address) as channel:
            stub = file_pb2_grpc.FileServiceStub(channel)
            return refused(lambda: stub.UploadFile(requests, timeout=DEADLINE_S))

    async def send():
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = file_pb2_grpc.FileServiceStub(channel)
            if client == "asyncio":
                return await stub.UploadFile(requests, timeout=DEADLINE_S)
            call = stub.UploadFile(timeout=DEADLINE_S)
            for request in requests:
                await call.write(request)
            await call.done_writing()
            return await call

    with pytest.raises(grpc.aio.AioRpcError) as raised:
        asyncio.run(send())
    return raised.value


def _with_time_to_live(message: file_pb2.UploadFileRequest, seconds: int):
    message.description.time_to_live.seconds = seconds
    return message


def _field(error) -> str:
    return str(detail(error, error_details_pb2.BadRequest).field_violations[0].field)


def _get(files, name: str) -> file_pb2.StoredFile:
    return files.GetFile(file_pb2.GetFileRequest(name=name)).file


def _bytes(files, name: str, **options) -> bytes:
    request = file_pb2.DownloadFileRequest(name=name, **options)
    return b"".join(answer.chunk for answer in files.DownloadFile(request))


def _segment(server, image) -> segmentation_pb2.SegmentImageResponse:
    request = segmentation_pb2.SegmentImageRequest(image=image)
    request.prompts.add().point.point.x = 200.0
    request.prompts[0].point.point.y = 150.0
    with grpc.insecure_channel(server.address) as channel:
        stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
        return stub.SegmentImage(request, timeout=DEADLINE_S)
