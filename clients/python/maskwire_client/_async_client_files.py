"""The asyncio client's calls about stored files; `_client_files` with `await`."""

from __future__ import annotations

import abc
import asyncio
import io
import os
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import grpc

from maskwire.v1 import file_pb2, file_pb2_grpc

from ._calls import Deadline, Steps, call_steps
from ._configuration import Configuration
from ._file_messages import (
    ACCEPTED_KEY,
    CHUNK_BYTES,
    MAX_PAGE,
    Download,
    UploadInput,
    UploadSource,
    file_name_of,
    partial_path,
    resuming_steps,
    upload_source,
)
from ._first_status import FirstStatus
from ._responses import stored_file
from .results import StoredFile


class AsyncFileCalls(abc.ABC):
    """The part of `AsyncClient` that stores files and fetches them."""

    _configuration: Configuration
    _channel: grpc.aio.Channel

    async def upload(
        self,
        file: UploadInput,
        *,
        content_type: str = "",
        file_name: str = "",
        time_to_live: timedelta | None = None,
        upload_id: str | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> StoredFile:
        """Upload a file; as `Client.upload`."""
        source = await asyncio.to_thread(
            upload_source,
            file,
            content_type=content_type,
            file_name=file_name,
            time_to_live=time_to_live,
            upload_id=upload_id,
        )
        steps = resuming_steps(Deadline(timeout_s), self._configuration.overload_retries)
        sending = _Upload(file_pb2_grpc.FileServiceStub(self._channel), source)
        return stored_file((await self._carry_out(steps, sending, None, request_id)).file)

    async def download(
        self,
        file: StoredFile | str,
        path: str | os.PathLike[str],
        *,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> StoredFile:
        """Download a file to a path; as `Client.download`."""
        whole, part = partial_path(path)
        sink = await asyncio.to_thread(part.open, "wb")
        try:
            download = Download(sink)
            downloaded = await self._download(file_name_of(file), download, timeout_s, request_id)
        finally:
            await asyncio.to_thread(sink.close)
        await asyncio.to_thread(part.replace, whole)
        return downloaded

    async def read_file(
        self,
        file: StoredFile | str,
        *,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> bytes:
        """Return the bytes of a stored file; as `Client.read_file`."""
        sink = io.BytesIO()
        await self._download(file_name_of(file), Download(sink), timeout_s, request_id)
        return sink.getvalue()

    async def files(
        self,
        *,
        limit: int = 100,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> tuple[StoredFile, ...]:
        """List the stored files, newest first; as `Client.files`."""
        stub = file_pb2_grpc.FileServiceStub(self._channel)
        found: list[StoredFile] = []
        request = file_pb2.ListFilesRequest()
        while len(found) < limit:
            request.page_size = min(limit - len(found), MAX_PAGE)
            page = await self._call(stub.ListFiles, request, timeout_s, request_id)
            found += [stored_file(file) for file in page.files]
            request.page_token = page.next_page_token
            if not request.page_token:
                break
        return tuple(found)

    async def delete_file(
        self,
        file: StoredFile | str,
        *,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> None:
        """Delete a stored file at once; as `Client.delete_file`."""
        stub = file_pb2_grpc.FileServiceStub(self._channel)
        request = file_pb2.DeleteFileRequest(name=file_name_of(file))
        await self._call(stub.DeleteFile, request, timeout_s, request_id)

    async def download_url(
        self,
        file: StoredFile | str,
        *,
        time_to_live: timedelta | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> str:
        """Return a presigned URL; as `Client.download_url`."""
        stub = file_pb2_grpc.FileServiceStub(self._channel)
        request = file_pb2.CreateDownloadUrlRequest(name=file_name_of(file))
        if time_to_live is not None:
            request.time_to_live.FromTimedelta(time_to_live)
        made = await self._call(stub.CreateDownloadUrl, request, timeout_s, request_id)
        return str(made.url)

    async def _download(
        self, name: str, download: Download, timeout_s: float | None, request_id: str | None
    ) -> StoredFile:
        stub = file_pb2_grpc.FileServiceStub(self._channel)

        async def receive(_: object, **options: Any) -> file_pb2.StoredFile:
            answers = stub.DownloadFile(download.request(name), **options)
            try:
                async for answer in answers:
                    await asyncio.to_thread(download.take, answer)
            finally:
                answers.cancel()
            return download.finished()

        steps = resuming_steps(Deadline(timeout_s), self._configuration.overload_retries)
        return stored_file(await self._carry_out(steps, receive, None, request_id))

    async def _call(
        self,
        method: Callable[..., Awaitable[Any]],
        request: object,
        timeout_s: float | None,
        request_id: str | None,
    ) -> Any:
        steps: Steps[Any] = call_steps(
            self._configuration.deadline(timeout_s), self._configuration.overload_retries
        )
        return await self._carry_out(steps, method, request, request_id)

    @abc.abstractmethod
    async def _carry_out(
        self,
        steps: Steps[Any],
        method: Callable[..., Awaitable[Any]],
        request: object,
        request_id: str | None,
    ) -> Any:
        """Do what a call's steps say and return its response; `AsyncClient` does it."""


class _Upload:
    """One upload, attempted as often as its steps say."""

    def __init__(self, stub: Any, source: UploadSource) -> None:
        self._stub = stub
        self._source = source
        self._may_be_begun = source.is_resumed

    async def __call__(self, _: object, **options: Any) -> file_pb2.UploadFileResponse:
        offset = await self._held_bytes(**options) if self._may_be_begun else 0
        self._may_be_begun = True
        call = self._stub.UploadFile(**options)
        first_status = FirstStatus(call)
        try:
            return await self._send(call, offset)
        except grpc.aio.AioRpcError as error:
            raise first_status.translate(error) from error
        finally:
            call.cancel()

    async def _send(self, call: Any, offset: int) -> file_pb2.UploadFileResponse:
        """Send the description, and the bytes once it is accepted."""
        await call.write(self._source.first_message(offset))
        answer: file_pb2.UploadFileResponse
        if ACCEPTED_KEY in dict(await call.initial_metadata()):
            opened = await asyncio.to_thread(self._source.open)
            try:
                await asyncio.to_thread(opened.seek, offset)
                while chunk := await asyncio.to_thread(opened.read, CHUNK_BYTES):
                    await call.write(file_pb2.UploadFileRequest(chunk=chunk))
                await call.done_writing()
            except asyncio.InvalidStateError:  # the call ended between two writes
                answer = await call
                return answer
            finally:
                await asyncio.to_thread(opened.close)
        answer = await call
        return answer

    async def _held_bytes(self, **options: Any) -> int:
        request = file_pb2.GetUploadRequest(upload_id=self._source.description.upload_id)
        try:
            held = await self._stub.GetUpload(request, **options)
        except grpc.aio.AioRpcError as error:
            # Unknown, or finished: the upload itself tells which.
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return 0
            raise
        received: int = held.received_bytes
        return received
