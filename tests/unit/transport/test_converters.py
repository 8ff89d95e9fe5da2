"""Round trips between messages and domain types, and what is refused on the way in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from maskwire.v1 import (
    geometry_pb2,
    image_pb2,
    mask_pb2,
    prompt_pb2,
)
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import Box, ImageSize, Point
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.masks import (
    EncodedPng,
    EncodedPolygons,
    EncodedRle,
    EncodedRleCounts,
    MaskEncoding,
    decode_mask,
    encode_mask,
)
from maskwire_server.domain.polygons import Polygon
from maskwire_server.domain.prompts import (
    BoxPrompt,
    MaskPrompt,
    PointPrompt,
    TextPrompt,
)
from maskwire_server.domain.segmentation import (
    ImageDigest,
    ImageUri,
    InlineImage,
)
from maskwire_server.transport.converters import geometry, masks
from maskwire_server.transport.converters.images import image_source_from_proto
from maskwire_server.transport.converters.prompts import prompt_from_proto, prompts_from_proto

coordinates = st.floats(-1e6, 1e6, width=32)
sizes = st.builds(ImageSize, st.integers(1, 2**31), st.integers(1, 2**31))
bitmaps = arrays.arrays(
    np.bool_, st.tuples(st.integers(1, 24), st.integers(1, 24)), elements=st.booleans()
)
rings = st.integers(3, 12).flatmap(
    lambda points: arrays.arrays(np.float32, (points, 2), elements=coordinates)
)


def refused(function, *arguments) -> MaskwireError:
    with pytest.raises(MaskwireError) as raised:
        function(*arguments)
    return raised.value


@given(sizes)
def test_sizes_come_back(size):
    assert geometry.image_size_from_proto(geometry.image_size_to_proto(size)) == size


@given(coordinates, coordinates)
def test_points_come_back(x, y):
    point = Point(x, y)
    assert geometry.point_from_proto(geometry.point_to_proto(point)) == point


@given(coordinates, coordinates, coordinates, coordinates)
def test_boxes_come_back(x_min, y_min, x_max, y_max):
    box = Box(x_min, y_min, x_max, y_max)
    assert geometry.box_from_proto(geometry.box_to_proto(box)) == box


def test_a_sized_box_is_its_corner_and_its_extent():
    message = geometry_pb2.SizedBox(x=10, y=20, width=30, height=40)
    assert geometry.box_from_sized_proto(message) == Box(10, 20, 40, 60)


def test_a_normalized_box_is_centre_and_extent_in_fractions():
    message = geometry.normalized_box_to_proto(Box(10, 20, 30, 60), ImageSize(100, 200))
    got = [message.center_x, message.center_y, message.width, message.height]
    assert got == pytest.approx([0.2, 0.2, 0.2, 0.2])


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (image_pb2.ImageSource(data=b"bytes"), InlineImage(b"bytes")),
        (image_pb2.ImageSource(uri="data:,x"), ImageUri("data:,x")),
        (image_pb2.ImageSource(digest="sha256:00"), ImageDigest("sha256:00")),
    ],
)
def test_image_sources(message, expected):
    assert image_source_from_proto(message, "image") == expected


def test_an_image_without_a_source_is_refused():
    error = refused(image_source_from_proto, image_pb2.ImageSource(), "image")
    assert error.violations[0].field == "image.source"


@given(bitmaps, st.sampled_from([one for one in MaskEncoding if one is not MaskEncoding.NONE]))
def test_masks_of_every_encoding_come_back(bitmap, encoding):
    size = ImageSize(width_px=bitmap.shape[1], height_px=bitmap.shape[0])
    sent = masks.mask_to_proto(encode_mask(bitmap, encoding))
    wire = mask_pb2.EncodedMask.FromString(sent.SerializeToString())
    received = masks.mask_from_proto(wire, "mask")
    np.testing.assert_array_equal(decode_mask(received, size), bitmap)
    assert masks.mask_to_proto(received) == sent


@given(st.lists(st.tuples(rings, st.lists(rings, max_size=3)), max_size=4), sizes)
def test_polygons_come_back(shapes, size):
    polygons = tuple(Polygon(outer, tuple(holes)) for outer, holes in shapes)
    got = masks.mask_from_proto(masks.mask_to_proto(EncodedPolygons(polygons, size)), "mask")
    assert isinstance(got, EncodedPolygons)
    assert got.size == size
    assert len(got.polygons) == len(polygons)
    for one, other in zip(got.polygons, polygons, strict=True):
        np.testing.assert_array_equal(one.outer, other.outer)
        for hole, other_hole in zip(one.holes, other.holes, strict=True):
            np.testing.assert_array_equal(hole, other_hole)


@given(arrays.arrays(np.uint32, st.integers(1, 50)), sizes, st.binary(min_size=1))
def test_run_lengths_and_files_come_back(counts, size, data):
    got = masks.mask_from_proto(masks.mask_to_proto(EncodedRleCounts(counts, size)), "mask")
    assert isinstance(got, EncodedRleCounts)
    np.testing.assert_array_equal(got.counts, counts)
    assert got.counts.dtype == np.uint32
    for mask in (EncodedRle(data, size), EncodedPng(data)):
        assert masks.mask_from_proto(masks.mask_to_proto(mask), "mask") == mask


def test_a_mask_without_an_encoding_is_refused():
    error = refused(masks.mask_from_proto, mask_pb2.EncodedMask(), "prompts[3].mask.encoded")
    assert error.violations[0].field == "prompts[3].mask.encoded.encoding"


def test_every_mask_encoding_of_the_contract_is_read():
    for value in mask_pb2.MaskEncoding.values():
        assert isinstance(masks.mask_encoding_from_proto(value), MaskEncoding)


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        elements=st.floats(-40, 40, width=32),
    )
)
def test_logits_come_back(values):
    logits = MaskLogits(values, Box(-1.5, 2, 30, 40))
    message = masks.mask_logits_to_proto(logits)
    got = masks.mask_logits_from_proto(message, "logits")
    np.testing.assert_array_equal(got.values, values)
    assert got.values.dtype == np.dtype(np.float32)
    assert got.values.flags.writeable
    assert got.window == logits.window


def test_logits_of_another_count_are_refused():
    message = mask_pb2.MaskLogits(rows=2, columns=2, values=bytes(12))
    error = refused(masks.mask_logits_from_proto, message, "logits")
    assert error.violations[0].field == "logits.values"


POINT = geometry_pb2.Point(x=1, y=2)
FOREGROUND = prompt_pb2.POINT_LABEL_FOREGROUND
BACKGROUND = prompt_pb2.POINT_LABEL_BACKGROUND
NEGATIVE = prompt_pb2.BOX_LABEL_NEGATIVE
BOX = geometry_pb2.Box(x_min=1, y_min=2, x_max=3, y_max=4)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (prompt_pb2.PointPrompt(point=POINT), PointPrompt(Point(1, 2), True)),
        (prompt_pb2.PointPrompt(point=POINT, label=FOREGROUND), PointPrompt(Point(1, 2), True)),
        (prompt_pb2.PointPrompt(point=POINT, label=BACKGROUND), PointPrompt(Point(1, 2), False)),
        (prompt_pb2.BoxPrompt(box=BOX), BoxPrompt(Box(1, 2, 3, 4), True)),
        (prompt_pb2.BoxPrompt(box=BOX, label=NEGATIVE), BoxPrompt(Box(1, 2, 3, 4), False)),
        (
            prompt_pb2.BoxPrompt(sized_box=geometry_pb2.SizedBox(x=1, y=2, width=2, height=2)),
            BoxPrompt(Box(1, 2, 3, 4), True),
        ),
        (
            prompt_pb2.MaskPrompt(encoded=mask_pb2.EncodedMask(png=mask_pb2.PngMask(data=b"png"))),
            MaskPrompt(EncodedPng(b"png")),
        ),
        (prompt_pb2.TextPrompt(text="wheel"), TextPrompt("wheel", None)),
        (prompt_pb2.TextPrompt(text="wheel", score_threshold=0), TextPrompt("wheel", 0.0)),
    ],
)
def test_prompts(message, expected):
    kind = type(message).__name__.removesuffix("Prompt").lower()
    prompt = prompt_pb2.Prompt(object_id=7, **{kind: message})
    got = prompt_from_proto(prompt, "prompts[0]")
    assert (got.content, got.object_id, got.field) == (expected, 7, "prompts[0]")


def test_prompts_know_their_place_and_need_no_object():
    message = prompt_pb2.Prompt(point=prompt_pb2.PointPrompt(point=POINT))
    got = prompts_from_proto([message, message], "prompts")
    assert [one.field for one in got] == ["prompts[0]", "prompts[1]"]
    assert [one.object_id for one in got] == [None, None]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (prompt_pb2.Prompt(), "prompts[0].prompt"),
        (prompt_pb2.Prompt(box=prompt_pb2.BoxPrompt()), "prompts[0].box.rectangle"),
        (prompt_pb2.Prompt(mask=prompt_pb2.MaskPrompt()), "prompts[0].mask.mask"),
        (
            prompt_pb2.Prompt(point=prompt_pb2.PointPrompt(point=POINT), frame_index=0),
            "prompts[0].frame_index",
        ),
    ],
)
def test_prompts_that_say_nothing_or_too_much_are_refused(message, field):
    error = refused(prompts_from_proto, [message], "prompts")
    assert (error.code, error.violations[0].field) == (ErrorCode.INVALID_ARGUMENT, field)
