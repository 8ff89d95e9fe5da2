"""Every parameter of the hosted endpoints that Maskwire replaces: field, default, range, effect.

`ROWS` is the table of the README. Each row names the field of the contract that carries the
parameter, and a test of this module that shows it carried out, or properly refused, on a server.
"""

from __future__ import annotations

import base64
import hashlib
import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from PIL import Image

from maskwire.v1 import (
    file_pb2,
    file_pb2_grpc,
    mask_pb2,
    prompt_pb2,
    rendering_pb2,
    segmentation_pb2,
    segmentation_pb2_grpc,
)
from maskwire_server.app import local_server
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.rle import decode_rle
from maskwire_server.settings import Settings
from tests.support.sam2_checkpoints import Sam2Files

SAM3, SAM3_RLE, SAM2_AUTO, SAM1 = "SAM 3 image", "SAM 3 RLE", "SAM 2 auto-segment", "SAM 1"
PROMPTED, EVERYTHING = "SegmentImageRequest", "AutoSegmentRequest"
DEADLINE_S = 120.0
WIDTH, HEIGHT = 160, 120
SIZE = ImageSize(width_px=WIDTH, height_px=HEIGHT)


@dataclass(frozen=True)
class Row:
    """One parameter of a hosted endpoint.

    Attributes:
        endpoint: The endpoint.
        parameter: Its name there.
        request: The request that carries it here.
        field: Path of the field in the request; `[]` stands for an element.
        default: What an absent field means.
        range: What is accepted.
        outside: A value beyond the range, where there is one that the field can hold.
        shown_by: The test of this module that shows its effect.
    """

    endpoint: str
    parameter: str
    request: str
    field: str
    default: str
    range: str
    shown_by: str
    outside: float | None = None


def _sam3(endpoint: str) -> list[Row]:
    def row(parameter: str, field: str, default: str, accepted: str, by: str, **more: Any) -> Row:
        return Row(endpoint, parameter, PROMPTED, field, default, accepted, by, **more)

    text_rule = "1 to 1024 bytes"
    return [
        row(
            "image_url",
            "image.uri",
            "required",
            "`data:` URI; or `image.data`, `image.digest`",
            "image",
        ),
        row("prompt / text_prompt", "prompts[].text.text", "required", text_rule, "text"),
        row("point_prompts", "prompts[].point.point", "none", "inside the image", "points"),
        row("point_prompts[].label", "prompts[].point.label", "foreground", "enum", "labels"),
        row(
            "point_prompts[].object_id", "prompts[].object_id", "assigned", "1 to 2147483647", "ids"
        ),
        row("box_prompts", "prompts[].box.box", "none", "overlaps the image", "boxes"),
        row("apply_mask", "renderings[].style", "no picture", "OVERLAY", "overlay"),
        row("output_format", "renderings[].format", "PNG", "PNG, JPEG, WEBP", "output_format"),
        row("sync_mode", "delivery", "INLINE (true)", "INLINE, STORED_FILE (false)", "sync_mode"),
        row(
            "return_multiple_masks",
            "mask_options.return_multiple_masks",
            "false",
            "bool",
            "several",
        ),
        row("max_masks", "mask_options.max_masks", "3", "1 to 32", "max_masks", outside=33),
        row("include_scores", "mask_options.include_scores", "false", "bool", "scores"),
        row("include_boxes", "mask_options.include_boxes", "false", "bool", "normalized_boxes"),
    ]


def _auto(parameter: str, field: str, default: str, accepted: str, by: str, **more: Any) -> Row:
    return Row(SAM2_AUTO, parameter, EVERYTHING, field, default, accepted, by, **more)


def _sam1(parameter: str, field: str, default: str, accepted: str, by: str, **more: Any) -> Row:
    return Row(SAM1, parameter, PROMPTED, field, default, accepted, by, **more)


