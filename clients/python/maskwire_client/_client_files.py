"""The blocking client's calls about stored files."""

from __future__ import annotations

import abc
import io
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc

from maskwire.v1 import file_pb2, file_pb2_grpc

from ._calls import Deadline, Steps, call_steps
from ._configuration import Configuration
from ._file_messages import (
    MAX_PAGE,
    Download,
    UploadInput,
    UploadSource,
    file_name_of,
    partial_path,
    resuming_steps,
    upload_source,
)
from ._responses import stored_file
from .results import StoredFile


class FileCalls(abc.ABC):
    """The part of `Client` that stores files and fetches them."""

    _configuration: Configuration
    _channel: grpc.Channel

    def upload(
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
        """Upload a file; where the connection breaks, it goes on from what the server holds.

        Args:
            file: A path, or the bytes.
            content_type: Media type; empty guesses it from the name.
            file_name: Name to suggest to those who save it; empty is the path's.
            time_to_live: How long to keep it; None is the server's default, which is also the most.
            upload_id: UUID of an upload that an earlier call began, to go on with it; or a new one,
                so that a later call may. None draws one.
            timeout_s: Seconds that all of it may take; None sets no limit.
            request_id: Identifier for the server's logs; None makes one.

        Raises:
            PayloadTooLarge: It is larger than the server takes.
            ResourceExhausted: The stored bytes would be more than the server allows.
            MaskwireError: The call failed otherwise.
            OSError: The file cannot be read.
            ValueError: The file is empty.
        """
        source = upload_source(
            file,
            content_type=content_type,
            file_name=file_name,
            time_to_live=time_to_live,
            upload_id=upload_id,
        )
        steps = resuming_steps(Deadline(timeout_s), self._configuration.overload_retries)
        sending = _Upload(file_pb2_grpc.FileServiceStub(self._channel), source)
        return stored_file(self._carry_out(steps, sending, None, request_id).file)

    def download(
        self,
        file: StoredFile | str,
        path: str | os.PathLike[str],
        *,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> StoredFile:
        """Download a file to a path; where the connection breaks, it goes on from there.

        The bytes are in a file beside it, with `.part` at its name's end, until all of them are
        there and their digest is right.

        Args:
            file: The file, or its resource name `files/...`.
            path: Where to save it.
            timeout_s: Seconds that all of it may take; None sets no limit.
            request_id: Identifier for the server's logs; None makes one.

        Raises:
            StoredFileNotFound: There is none of that name.
            DataLoss: The bytes that came are not those of the stored file.
            MaskwireError: The call failed otherwise.
            OSError: The file cannot be written.
        """
        whole, part = partial_path(path)
        with part.open("wb") as sink:
            downloaded = self._download(file_name_of(file), Download(sink), timeout_s, request_id)
        part.replace(whole)
        return downloaded

    def read_file(
        self,
        file: StoredFile | str,
        *,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> bytes:
        """Return the bytes of a stored file, as `download` does.

        Args:
            file: The file, or its resource name `files/...`.
            timeout_s: Seconds that all of it may take; None sets no limit.
            request_id: Identifier for the server's logs; None makes one.

        Raises:
            MaskwireError: As `download`.
        """
        sink = io.BytesIO()
        self._download(file_name_of(file), Download(sink), timeout_s, request_id)
        return sink.getvalue()

    def files(
        self,
        *,
        limit: int = 100,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> tuple[StoredFile, ...]:
        """List the stored files, newest first.

        Args:
            limit: Most files to list.
            timeout_s: Seconds that each page may take; None is the client's default.
            request_id: Identifier for the server's logs; None makes one.

        Raises:
            MaskwireError: The call failed.
        """
        stub = file_pb2_grpc.FileServiceStub(self._channel)
        found: list[StoredFile] = []
        request = file_pb2.ListFilesRequest()
        while len(found) < limit:
            request.page_size = min(limit - len(found), MAX_PAGE)
            page = self._call(stub.ListFiles, request, timeout_s, request_id)
            found += [stored_file(file) for file in page.files]
            request.page_token = page.next_page_token
            if not request.page_token:
                break
        return tuple(found)

    def delete_file(
        self,
        file: StoredFile | str,
        *,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> None:
        """Delete a stored file at once.

        Args:
            file: The file, or its resource name `files/...`.
            timeout_s: Seconds that this call may take; None is the client's default.
            request_id: Identifier for the server's logs; None makes one.

        Raises:
            StoredFileNotFound: There is none of that name.
            MaskwireError: The call failed otherwise.
        """
        stub = file_pb2_grpc.FileServiceStub(self._channel)
        request = file_pb2.DeleteFileRequest(name=file_name_of(file))
        self._call(stub.DeleteFile, request, timeout_s, request_id)

    def download_url(
        self,
        file: StoredFile | str,
        *,
        time_to_live: timedelta | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> str:
        """Return a presigned URL: whoever has it can fetch the file without the server.

        Args:
            file: The file, or its resource name `files/...`.
            time_to_live: How long it works, at most 7 days; None is 15 minutes.
            timeout_s: Seconds that this call may take; None is the client's default.
            request_id: Identifier for the server's logs; None makes one.

        Raises:
            FailedPrecondition: The server's store has no such URLs; use `download`.
            StoredFileNotFound: There is none of that name.
            MaskwireError: The call failed otherwise.
        """
        stub = file_pb2_grpc.FileServiceStub(self._channel)
        request = file_pb2.CreateDownloadUrlRequest(name=file_name_of(file))
        if time_to_live is not None:
            request.time_to_live.FromTimedelta(time_to_live)
        url: str = self._call(stub.CreateDownloadUrl, request, timeout_s, request_id).url
        return url

    def _download(
        self, name: str, download: Download, timeout_s: float | None, request_id: str | None
    ) -> StoredFile:
        stub = file_pb2_grpc.FileServiceStub(self._channel)

        def receive(_: object, **options: Any) -> file_pb2.StoredFile:
            answers = stub.DownloadFile(download.request(name), **options)
            try:
                for answer in answers:
                    download.take(answer)
            finally:
                answers.cancel()
            return download.finished()

        steps = resuming_steps(Deadline(timeout_s), self._configuration.overload_retries)
        return stored_file(self._carry_out(steps, receive, None, request_id))

    def _call(
        self,
        method: Callable[..., Any],
        request: object,
        timeout_s: float | None,
        request_id: str | None,
    ) -> Any:
        steps: Steps[Any] = call_steps(
            self._configuration.deadline(timeout_s), self._configuration.overload_retries
        )
        return self._carry_out(steps, method, request, request_id)

    @abc.abstractmethod
    def _carry_out(
        self,
        steps: Steps[Any],
        method: Callable[..., Any],
        request: object,
        request_id: str | None,
    ) -> Any:
        """Do what a call's steps say and return its response; `Client` does it."""


class _Upload:
    """One upload, attempted as often as its steps say."""

    def __init__(self, stub: file_pb2_grpc.FileServiceStub, source: UploadSource) -> None:
        self._stub = stub
        self._source = source
        self._may_be_begun = source.is_resumed

    def __call__(self, _: object, **options: Any) -> file_pb2.UploadFileResponse:
        offset = self._held_bytes(**options) if self._may_be_begun else 0
        self._may_be_begun = True
        failures: list[OSError] = []
        messages = self._source.messages(offset, failures)
        try:
            return self._stub.UploadFile(messages, **options)
        except grpc.RpcError:
            if failures:
                raise failures[0] from None
            raise

    def _held_bytes(self, **options: Any) -> int:
        request = file_pb2.GetUploadRequest(upload_id=self._source.description.upload_id)
        try:
            held = self._stub.GetUpload(request, **options)
        except grpc.RpcError as error:
            # Unknown, or finished: the upload itself tells which.
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return 0
            raise
        return held.received_bytes
