"""Pictures: styles, formats, inversion, inline or stored."""

from __future__ import annotations

import hashlib

import grpc
import numpy as np

from maskwire.v1 import (
    file_pb2,
    file_pb2_grpc,
    rendering_pb2,
)
from tests.support.hosted_requests import (
    DEADLINE_S,
    WIDTH,
    bitmap_of,
    opened,
    pixels,
    refused,
    request,
    segment,
)


def test_overlay(channel: grpc.Channel) -> None:
    wanted = request()
    assert not segment(channel, wanted).pictures
    wanted.renderings.add(opacity=1.0, draw_outlines=False)
    response = segment(channel, wanted)
    [drawn] = response.pictures
    assert drawn.style == rendering_pb2.RENDERING_STYLE_OVERLAY
    changed = (np.asarray(opened(drawn)) != pixels()).any(axis=2)
    np.testing.assert_array_equal(changed, bitmap_of(response.masks[0]))


def test_output_format(channel: grpc.Channel) -> None:
    wanted = request()
    formats = [
        rendering_pb2.PICTURE_FORMAT_UNSPECIFIED,
        rendering_pb2.PICTURE_FORMAT_JPEG,
        rendering_pb2.PICTURE_FORMAT_WEBP,
    ]
    for picture_format in formats:
        wanted.renderings.add(format=picture_format)
    wanted.renderings.add(format=rendering_pb2.PICTURE_FORMAT_JPEG, quality=10)
    drawn = segment(channel, wanted).pictures
    assert [opened(one).format for one in drawn] == ["PNG", "JPEG", "WEBP", "JPEG"]
    assert len(drawn[3].content.data) < len(drawn[1].content.data)


def test_contours(channel: grpc.Channel) -> None:
    wanted = request()
    wanted.renderings.add(style=rendering_pb2.RENDERING_STYLE_CONTOURS)
    [drawn] = segment(channel, wanted).pictures
    changed = (np.asarray(opened(drawn)) != pixels()).any(axis=2)
    assert 0 < changed.mean() < 1


def test_black_white(channel: grpc.Channel) -> None:
    wanted = request((30, 30), (130, 90))
    wanted.renderings.add(style=rendering_pb2.RENDERING_STYLE_BLACK_WHITE)
    response = segment(channel, wanted)
    [drawn] = response.pictures
    together = np.logical_or.reduce([bitmap_of(mask) for mask in response.masks])
    np.testing.assert_array_equal(np.asarray(opened(drawn)), np.where(together, 255, 0))


def test_invert(channel: grpc.Channel) -> None:
    wanted = request()
    for invert in (False, True):
        wanted.renderings.add(style=rendering_pb2.RENDERING_STYLE_BLACK_WHITE, invert=invert)
    plain, inverted = (np.asarray(opened(one)) for one in segment(channel, wanted).pictures)
    np.testing.assert_array_equal(inverted, 255 - plain)
    wanted.renderings.add(style=rendering_pb2.RENDERING_STYLE_LABEL_MAP, invert=True)
    assert refused(lambda: segment(channel, wanted)).code() is grpc.StatusCode.INVALID_ARGUMENT


def test_sync_mode(channel: grpc.Channel) -> None:
    wanted = request()
    wanted.renderings.add(style=rendering_pb2.RENDERING_STYLE_BLACK_WHITE)
    wanted.renderings.add(style=rendering_pb2.RENDERING_STYLE_COCO_JSON)
    inline = segment(channel, wanted).pictures
    assert [one.content.WhichOneof("content") for one in inline] == ["data", "data"]
    wanted.delivery = file_pb2.DELIVERY_STORED_FILE
    stored = segment(channel, wanted).pictures
    files = file_pb2_grpc.FileServiceStub(channel)
    for expected, one in zip(inline, stored, strict=True):
        assert one.content.WhichOneof("content") == "file"
        file = one.content.file
        download = files.DownloadFile(
            file_pb2.DownloadFileRequest(name=file.name), timeout=DEADLINE_S
        )
        data = b"".join(part.chunk for part in download)
        assert data == expected.content.data
        assert file.size_bytes == len(data)
        assert file.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
        assert file.content_type == one.content.content_type == expected.content.content_type
        assert file.file_name == one.content.file_name == expected.content.file_name
        assert file.image_size == expected.content.image_size
        assert file.expire_time.seconds > file.create_time.seconds
    assert (stored[0].content.image_size.width_px, stored[0].style) == (WIDTH, inline[0].style)