ROWS = [
    *_sam3(SAM3),
    *_sam3(SAM3_RLE),
    Row(SAM3_RLE, "rle", PROMPTED, "mask_options.encoding", "COCO_RLE", "enum", "encodings"),
    _auto("image_url", "image.uri", "required", "as above", "everything"),
    _auto(
        "points_per_side", "options.points_per_side", "32", "1 to 128", "everything", outside=129
    ),
    _auto("pred_iou_thresh", "options.pred_iou_thresh", "0.88", "0 to 1", "everything", outside=2),
    _auto(
        "stability_score_thresh",
        "options.stability_score_thresh",
        "0.95",
        "0 to 1",
        "everything",
        outside=-0.1,
    ),
    _auto(
        "min_mask_region_area",
        "options.min_mask_region_area",
        "100",
        "0 and more",
        "small_regions",
    ),
    _auto(
        "combined mask",
        "renderings[].style",
        "no picture",
        "BLACK_WHITE",
        "combined_and_individual_masks",
    ),
    _auto(
        "individual masks",
        "renderings[].style",
        "no picture",
        "INDIVIDUAL_MASKS",
        "combined_and_individual_masks",
    ),
    _auto(
        "output_format",
        "renderings[].format",
        "PNG",
        "PNG, JPEG, WEBP",
        "combined_and_individual_masks",
    ),
    _auto(
        "sync_mode",
        "delivery",
        "INLINE (true)",
        "INLINE, STORED_FILE (false)",
        "stored_everything",
    ),
    _sam1("image_url", "image.uri", "required", "as above", "image"),
    _sam1("text_prompt", "prompts[].text.text", "required", "1 to 1024 bytes", "text"),
    _sam1("size", "inference_size_px", "the model's own (1024)", "64 to 8192", "size", outside=63),
    _sam1("iou", "postprocess.max_overlap_iou", "off (0.9 there)", "0 to 1", "iou", outside=1.5),
    _sam1("confidence", "postprocess.min_score", "off (0.4)", "0 to 1", "confidence", outside=-1),
    _sam1("retina", "postprocess.coarse_masks", "false (= true)", "bool, negated", "retina"),
    _sam1("box_prompt (x, y, w, h)", "prompts[].box.sized_box", "none", "positive", "sized_boxes"),
    _sam1("point_prompt", "prompts[].point.point", "none", "inside the image", "points"),
    _sam1("point_label", "prompts[].point.label", "foreground", "enum", "labels"),
    _sam1("with_contours", "renderings[].style", "no picture", "CONTOURS", "contours"),
    _sam1("better_quality", "postprocess.morphological_cleanup", "false", "bool", "better_quality"),
    _sam1("black_white", "renderings[].style", "no picture", "BLACK_WHITE", "black_white"),
    _sam1("invert", "renderings[].invert", "false", "bool", "invert"),
]


@pytest.fixture(scope="module")
def channel(
    tmp_path_factory: pytest.TempPathFactory, small_sam2: Sam2Files
) -> Iterator[grpc.Channel]:
    """A connection to a server with one small network that takes points, boxes and masks."""
    model = {
        "name": "small",
        "engine": "sam2",
        "config": small_sam2.config,
        "checkpoint": small_sam2.checkpoint,
    }
    settings = Settings.read(
        grpc={"port": 0, "drain_notice_s": 0.0},
        metrics={"enabled": False},
        logging={"level": "error"},
        models={"serve": [model], "device": "cpu", "cpu_threads": 1},
        storage={"folder": tmp_path_factory.mktemp("files")},
    )
    with local_server(settings) as address, grpc.insecure_channel(address) as connected:
        yield connected


def pixels() -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def picture() -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels()).save(file, "PNG")
    return file.getvalue()


def request(*points: tuple[float, float], **options: Any) -> segmentation_pb2.SegmentImageRequest:
    """A request about objects of their own at points; the middle of the image without any."""
    made = segmentation_pb2.SegmentImageRequest(**options)
    made.image.data = picture()
    for number, (x, y) in enumerate(points or [(80, 60)], start=1):
        prompt = made.prompts.add(object_id=number)
        prompt.point.point.x, prompt.point.point.y = x, y
    return made


def segment(
    channel: grpc.Channel, wanted: segmentation_pb2.SegmentImageRequest
) -> segmentation_pb2.SegmentImageResponse:
    stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
    return stub.SegmentImage(wanted, timeout=DEADLINE_S)


def refused(call: Callable[[], object]) -> Any:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value


