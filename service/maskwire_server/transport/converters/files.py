"""Stored files, their uploads and their downloads."""

from __future__ import annotations

from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from maskwire.v1 import file_pb2

from ...domain.errors import invalid_field
from ...domain.files.service import UploadMessage
from ...domain.files.store import DownloadUrl, FilePage, StoredFile
from ...domain.files.uploads import UploadBeginning, UploadDescription
from .geometry import image_size_to_proto

DEFAULT_PAGE_SIZE = 100
"""Files in a page where the request does not say."""

DEFAULT_URL_TIME_TO_LIVE = timedelta(minutes=15)
"""How long a presigned URL works where the request does not say."""

_MAX_DURATION_S = 315_576_000_000  # what protobuf allows


def timestamp_to_proto(time: datetime) -> Timestamp:
    """Write a time with a zone."""
    written = Timestamp()
    written.FromDatetime(time)
    return written


def stored_file_to_proto(file: StoredFile) -> file_pb2.StoredFile:
    """Write what a stored file is."""
    size = file.image_size
    return file_pb2.StoredFile(
        name=file.name,
        uri=file.uri,
        file_name=file.file_name,
        content_type=file.content_type,
        size_bytes=file.size_bytes,
        digest=file.digest,
        image_size=None if size is None else image_size_to_proto(size),
        create_time=timestamp_to_proto(file.create_time),
        expire_time=timestamp_to_proto(file.expire_time),
    )


def file_page_to_proto(page: FilePage) -> file_pb2.ListFilesResponse:
    """Write a page of files."""
    return file_pb2.ListFilesResponse(
        files=[stored_file_to_proto(file) for file in page.files],
        next_page_token=page.next_page_token,
    )


def download_url_to_proto(url: DownloadUrl) -> file_pb2.CreateDownloadUrlResponse:
    """Write a presigned URL."""
    return file_pb2.CreateDownloadUrlResponse(
        url=url.url, expire_time=timestamp_to_proto(url.expire_time)
    )


def upload_message_from_proto(message: file_pb2.UploadFileRequest) -> UploadMessage:
    """Read a message of an upload.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` for a message that carries nothing.
    """
    match message.WhichOneof("message"):
        case "chunk":
            return message.chunk
        case "description":
            return _beginning_from_proto(message.description)
        case _:
            raise invalid_field("message", "description or chunk is required")


def url_time_to_live_from_proto(request: file_pb2.CreateDownloadUrlRequest) -> timedelta:
    """Read how long a presigned URL is to work."""
    if not request.HasField("time_to_live"):
        return DEFAULT_URL_TIME_TO_LIVE
    return request.time_to_live.ToTimedelta()


def _beginning_from_proto(message: file_pb2.UploadDescription) -> UploadBeginning:
    description = UploadDescription(
        upload_id=message.upload_id,
        content_type=message.content_type,
        file_name=message.file_name,
        size_bytes=message.size_bytes,
        digest=message.digest,
        time_to_live=_time_to_live(message.time_to_live)
        if message.HasField("time_to_live")
        else None,
    )
    return UploadBeginning(description, message.offset_bytes)


def _time_to_live(duration: Duration) -> timedelta:
    """Read a duration of up to 10,000 years, which Python's durations can hold.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` beyond that, or where its parts are no duration.
    """
    if duration.seconds > _MAX_DURATION_S or not 0 <= duration.nanos < 10**9:
        rule = f"must be a duration of at most {_MAX_DURATION_S} s"
        raise invalid_field("description.time_to_live", rule)
    return timedelta(seconds=duration.seconds, microseconds=duration.nanos // 1000)
