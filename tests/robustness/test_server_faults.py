"""Faults of a server's machine: its process, its disk, its clock, its files of keys.

Each is drawn from a seed, `MASKWIRE_FAULT_SEED`; `README.md` lists them with all others.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import grpc
import pytest

from maskwire.v1 import file_pb2, file_pb2_grpc
from maskwire_client import Client, errors
from maskwire_server.identity.api_keys import ApiKeyRecord
from maskwire_server.identity.key_file import changed_keys
from maskwire_server.jobs.sqlite import SqliteJobBackend
from tests.robustness.seeds import fault_seed
from tests.support.job_backends import create
from tests.support.server_process import server_process

CHUNK = 2**20
QUEUE = "segmentation"
LEASE = timedelta(seconds=30)
HOUR = timedelta(hours=1)


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(f"{request.node.originalname} {fault_seed()}")


def refused(call: Callable[[], object], kind: type[errors.MaskwireError]) -> errors.MaskwireError:
    with pytest.raises(kind) as caught:
        call()
    return caught.value


def test_a_server_killed_in_an_upload_lets_it_go_on(tmp_path: Path, chance: random.Random):
    """`kill -9` somewhere in the upload: it goes on from what was kept, to the same digest."""
    data = chance.randbytes(24 * CHUNK + chance.randrange(CHUNK))
    upload = str(UUID(int=chance.getrandbits(128), version=4))
    killed_after = chance.randrange(10, 24)
    digest = "sha256:" + hashlib.sha256(data).hexdigest()

    killed = threading.Event()

    def requests() -> Iterator[file_pb2.UploadFileRequest]:
        described = file_pb2.UploadFileRequest()
        described.description.upload_id = upload
        described.description.content_type = "application/octet-stream"
        described.description.size_bytes = len(data)
        described.description.digest = digest
        yield described
        for number in range(killed_after):
            yield file_pb2.UploadFileRequest(chunk=data[number * CHUNK :][:CHUNK])
        killed.wait(60)

    with (
        server_process(tmp_path) as process,
        grpc.insecure_channel(process.address) as channel,
        ThreadPoolExecutor(1) as thread,
    ):
        stub = file_pb2_grpc.FileServiceStub(channel)
        uploading = thread.submit(stub.UploadFile, requests(), timeout=60)
        # Not before a part is on disk: there would be nothing to go on from.
        while not any("#" not in one.name for one in (tmp_path / "files").glob("**/data-*")):
            assert not uploading.done(), uploading.exception()
            os.sched_yield()
        process.signal(signal.SIGKILL)
        process.process.wait()
        killed.set()
        assert isinstance(uploading.exception(), grpc.RpcError)
    with server_process(tmp_path) as process, Client(process.address) as client:
        with grpc.insecure_channel(process.address) as channel:
            stub = file_pb2_grpc.FileServiceStub(channel)
            kept = stub.GetUpload(file_pb2.GetUploadRequest(upload_id=upload)).received_bytes
        assert 0 < kept <= killed_after * CHUNK
        stored = client.upload(data, content_type="application/octet-stream", upload_id=upload)
        assert stored.digest == digest
        assert client.read_file(stored) == data


def test_a_full_disk_is_told_and_spoils_nothing(tmp_path: Path, chance: random.Random):
    """Files may not grow past a size: what is stored stays whole, and later there is room again."""
    before = chance.randbytes(3 * CHUNK)
    more = chance.randbytes(chance.randrange(6, 12) * CHUNK)
    with server_process(tmp_path) as process, Client(process.address) as client:
        first = client.upload(before)
        limits = resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE)
        # The disk says EFBIG instead of ENOSPC: an error of a write either way.
        resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (CHUNK // 2, limits[1]))
        error = refused(lambda: client.upload(more), errors.MaskwireError)
        assert error.reason == "STORAGE_UNAVAILABLE", repr(error)
        assert client.read_file(first) == before
        assert [one.name for one in client.files()] == [first.name]
        resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, limits)
        second = client.upload(more)
        assert client.read_file(second) == more
        assert client.read_file(first) == before
    assert process.process.returncode == 0


@pytest.mark.parametrize("hours", [-1, 1], ids=["back", "ahead"])
async def test_a_clock_that_jumps_neither_loses_nor_doubles_a_job(
    tmp_path: Path, chance: random.Random, hours: int
):
    """The clock of the job store jumps while a job is worked on and another one waits."""
    clock = [datetime.now(UTC)]
    backend = SqliteJobBackend(tmp_path / "jobs.sqlite", LEASE, lambda: clock[0])
    await backend.open()
    try:
        first = await create(backend, queue=QUEUE)
        second = await create(backend, queue=QUEUE)
        working = await backend.take([QUEUE], LEASE)
        assert working is not None
        assert working.key == first.key
        clock[0] += hours * HOUR * chance.uniform(0.5, 2.0)
        # Whoever asks gets the one that waits, or, where the lease looks over, the first again.
        taken = await backend.take([QUEUE], LEASE)
        assert taken is not None
        assert taken.key == (first.key if hours > 0 else second.key)
        # A heartbeat of the first tells whether it is its own still.
        assert await backend.extend(working) is (hours < 0)
        await backend.settle(working)
        await backend.settle(taken)
        if hours > 0:
            last = await backend.take([QUEUE], LEASE)
            assert last is not None
            assert last.key == second.key
            await backend.settle(last)
        assert await backend.depths() == {}
    finally:
        await backend.close()


GARBAGE = {
    "bytes": lambda chance: chance.randbytes(500),
    "half": lambda chance: b'{"version": 1, "keys": [{"key_id": "0000',
    "nothing": lambda chance: b"",
    "another": lambda chance: json.dumps({"keys": [{"key_id": chance.random()}]}).encode(),
}


def replaced(file: Path, content: bytes) -> None:
    """Put other content in a file's place."""
    fresh = file.with_suffix(".fresh")
    fresh.write_bytes(content)
    fresh.replace(file)


def test_a_file_of_keys_that_becomes_garbage_shuts_nobody_out(
    tmp_path: Path, chance: random.Random
):
    """Keys stay as they were, the log says why, and the next good file is taken."""
    keys = tmp_path / "keys.json"
    record, key = ApiKeyRecord.create(name="one", tenant="acme", now=datetime.now(UTC))
    with changed_keys(keys) as made:
        made[record.key_id] = record
    good = keys.read_bytes()
    auth = {"keys_file": str(keys), "reload_interval_s": 0.02}
    with (
        server_process(tmp_path, auth=auth) as process,
        Client(process.address, api_key=key, retry_attempts=1) as client,
    ):
        for name in chance.sample(sorted(GARBAGE), len(GARBAGE)):
            said = process.lines_read
            # At once, as a mount does it: a file seen while it is written is another fault.
            replaced(keys, GARBAGE[name](chance))
            while not any("were not read again" in line for line in process.log_since(said)):
                client.models()
            client.models()
        replaced(keys, good)
        with changed_keys(keys) as made:
            made[record.key_id] = record.model_copy(update={"revoke_time": datetime.now(UTC)})
        error = refused(lambda: [client.models() for _ in range(100_000)], errors.Unauthenticated)
        assert "revoked" in error.message
    text = "\n".join(process.log)
    assert key.split("_", 2)[2] not in text