def violated_fields(error: Any) -> list[str]:
    broken = error_details_pb2.BadRequest()
    status = rpc_status.from_call(error)
    assert status is not None
    assert any(detail.Unpack(broken) for detail in status.details)
    return [violation.field for violation in broken.field_violations]


def bitmap_of(mask: mask_pb2.Mask) -> np.ndarray:
    return decode_rle(mask.mask.coco_rle.counts, SIZE)


def opened(drawn: rendering_pb2.Picture) -> Image.Image:
    return Image.open(io.BytesIO(drawn.content.data))


def descriptor_at(name: str, path: str) -> Any:
    message = segmentation_pb2.DESCRIPTOR.message_types_by_name[name]
    field: Any = None
    for part in path.replace("[]", "").split("."):
        field = message.fields_by_name[part]
        message = field.message_type
    return field


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.endpoint}: {row.parameter}")
def test_every_parameter_has_a_field_and_a_test(row: Row) -> None:
    assert descriptor_at(row.request, row.field) is not None
    assert hasattr(sys.modules[__name__], f"test_{row.shown_by}")


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if row.outside is not None],
    ids=lambda row: f"{row.endpoint}: {row.parameter}",
)
def test_what_is_out_of_range_is_refused_by_name(channel: grpc.Channel, row: Row) -> None:
    stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
    is_prompted = row.request == PROMPTED
    wanted: Any = request() if is_prompted else everything()
    call: Any = stub.SegmentImage if is_prompted else stub.AutoSegment
    *path, last = row.field.split(".")
    holder: Any = wanted
    for part in path:
        holder = getattr(holder, part)
    setattr(holder, last, row.outside)
    error = refused(lambda: call(wanted, timeout=DEADLINE_S))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert violated_fields(error) == [row.field]


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
    wanted = request()
    wanted.prompts.add().text.text = "a yellow school bus"
    error = refused(lambda: segment(channel, wanted))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "text" in error.details()
    assert "SAM 3 models do" in error.details()
    wanted.prompts[-1].text.text = ""
    error = refused(lambda: segment(channel, wanted))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


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


def test_several(channel: grpc.Channel) -> None:
    wanted = request((30, 30), (130, 90))
    one_each = segment(channel, wanted).masks
    assert [mask.object_id for mask in one_each] == [1, 2]
    wanted.mask_options.return_multiple_masks = True
    wanted.mask_options.include_scores = True
    masks = segment(channel, wanted).masks
    assert [(mask.object_id, mask.alternative) for mask in masks] == [
        (object_id, alternative) for object_id in (1, 2) for alternative in (0, 1, 2)
    ]
    for object_id in (1, 2):
        scores = [mask.score for mask in masks if mask.object_id == object_id]
        assert scores == sorted(scores, reverse=True)


def test_max_masks(channel: grpc.Channel) -> None:
    wanted = request()
    wanted.mask_options.return_multiple_masks = True
    for most, expected in ((None, 3), (1, 1), (2, 2), (32, 3)):
        if most is not None:
            wanted.mask_options.max_masks = most
        assert len(segment(channel, wanted).masks) == expected
    wanted.mask_options.max_masks = 0
    assert refused(lambda: segment(channel, wanted)).code() is grpc.StatusCode.INVALID_ARGUMENT


def test_scores(channel: grpc.Channel) -> None:
    wanted = request()
    [without] = segment(channel, wanted).masks
    assert not without.HasField("score")
    assert not without.HasField("stability_score")
    wanted.mask_options.include_scores = True
    [with_scores] = segment(channel, wanted).masks
    assert 0 <= with_scores.score <= 1
    assert with_scores.score_kind == mask_pb2.SCORE_KIND_PREDICTED_IOU


def test_normalized_boxes(channel: grpc.Channel) -> None:
    wanted = request()
    [without] = segment(channel, wanted).masks
    assert without.HasField("box")
    assert not without.HasField("normalized_box")
    wanted.mask_options.include_boxes = True
    [mask] = segment(channel, wanted).masks
    box, normalized = mask.box, mask.normalized_box
    assert normalized.center_x == pytest.approx((box.x_min + box.x_max) / 2 / WIDTH)
    assert normalized.height == pytest.approx((box.y_max - box.y_min) / HEIGHT)


