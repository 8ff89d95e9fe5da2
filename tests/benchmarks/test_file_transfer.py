"""What storing and fetching files costs over loopback, beside the same bytes over bare gRPC."""

# the methods carry the contract's names
from __future__ import annotations

import hashlib
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from maskwire.v1 import file_pb2, file_pb2_grpc
from tests.support.server_process import server_process

pytestmark = pytest.mark.benchmark

CHUNK = 2**20
SIZE = 256 * CHUNK
ROUNDS = 3

# Takes uploads and forgets them; sends as many bytes as the request's limit says.
BARE_SERVER = """
import asyncio
import grpc
from maskwire.v1 import file_pb2, file_pb2_grpc

class Bare(file_pb2_grpc.FileServiceServicer):
    async def UploadFile(self, requests, context):
        async for _ in requests:
            pass
        return file_pb2.UploadFileResponse()

    async def DownloadFile(self, request, context):
        chunk = bytes(2**20)
        for _ in range(request.limit_bytes // 2**20):
            yield file_pb2.DownloadFileResponse(chunk=chunk)

async def main():
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    file_pb2_grpc.add_FileServiceServicer_to_server(Bare(), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()

asyncio.run(main())
"""


@pytest.fixture
def bare() -> Iterator[file_pb2_grpc.FileServiceStub]:
    process = subprocess.Popen(
        [sys.executable, "-c", BARE_SERVER], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield file_pb2_grpc.FileServiceStub(channel)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_upload_and_download(bare, tmp_path: Path):
    data = bytes(range(256)) * (SIZE // 256)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    chunks = [data[start : start + CHUNK] for start in range(0, SIZE, CHUNK)]

    def messages():
        yield file_pb2.UploadFileRequest(
            description=file_pb2.UploadDescription(
                upload_id=str(uuid.uuid4()),
                content_type="application/octet-stream",
                size_bytes=SIZE,
                digest=digest,
            )
        )
        for chunk in chunks:
            yield file_pb2.UploadFileRequest(chunk=chunk)

    rates: dict[str, list[float]] = {}

    def measure(name, call):
        started = time.perf_counter()
        result = call()
        rates.setdefault(name, []).append(SIZE / 1e6 / (time.perf_counter() - started))
        return result

    def fetch(stub, name):
        request = file_pb2.DownloadFileRequest(name=name, limit_bytes=SIZE)
        return sum(len(answer.chunk) for answer in stub.DownloadFile(request))

    with (
        server_process(tmp_path) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stored = file_pb2_grpc.FileServiceStub(channel)
        for _ in range(ROUNDS):
            measure("bare upload", lambda: bare.UploadFile(messages()))
            file = measure("upload", lambda: stored.UploadFile(messages())).file
            assert measure("bare download", lambda: fetch(bare, "files/x")) == SIZE
            name = file.name
            assert measure("download", lambda name=name: fetch(stored, name)) == SIZE
            stored.DeleteFile(file_pb2.DeleteFileRequest(name=name))
    print(f"\n{SIZE / 1e6:.0f} MB in messages of 1 MiB, loopback, best of {ROUNDS}:")
    for name, measured in rates.items():
        print(f"{name:>14}: {max(measured):6.0f} MB/s  (all: {[round(one) for one in measured]})")
    for way in ("upload", "download"):
        print(f"{way:>14}: {max(rates[way]) / max(rates[f'bare {way}']):.2f} of the bare stream")
