"""`maskwire.v1.FileService` over the domain's service of the same name."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial

from maskwire.v1 import file_pb2, file_pb2_grpc

from ...domain.files.service import FileService
from ..calls import ServicerContext, current_caller
from ..converters.files import (
    DEFAULT_PAGE_SIZE,
    download_url_to_proto,
    file_page_to_proto,
    stored_file_to_proto,
    upload_message_from_proto,
    url_time_to_live_from_proto,
)

_ACCEPTED = (("maskwire-upload-accepted", "1"),)


class FileServicer(file_pb2_grpc.FileServiceServicer):
    """Keeps files for callers."""

    def __init__(self, files: FileService) -> None:
        self._files = files

    async def UploadFile(  # noqa: N802  # the contract's name
        self, request_iterator: AsyncIterator[file_pb2.UploadFileRequest], context: ServicerContext
    ) -> file_pb2.UploadFileResponse:
        """Receive a file; initial metadata tells the client that its description was accepted."""
        messages = (upload_message_from_proto(request) async for request in request_iterator)
        accept = partial(context.send_initial_metadata, _ACCEPTED)
        file = await self._files.upload(messages, current_caller.get(), accept)
        return file_pb2.UploadFileResponse(file=stored_file_to_proto(file))

    async def GetUpload(  # noqa: N802  # the contract's name
        self, request: file_pb2.GetUploadRequest, context: ServicerContext
    ) -> file_pb2.GetUploadResponse:
        """Tell how much of an upload is held."""
        upload = await self._files.get_upload(current_caller.get(), request.upload_id)
        return file_pb2.GetUploadResponse(
            received_bytes=upload.received_bytes, size_bytes=upload.description.size_bytes
        )

    async def DownloadFile(  # noqa: N802  # the contract's name
        self, request: file_pb2.DownloadFileRequest, context: ServicerContext
    ) -> AsyncGenerator[file_pb2.DownloadFileResponse]:
        """Send what a file is, then its bytes."""
        file, chunks = await self._files.download(
            current_caller.get(), request.name, request.offset_bytes, request.limit_bytes or None
        )
        yield file_pb2.DownloadFileResponse(file=stored_file_to_proto(file))
        async with aclosing(chunks):
            async for chunk in chunks:
                yield file_pb2.DownloadFileResponse(chunk=chunk)

    async def GetFile(  # noqa: N802  # the contract's name
        self, request: file_pb2.GetFileRequest, context: ServicerContext
    ) -> file_pb2.GetFileResponse:
        """Tell what a file is."""
        file = await self._files.get(current_caller.get(), request.name)
        return file_pb2.GetFileResponse(file=stored_file_to_proto(file))

    async def ListFiles(  # noqa: N802  # the contract's name
        self, request: file_pb2.ListFilesRequest, context: ServicerContext
    ) -> file_pb2.ListFilesResponse:
        """List the caller's files, newest first."""
        size = request.page_size if request.HasField("page_size") else DEFAULT_PAGE_SIZE
        page = await self._files.list(current_caller.get(), size, request.page_token)
        return file_page_to_proto(page)

    async def DeleteFile(  # noqa: N802  # the contract's name
        self, request: file_pb2.DeleteFileRequest, context: ServicerContext
    ) -> file_pb2.DeleteFileResponse:
        """Remove a file."""
        await self._files.delete(current_caller.get(), request.name)
        return file_pb2.DeleteFileResponse()

    async def CreateDownloadUrl(  # noqa: N802  # the contract's name
        self, request: file_pb2.CreateDownloadUrlRequest, context: ServicerContext
    ) -> file_pb2.CreateDownloadUrlResponse:
        """Make a presigned URL."""
        to_live = url_time_to_live_from_proto(request)
        url = await self._files.download_url(current_caller.get(), request.name, to_live)
        return download_url_to_proto(url)