def test_encodings(channel: grpc.Channel) -> None:
    wanted = request()
    names = {}
    for encoding in mask_pb2.MaskEncoding.values():
        wanted.mask_options.encoding = encoding
        [mask] = segment(channel, wanted).masks
        names[mask_pb2.MaskEncoding.Name(encoding)[14:]] = mask.mask.WhichOneof("encoding")
    assert names == {
        "UNSPECIFIED": "coco_rle",
        "COCO_RLE": "coco_rle",
        "COCO_RLE_UNCOMPRESSED": "coco_rle_counts",
        "PNG_1BIT": "png",
        "PNG_8BIT": "png",
        "POLYGONS": "polygons",
        "NONE": None,
    }


def test_size(channel: grpc.Channel) -> None:
    wanted = request()
    [own] = segment(channel, wanted).masks
    wanted.inference_size_px = WIDTH
    [same] = segment(channel, wanted).masks
    assert same.mask == own.mask
    wanted.inference_size_px = 64
    [reduced] = segment(channel, wanted).masks
    assert reduced.mask != own.mask
    assert reduced.mask.coco_rle.size == own.mask.coco_rle.size
    again = segment(channel, wanted)
    assert again.info.embedding_cached
    assert again.masks[0].mask == reduced.mask


def test_iou(channel: grpc.Channel) -> None:
    wanted = request((80, 60), (80, 60), (30, 30))
    wanted.mask_options.include_scores = True
    assert len(segment(channel, wanted).masks) == 3
    wanted.postprocess.max_overlap_iou = 0.9999
    kept = segment(channel, wanted).masks
    assert kept[0].object_id == 1
    assert 2 not in {mask.object_id for mask in kept}
    wanted.postprocess.max_overlap_iou = 1.0
    assert len(segment(channel, wanted).masks) == 3


def test_confidence(channel: grpc.Channel) -> None:
    wanted = request((30, 30), (130, 90))
    wanted.mask_options.include_scores = True
    masks = segment(channel, wanted).masks
    best = max(mask.score for mask in masks)
    wanted.postprocess.min_score = best
    assert [mask.score for mask in segment(channel, wanted).masks] == [best]
    wanted.postprocess.min_score = 1.0
    assert not segment(channel, wanted).masks


def test_retina(channel: grpc.Channel) -> None:
    wanted = request()
    wanted.mask_options.include_logits = True
    [fine] = segment(channel, wanted).masks
    wanted.postprocess.coarse_masks = True
    [coarse] = segment(channel, wanted).masks
    assert coarse.mask != fine.mask
    values = np.frombuffer(coarse.logits.values, dtype="<f4")
    cells = values.reshape(coarse.logits.rows, coarse.logits.columns) > 0
    rows = (np.arange(HEIGHT) + 0.5) / HEIGHT * cells.shape[0]
    columns = (np.arange(WIDTH) + 0.5) / WIDTH * cells.shape[1]
    expected = cells[rows.astype(int)][:, columns.astype(int)]
    np.testing.assert_array_equal(bitmap_of(coarse), expected)


def test_contours(channel: grpc.Channel) -> None:
    wanted = request()
    wanted.renderings.add(style=rendering_pb2.RENDERING_STYLE_CONTOURS)
    [drawn] = segment(channel, wanted).pictures
    changed = (np.asarray(opened(drawn)) != pixels()).any(axis=2)
    assert 0 < changed.mean() < 1


def test_better_quality(channel: grpc.Channel) -> None:
    wanted = request()
    [rough] = segment(channel, wanted).masks
    wanted.postprocess.morphological_cleanup = True
    [clean] = segment(channel, wanted).masks

    def outline(mask: mask_pb2.Mask) -> int:
        bitmap = bitmap_of(mask)
        return int((bitmap[:, 1:] ^ bitmap[:, :-1]).sum())

    assert outline(clean) < outline(rough)


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


