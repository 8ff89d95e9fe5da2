"""What is asked about: images and prompts of every kind."""

from __future__ import annotations

import base64
import hashlib
import io

import grpc
from PIL import Image

from maskwire.v1 import (
    prompt_pb2,
    segmentation_pb2,
)
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.rle import decode_rle
from tests.support.hosted_requests import (
    WIDTH,
    picture,
    refused,
    request,
    segment,
    violated_fields,
)
from tests.support.sam3_questions import QUESTIONS
from tests.support.sam3_scenes import answers


def test_image(channel: grpc.Channel) -> None:
    wanted = request()
    expected = segment(channel, wanted)
    wanted.image.uri = f"data:image/png;base64,{base64.b64encode(picture()).decode()}"
    by_uri = segment(channel, wanted)
    assert by_uri.info.image.digest == f"sha256:{hashlib.sha256(picture()).hexdigest()}"
    assert by_uri.masks == expected.masks
    wanted.image.digest = by_uri.info.image.digest
    assert segment(channel, wanted).masks == expected.masks


def test_text(channel: grpc.Channel) -> None:
    question = next(one for one in QUESTIONS if one.text == "blue square")
    scene = question.scene()
    file = io.BytesIO()
    Image.fromarray(scene.pixels).save(file, "PNG")
    wanted = segmentation_pb2.SegmentImageRequest()
    wanted.image.data = file.getvalue()
    wanted.prompts.add().text.text = question.text
    found = segment(channel, wanted)
    size = ImageSize(width_px=scene.pixels.shape[1], height_px=scene.pixels.shape[0])
    bitmaps = [decode_rle(mask.mask.coco_rle.counts, size) for mask in found.masks]
    assert set(answers(scene, bitmaps)) == set(question.expected)
    assert {mask.text for mask in found.masks} == {question.text}
    wanted.prompts[0].text.text = "red triangle"
    assert not segment(channel, wanted).masks
    for broken in ("", " ", "a" * 1025):
        wanted.prompts[0].text.text = broken
        error = refused(lambda: segment(channel, wanted))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert violated_fields(error) == ["prompts[0].text.text"]


def test_points(channel: grpc.Channel) -> None:
    one, other = (segment(channel, request(at)).masks[0] for at in ((30, 30), (130, 90)))
    assert one.mask != other.mask
    error = refused(lambda: segment(channel, request((WIDTH, 10))))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_labels(channel: grpc.Channel) -> None:
    wanted = request((30, 30))
    refining = wanted.prompts.add(object_id=1).point
    refining.point.x, refining.point.y = 130, 90
    [unspecified] = segment(channel, wanted).masks
    refining.label = prompt_pb2.POINT_LABEL_FOREGROUND
    [foreground] = segment(channel, wanted).masks
    refining.label = prompt_pb2.POINT_LABEL_BACKGROUND
    [background] = segment(channel, wanted).masks
    assert unspecified.mask == foreground.mask != background.mask


def test_ids(channel: grpc.Channel) -> None:
    wanted = request((30, 30), (130, 90))
    wanted.prompts[0].object_id = 9
    wanted.prompts.add().box.sized_box.width = 50
    wanted.prompts[2].box.sized_box.height = 50
    assert [mask.object_id for mask in segment(channel, wanted).masks] == [9, 2, 1]
    wanted.prompts[1].object_id = 9
    assert [mask.object_id for mask in segment(channel, wanted).masks] == [9, 1]


def test_boxes(channel: grpc.Channel) -> None:
    wanted = request()
    wanted.prompts[0].box.box.x_max, wanted.prompts[0].box.box.y_max = 60, 50
    [small] = segment(channel, wanted).masks
    wanted.prompts[0].box.box.x_max, wanted.prompts[0].box.box.y_max = 150, 110
    [large] = segment(channel, wanted).masks
    assert small.mask != large.mask
    wanted.prompts[0].box.box.x_min = 150
    assert refused(lambda: segment(channel, wanted)).code() is grpc.StatusCode.INVALID_ARGUMENT


def test_sized_boxes(channel: grpc.Channel) -> None:
    wanted = request()
    corners = wanted.prompts[0].box.box
    corners.x_min, corners.y_min, corners.x_max, corners.y_max = 20, 30, 120, 90
    [expected] = segment(channel, wanted).masks
    sized = wanted.prompts[0].box.sized_box
    sized.x, sized.y, sized.width, sized.height = 20, 30, 100, 60
    [mask] = segment(channel, wanted).masks
    assert mask.mask == expected.mask
    sized.width = 0
    assert refused(lambda: segment(channel, wanted)).code() is grpc.StatusCode.INVALID_ARGUMENT
