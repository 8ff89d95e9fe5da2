"""Both clients against a real server: files up and down, over connections that break too."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from maskwire_client import ImageReference, errors
from tests.integration.server.conftest import small_model_settings
from tests.support.both_clients import connect
from tests.support.cutting_proxy import cutting_proxy
from tests.support.sam2_checkpoints import Sam2Files
from tests.support.server_process import ServerProcess, server_process

MAX_FILE = 40 * 2**20

__all__ = ["connect"]


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, small_sam2: Sam2Files
) -> Iterator[ServerProcess]:
    with server_process(
        tmp_path_factory.mktemp("server"),
        models=small_model_settings(small_sam2),
        storage={"max_file_bytes": MAX_FILE},
    ) as process:
        yield process


async def test_a_file_goes_up_and_down(connect, server, tmp_path):
    source, copy = tmp_path / "clip.mp4", tmp_path / "copy.mp4"
    source.write_bytes(os.urandom(3_000_001))
    async with connect(server.address) as client:
        file = await client.upload(source, time_to_live=timedelta(minutes=5))
        assert (file.content_type, file.file_name) == ("video/mp4", "clip.mp4")
        assert file.size_bytes == 3_000_001
        assert file.expire_time - file.create_time == timedelta(minutes=5)
        assert await client.download(file, copy) == file
        assert copy.read_bytes() == source.read_bytes()
        assert {path.name for path in tmp_path.iterdir()} == {"clip.mp4", "copy.mp4"}
        assert await client.read_file(file.name) == source.read_bytes()


async def test_files_are_listed_and_deleted(connect, server):
    async with connect(server.address) as client:
        first = await client.upload(b"first", file_name="a.png")
        second = await client.upload(b"second")
        assert first.content_type == "image/png"
        assert second.content_type == "application/octet-stream"
        listed = await client.files()
        assert listed[:2] == (second, first)
        assert await client.files(limit=1) == (second,)
        await client.delete_file(first)
        assert first not in await client.files()
        with pytest.raises(errors.StoredFileNotFound):
            await client.read_file(first)
        with pytest.raises(errors.StoredFileNotFound):
            await client.delete_file(first.name)


async def test_a_folder_has_no_presigned_urls(connect, server):
    async with connect(server.address) as client:
        file = await client.upload(b"123")
        with pytest.raises(errors.FailedPrecondition, match="DownloadFile"):
            await client.download_url(file)


async def test_a_broken_upload_goes_on_by_itself(connect, server):
    data = os.urandom(30 * 2**20)
    with cutting_proxy(server.address, 12 * 2**20, 14 * 2**20) as proxy:
        async with connect(proxy.address, retry_attempts=1) as client:
            file = await client.upload(data)
        assert proxy.cuts == 2
    async with connect(server.address) as client:
        assert await client.read_file(file) == data


async def test_a_broken_download_goes_on_by_itself(connect, server, tmp_path):
    data = os.urandom(30 * 2**20)
    async with connect(server.address) as client:
        file = await client.upload(data)
    with cutting_proxy(server.address, 12 * 2**20, 14 * 2**20) as proxy:
        async with connect(proxy.address, retry_attempts=1) as client:
            await client.download(file, tmp_path / "copy")
        assert proxy.cuts == 2
    assert (tmp_path / "copy").read_bytes() == data


async def test_an_upload_is_gone_on_with_by_another_client(connect, server):
    data = os.urandom(30 * 2**20)
    upload = str(uuid.uuid4())
    with cutting_proxy(server.address, *[20 * 2**20] + [0] * 20) as proxy:
        async with connect(proxy.address, retry_attempts=1, overload_retries=0) as client:
            with pytest.raises(errors.MaskwireError):
                await client.upload(data, upload_id=upload, timeout_s=3)
    async with connect(server.address) as client:
        file = await client.upload(data, upload_id=upload)
        assert await client.read_file(file) == data
        assert await client.upload(data, upload_id=upload) == file


async def test_a_file_that_is_too_large_is_refused_before_it_is_sent(connect, server):
    async with connect(server.address) as client:
        for _ in range(3):
            with pytest.raises(errors.PayloadTooLarge, match="max_file_bytes"):
                await client.upload(b"x" * (MAX_FILE + 1))


async def test_files_that_cannot_be_read_or_written_raise_what_python_raises(
    connect, server, tmp_path
):
    async with connect(server.address) as client:
        with pytest.raises(FileNotFoundError):
            await client.upload(tmp_path / "missing")
        with pytest.raises(ValueError, match="empty"):
            await client.upload(b"")
        file = await client.upload(b"123")
        with pytest.raises(FileNotFoundError):
            await client.download(file, tmp_path / "no folder" / "copy")


async def test_a_picture_that_was_uploaded_is_segmented_by_name(connect, server):
    picture = Path(__file__).parents[3] / "clients/python/pictures/demo.jpg"
    async with connect(server.address) as client:
        file = await client.upload(picture)
        result = await client.segment(ImageReference(file.name), boxes=[(10, 10, 100, 100)])
        assert result.info.image.digest == file.digest