def everything(**options: Any) -> segmentation_pb2.AutoSegmentRequest:
    """A request that keeps nearly all that the grid finds; random masks fill the image."""
    kept = {"pred_iou_thresh": 0, "stability_score_thresh": 0, "box_nms_thresh": 1}
    made = segmentation_pb2.AutoSegmentRequest(
        options=segmentation_pb2.AutoSegmentOptions(**{"points_per_side": 3} | kept | options)
    )
    made.image.data = picture()
    return made


def auto(
    channel: grpc.Channel, wanted: segmentation_pb2.AutoSegmentRequest
) -> segmentation_pb2.AutoSegmentResponse:
    stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
    return stub.AutoSegment(wanted, timeout=DEADLINE_S)


def test_everything(channel: grpc.Channel) -> None:
    masks = auto(channel, everything()).masks
    assert len(masks) > 3
    for fewer in ({"points_per_side": 1}, {"pred_iou_thresh": 1}, {"stability_score_thresh": 1}):
        assert len(auto(channel, everything(**fewer)).masks) < len(masks)
    defaults = segmentation_pb2.AutoSegmentRequest()
    defaults.image.data = picture()
    spelt_out = segmentation_pb2.AutoSegmentRequest()
    spelt_out.CopyFrom(defaults)
    spelt_out.options.points_per_side = 32
    spelt_out.options.pred_iou_thresh = 0.88
    spelt_out.options.stability_score_thresh = 0.95
    spelt_out.options.min_mask_region_area = 100
    assert auto(channel, defaults).masks == auto(channel, spelt_out).masks


def test_small_regions(channel: grpc.Channel) -> None:
    def smallest(least: int) -> int:
        """Return the area of the smallest region of a mask that has several."""
        masks = auto(channel, everything(min_mask_region_area=least)).masks
        areas = [region_areas(bitmap_of(mask)) for mask in masks]
        return min((min(of_one) for of_one in areas if len(of_one) > 1), default=WIDTH * HEIGHT)

    def region_areas(bitmap: np.ndarray) -> list[int]:
        _, _, statistics, _ = cv2.connectedComponentsWithStats(bitmap.astype(np.uint8))
        return [int(area) for area in statistics[1:, cv2.CC_STAT_AREA]]

    assert smallest(0) < 30 <= smallest(30)


def test_combined_and_individual_masks(channel: grpc.Channel) -> None:
    wanted = everything()
    wanted.renderings.add(style=rendering_pb2.RENDERING_STYLE_BLACK_WHITE)
    wanted.renderings.add(
        style=rendering_pb2.RENDERING_STYLE_INDIVIDUAL_MASKS,
        format=rendering_pb2.PICTURE_FORMAT_WEBP,
    )
    response = auto(channel, wanted)
    combined, *individual = response.pictures
    assert opened(combined).format == "PNG"
    assert {opened(one).format for one in individual} == {"WEBP"}
    assert [one.mask_index for one in individual] == [mask.index for mask in response.masks]
    together = np.logical_or.reduce([bitmap_of(mask) for mask in response.masks])
    np.testing.assert_array_equal(np.asarray(opened(combined)), np.where(together, 255, 0))


def test_stored_everything(channel: grpc.Channel) -> None:
    wanted = everything()
    wanted.renderings.add(style=rendering_pb2.RENDERING_STYLE_LABEL_MAP)
    [inline] = auto(channel, wanted).pictures
    wanted.delivery = file_pb2.DELIVERY_STORED_FILE
    [stored] = auto(channel, wanted).pictures
    digest = hashlib.sha256(inline.content.data).hexdigest()
    assert stored.content.file.digest == f"sha256:{digest}"


def test_size_of_everything(channel: grpc.Channel) -> None:
    own = auto(channel, everything())
    wanted = everything()
    wanted.inference_size_px = 64
    reduced = auto(channel, wanted)
    assert reduced.info.image.size == own.info.image.size
    assert reduced.masks[0].mask.coco_rle.size == own.masks[0].mask.coco_rle.size
    assert [mask.mask for mask in reduced.masks] != [mask.mask for mask in own.masks]
    assert {(round(mask.grid_point.x), round(mask.grid_point.y)) for mask in reduced.masks} <= {
        (x, y) for x in (27, 80, 133) for y in (20, 60, 100)
    }
