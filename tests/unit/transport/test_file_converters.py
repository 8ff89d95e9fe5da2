"""Reading requests about files, where what fuzzing found is not in the way."""

from __future__ import annotations

from datetime import timedelta

import pytest

from maskwire.v1 import file_pb2
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.files.uploads import UploadBeginning
from maskwire_server.transport.converters.files import upload_message_from_proto


def _request(seconds: int, nanos: int) -> file_pb2.UploadFileRequest:
    request = file_pb2.UploadFileRequest()
    request.description.time_to_live.seconds = seconds
    request.description.time_to_live.nanos = nanos
    return request


def test_the_longest_duration_is_read():
    read = upload_message_from_proto(_request(315_576_000_000, 999_999_999))
    assert isinstance(read, UploadBeginning)
    assert read.description.time_to_live == timedelta(seconds=315_576_000_000, microseconds=999_999)


@pytest.mark.parametrize(
    ("seconds", "nanos"), [(315_576_000_001, 0), (2**63 - 1, 0), (5, -1), (5, 10**9)]
)
def test_what_is_no_duration_is_refused(seconds, nanos):
    """Found by fuzzing: more seconds than Python's durations hold were INTERNAL."""
    with pytest.raises(MaskwireError) as caught:
        upload_message_from_proto(_request(seconds, nanos))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert caught.value.violations[0].field == "description.time_to_live"
