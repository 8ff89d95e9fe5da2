"""Building requests: they say what the caller said, and obey the contract's rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import protovalidate
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwire.v1 import file_pb2, image_pb2, mask_pb2, prompt_pb2, rendering_pb2
from maskwire_client import (
    Box,
    BoxLabel,
    CocoRle,
    Delivery,
    ImageReference,
    ImageSize,
    Mask,
    MaskEncoding,
    MaskLogits,
    MaskPrompt,
    Point,
    PointLabel,
    Polygon,
    PolygonMask,
    Postprocess,
    Rendering,
    RenderingStyle,
    Text,
    _requests,
    _responses,
)

COORDINATE = st.floats(-1e6, 1e6, width=32)
OBJECT_ID = st.none() | st.integers(1, 2**31 - 1)


def build(**changes: Any):
    arguments: dict[str, Any] = {
        "points": (),
        "boxes": (),
        "masks": (),
        "texts": (),
        "model": "",
        "encoding": MaskEncoding.COCO_RLE,
        "return_multiple_masks": False,
        "max_masks": None,
        "include_scores": True,
        "include_boxes": False,
        "include_logits": False,
        "postprocess": None,
        "renderings": (),
        "delivery": Delivery.INLINE,
        "inference_size_px": None,
    }
    return _requests.segment_request(_requests.SegmentArguments(**(arguments | changes)))


@given(COORDINATE, COORDINATE, st.sampled_from(PointLabel), OBJECT_ID)
def test_points(x: float, y: float, label: PointLabel, object_id: int | None) -> None:
    (prompt,) = build(points=[Point(x, y, label, object_id)]).prompts
    assert (prompt.point.point.x, prompt.point.point.y) == (x, y)
    assert prompt_pb2.PointLabel.Name(prompt.point.label) == f"POINT_LABEL_{label.name}"
    assert prompt.HasField("object_id") == (object_id is not None)
    assert prompt.object_id == (object_id or 0)


@given(st.tuples(*[COORDINATE] * 4), st.sampled_from(BoxLabel), OBJECT_ID)
def test_boxes(
    edges: tuple[float, float, float, float], label: BoxLabel, object_id: int | None
) -> None:
    (prompt,) = build(boxes=[Box(*edges, label, object_id)]).prompts
    box = prompt.box.box
    assert (box.x_min, box.y_min, box.x_max, box.y_max) == edges
    assert prompt_pb2.BoxLabel.Name(prompt.box.label) == f"BOX_LABEL_{label.name}"
    assert prompt.HasField("object_id") == (object_id is not None)


def test_tuples_are_points_and_boxes() -> None:
    assert build(points=[(1, 2)]) == build(points=[Point(1, 2)])
    assert build(boxes=[(1, 2, 3, 4)]) == build(boxes=[Box(1, 2, 3, 4)])


def test_strings_are_texts() -> None:
    assert build(texts=["a wheel"]) == build(texts=[Text("a wheel")])
    (prompt,) = build(texts=[Text("a wheel", score_threshold=0.0)]).prompts
    assert prompt.text.HasField("score_threshold")


def test_prompts_come_in_the_documented_order() -> None:
    bitmap = np.ones((2, 2), dtype=np.bool_)
    request = build(
        texts=["a"], masks=[MaskPrompt(bitmap)], boxes=[(0, 0, 1, 1)], points=[(0, 0), (1, 1)]
    )
    kinds = [prompt.WhichOneof("prompt") for prompt in request.prompts]
    assert kinds == ["point", "point", "box", "mask", "text"]


def test_bitmaps_go_as_one_bit_png() -> None:
    bitmap = np.random.default_rng(0).random((30, 40)) > 0.5
    (prompt,) = build(masks=[MaskPrompt(bitmap, 3)]).prompts
    assert prompt.object_id == 3
    received = _responses.encoded_mask(prompt.mask.encoded)
    assert received is not None
    assert np.array_equal(received.decode(), bitmap)
    assert len(prompt.mask.encoded.png.data) < bitmap.size / 8 + 200


@pytest.mark.parametrize(
    "bitmap",
    [np.ones((2, 2), np.uint8), np.ones((2, 2, 1), np.bool_), np.ones((0, 2), np.bool_)],
)
def test_arrays_that_are_no_bitmap_are_refused(bitmap: np.ndarray) -> None:
    with pytest.raises(ValueError, match="bool of shape"):
        build(masks=[MaskPrompt(bitmap)])


def test_an_answer_is_sent_back_as_logits_if_it_has_them() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    logits = MaskLogits(window=Box(1, 2, 3, 4), values=values)
    encoded = CocoRle(ImageSize(4, 4), b"04")
    mask = Mask(index=0, object_id=1, area_px=0, encoded=encoded, logits=logits)
    (prompt,) = build(masks=[MaskPrompt(mask)]).prompts
    returned = _responses.mask_logits(prompt.mask.logits)
    assert np.array_equal(returned.values, values)
    assert returned.window == logits.window
    without = Mask(index=0, object_id=1, area_px=0, encoded=encoded)
    (prompt,) = build(masks=[MaskPrompt(without)]).prompts
    assert prompt.mask.encoded.coco_rle.counts == b"04"
    with pytest.raises(ValueError, match="neither"):
        build(masks=[MaskPrompt(Mask(index=0, object_id=1, area_px=0))])


def test_polygons_survive_the_way_there_and_back() -> None:
    ring = (0.0, 0.0, 3.0, 0.0, 3.0, 3.0)
    mask = PolygonMask(ImageSize(4, 4), (Polygon(ring, (ring, ring)), Polygon(ring)))
    assert _responses.encoded_mask(_requests.encoded_mask_message(mask)) == mask


def test_options_are_said_or_left_to_the_server() -> None:
    request = build()
    assert request.mask_options.encoding == mask_pb2.MASK_ENCODING_COCO_RLE
    assert not request.mask_options.HasField("max_masks")
    assert not request.HasField("postprocess")
    assert not request.HasField("inference_size_px")
    assert request.delivery == file_pb2.DELIVERY_INLINE
    assert build(inference_size_px=1024).inference_size_px == 1024
    request = build(
        max_masks=5,
        include_logits=True,
        postprocess=Postprocess(min_score=0.0, smoothing_radius_px=1.5),
        renderings=[Rendering(RenderingStyle.CUTOUT, quality=80)],
    )
    assert request.mask_options.max_masks == 5
    assert request.mask_options.include_logits
    assert request.postprocess.HasField("min_score")
    assert not request.postprocess.HasField("max_overlap_iou")
    assert request.renderings[0].style == rendering_pb2.RENDERING_STYLE_CUTOUT
    assert not request.renderings[0].HasField("opacity")


def test_what_is_built_obeys_the_contract() -> None:
    request = build(
        points=[(1, 2), Point(3, 4, PointLabel.BACKGROUND, 1)],
        boxes=[(1, 2, 3, 4)],
        masks=[MaskPrompt(np.ones((2, 2), dtype=np.bool_))],
        texts=["a wheel"],
        postprocess=Postprocess(),
        renderings=[Rendering()],
    )
    reference = ImageReference("sha256:" + "0" * 64)
    request.image.CopyFrom(_requests.reference_source(reference))
    protovalidate.validate(request)


def test_references_are_digests_or_addresses() -> None:
    digest = "sha256:" + "ab" * 32
    assert _requests.reference_source(ImageReference(digest)).digest == digest
    source = _requests.reference_source(ImageReference("files/abc"))
    assert source == image_pb2.ImageSource(uri="files/abc")


@pytest.mark.parametrize(
    "texts", ["wheel", [b"wheel"], [None], [("wheel", 0.3)], [3]], ids=lambda texts: repr(texts)
)
def test_what_is_no_list_of_texts_is_not_taken_for_one(texts: Any):
    """A string is a sequence of strings: its letters would be asked for."""
    with pytest.raises(TypeError, match="Text"):
        build(texts=texts)


def test_a_bitmap_alone_is_no_mask_prompt():
    masks: Any = [np.ones((2, 3), dtype=np.bool_)]
    with pytest.raises(TypeError, match="MaskPrompt"):
        build(masks=masks)
