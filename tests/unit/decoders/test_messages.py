"""What comes from a decoder is not believed: it may be a file that speaks."""

from __future__ import annotations

import pytest

from maskwire_server.decoders import messages
from maskwire_server.domain.errors import ErrorCode, MaskwireError, invalid_field
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.video.requests import VideoInfo

INFO = VideoInfo(ImageSize(96, 64), 12, 25.0, 0.48, "sha256:00")


def test_errors_come_back_as_they_were():
    error = invalid_field("image.data", "must not be empty")
    found = messages.error_from_fields(messages.error_to_fields(error))
    assert (found.code, found.message, found.violations) == (
        error.code,
        error.message,
        error.violations,
    )


@pytest.mark.parametrize(
    "fields",
    [
        None,
        {},
        {"code": "INTERNAL", "message": "x", "rules": []},
        {"code": "INVALID_ARGUMENT", "message": 5, "rules": []},
        {"code": "INVALID_ARGUMENT", "message": "x", "rules": [["field"]]},
        {"code": "INVALID_ARGUMENT", "message": "x", "rules": "no list"},
    ],
)
def test_other_errors_are_nonsense(fields):
    with pytest.raises(ValueError, match="no "):
        messages.error_from_fields(fields)


def test_an_error_is_not_longer_than_it_may_be():
    error = MaskwireError(ErrorCode.DATA_LOSS, "x" * 100_000)
    assert len(messages.error_from_fields(messages.error_to_fields(error)).message) < 10_000


@pytest.mark.parametrize(
    "shape",
    [None, [4, 5], [4, 5, 4], [0, 5, 3], [-4, -5, 3], [4.0, 5, 3], [1000, 1000, 3], "453", {}],
)
def test_shapes_that_cannot_be_are_nonsense(shape):
    with pytest.raises(ValueError, match="no shape"):
        messages.shape_from_fields(shape, most_values=10_000)


def test_shapes_within_the_limits_are_read():
    assert messages.shape_from_fields([50, 60, 3], most_values=9000) == (50, 60, 3)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"size": [0, 5]},
        {"size": [9999, 5]},
        {"duration_s": float("nan")},
        {"frames_per_second": "25"},
        {"readable_frames": -1},
        {"is_whole": None},
    ],
)
def test_videos_are_described_within_reason(change):
    fields = messages.video_to_fields(INFO, 12, is_whole=True) | change
    if not change:
        assert messages.video_from_fields(fields, 100) == (INFO, 12, True)
    else:
        with pytest.raises(ValueError, match="no video"):
            messages.video_from_fields(fields, 100)


@pytest.mark.parametrize("data", [b"[]", b"nonsense", b"\xff", b"5", b"[" * 60_000])
def test_messages_are_objects(data):
    with pytest.raises(ValueError, match="no message"):
        messages.decode(data)
