"""Everything in a picture, as callers of a real server with SAM 2 and nano meet it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import cv2
import grpc
import numpy as np
import pytest
import skimage.data
from PIL import Image

from maskwire.v1 import mask_pb2, rendering_pb2, segmentation_pb2, segmentation_pb2_grpc
from tests.integration.server.conftest import MODEL, small_model_settings
from tests.integration.server.test_auto_segment_parity import discs
from tests.support.auto_segmentation import as_png
from tests.support.metrics_page import scraped
from tests.support.sam2_checkpoints import Sam2Files
from tests.support.server_process import ServerProcess, server_process

NANO = "maskwire-nano"
DEADLINE_S = 240.0
MAX_POINTS = 5000


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, small_sam2: Sam2Files
) -> Iterator[ServerProcess]:
    models = small_model_settings(small_sam2)
    models["serve"].append({"name": NANO})
    folder = tmp_path_factory.mktemp("auto-segment")
    with server_process(folder, models=models, limits={"max_grid_points": MAX_POINTS}) as process:
        yield process


@pytest.fixture
def stub(server: ServerProcess) -> Iterator[segmentation_pb2_grpc.SegmentationServiceStub]:
    with grpc.insecure_channel(server.address) as channel:
        yield segmentation_pb2_grpc.SegmentationServiceStub(channel)


def faint_request(**options: Any) -> segmentation_pb2.AutoSegmentRequest:
    """A request that finds masks with the faint logits of a random network."""
    settings: dict[str, Any] = {
        "points_per_side": 4,
        "pred_iou_thresh": 0.0,
        "stability_score_thresh": 0.6,
        "stability_score_offset": 0.005,
        "box_nms_thresh": 0.97,
        "crop_nms_thresh": 0.97,
        "min_mask_region_area": 0,
        **options,
    }
    request = segmentation_pb2.AutoSegmentRequest(model=MODEL)
    request.image.data = as_png(discs(0, 10))
    request.options.MergeFrom(segmentation_pb2.AutoSegmentOptions(**settings))
    request.mask_options.include_scores = True
    return request


def nano_request() -> segmentation_pb2.AutoSegmentRequest:
    request = segmentation_pb2.AutoSegmentRequest(model=NANO)
    request.image.data = as_png(cv2.resize(skimage.data.coffee(), (300, 200)))
    request.mask_options.include_scores = True
    return request


def ask(stub: Any, request: segmentation_pb2.AutoSegmentRequest) -> Any:
    return stub.AutoSegment(request, timeout=DEADLINE_S)


def test_masks_come_best_first_and_say_where_they_come_from(stub):
    request = faint_request()
    request.mask_options.include_boxes = request.mask_options.include_logits = True
    response = ask(stub, request)
    assert len(response.masks) > 3
    assert [mask.index for mask in response.masks] == list(range(len(response.masks)))
    assert [mask.object_id for mask in response.masks] == [
        mask.index + 1 for mask in response.masks
    ]
    scores = [mask.score for mask in response.masks]
    assert scores == sorted(scores, reverse=True)
    grid = {(64 + 128 * column, 48 + 96 * row) for column in range(4) for row in range(4)}
    for mask in response.masks:
        assert mask.score_kind == mask_pb2.SCORE_KIND_PREDICTED_IOU
        assert mask.stability_score >= 0.6
        assert (mask.grid_point.x, mask.grid_point.y) in grid
        assert mask.area_px > 0
        assert mask.HasField("normalized_box")
        assert len(mask.logits.values) == mask.logits.rows * mask.logits.columns * 4
    assert response.info.models[0].model == MODEL
    assert response.info.timings.prompt.ToNanoseconds() > 0
    assert response.info.timings.postprocess.ToNanoseconds() > 0
    assert (
        response.info.timings.total.ToNanoseconds() > response.info.timings.prompt.ToNanoseconds()
    )


CHANGES: list[dict[str, Any]] = [
    {"points_per_side": 5},
    {"pred_iou_thresh": 0.485},
    {"stability_score_thresh": 0.75},
    {"stability_score_offset": 0.008},
    {"min_mask_region_area": 300},
    {"box_nms_thresh": 0.5},
    {"crop_n_layers": 1},
    {"multimask_output": False},
    {"max_masks": 2},
]
CHANGES_OF_CROPS: list[dict[str, Any]] = [
    {"crop_nms_thresh": 0.2},
    {"crop_overlap_ratio": 0.6},
    {"crop_n_points_downscale_factor": 4},
]


def test_the_changes_below_are_all_that_can_be_set():
    changed = {name for change in CHANGES + CHANGES_OF_CROPS for name in change}
    assert changed == set(segmentation_pb2.AutoSegmentOptions.DESCRIPTOR.fields_by_name)


def found(stub: Any, **options: Any) -> list[bytes]:
    return [mask.mask.coco_rle.counts for mask in ask(stub, faint_request(**options)).masks]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_every_option_has_an_effect(stub, change):
    plain = found(stub)
    assert len(plain) > 3
    assert found(stub, **change) != plain


@pytest.mark.parametrize("change", CHANGES_OF_CROPS, ids=lambda change: next(iter(change)))
def test_every_option_of_crops_has_an_effect(stub, change):
    assert found(stub, crop_n_layers=1, **change) != found(stub, crop_n_layers=1)


def test_nano_segments_with_the_defaults(stub):
    response = ask(stub, nano_request())
    assert len(response.masks) >= 5
    covered = sum(mask.area_px for mask in response.masks)
    assert covered > 300 * 200 / 4
    for mask in response.masks:
        assert mask.stability_score >= 0.95
    stricter = nano_request()
    stricter.options.pred_iou_thresh = 0.95
    assert 0 < len(ask(stub, stricter).masks) < len(response.masks)


def test_pictures_and_postprocessing_come_with_the_masks(stub):
    request = faint_request(max_masks=3)
    styles = (
        rendering_pb2.RENDERING_STYLE_BLACK_WHITE,
        rendering_pb2.RENDERING_STYLE_INDIVIDUAL_MASKS,
    )
    for style in styles:
        request.renderings.add(style=style)
    request.mask_options.encoding = mask_pb2.MASK_ENCODING_PNG_8BIT
    request.postprocess.morphological_cleanup = True
    response = ask(stub, request)
    assert [picture.style for picture in response.pictures] == [styles[0], *[styles[1]] * 3]
    combined, *individual = (
        np.asarray(Image.open(io.BytesIO(picture.content.data))) > 127
        for picture in response.pictures
    )
    np.testing.assert_array_equal(combined, np.any(individual, axis=0))
    by_index = {
        picture.mask_index: bitmap
        for picture, bitmap in zip(response.pictures[1:], individual, strict=True)
    }
    for mask in response.masks:
        sent = np.asarray(Image.open(io.BytesIO(mask.mask.png.data))) > 127
        np.testing.assert_array_equal(by_index[mask.index], sent)
    plain = ask(stub, faint_request(max_masks=3))
    assert [mask.area_px for mask in plain.masks] != [mask.area_px for mask in response.masks]


def streamed(stub: Any, request: segmentation_pb2.AutoSegmentRequest) -> tuple[Any, Any, list[Any]]:
    """Return what counts at the end, the result, and every message."""
    call = segmentation_pb2.StreamAutoSegmentRequest(request=request)
    messages = list(stub.StreamAutoSegment(call, timeout=DEADLINE_S))
    counting: dict[int, Any] = {}
    for message in messages:
        for mask in message.accepted.masks:
            assert mask.index not in counting
            counting[mask.index] = mask
        for index in message.withdrawn.indices:
            del counting[index]
    assert messages[-1].WhichOneof("message") == "result"
    return counting, messages[-1].result, messages


def facts(masks: Any) -> list[Any]:
    """What a mask is, whatever its number; best first."""
    return sorted(
        (-mask.score, mask.mask.coco_rle.counts, mask.area_px, mask.grid_point.x, mask.grid_point.y)
        for mask in masks
    )


@pytest.mark.parametrize(
    "request_",
    [
        faint_request(),
        faint_request(crop_n_layers=1, min_mask_region_area=100),
        faint_request(box_nms_thresh=0.5, max_masks=2),
        nano_request(),
    ],
    ids=["grid", "crops", "few", "nano"],
)
def test_what_a_stream_leaves_is_what_one_answer_holds(stub, request_):
    at_once = ask(stub, request_)
    counting, result, messages = streamed(stub, request_)
    assert facts(counting.values()) == facts(at_once.masks)
    assert len(result.masks) == 0
    assert result.info.image == at_once.info.image
    progress = [
        message.progress for message in messages if message.WhichOneof("message") == "progress"
    ]
    done = [one.points_done for one in progress]
    assert done == sorted(done)
    assert done[-1] == progress[-1].points_total
    kinds = [message.WhichOneof("message") for message in messages]
    assert kinds.index("accepted") < len(kinds) - 1 - kinds[::-1].index("progress"), (
        "masks come while the work goes on"
    )


def test_others_are_served_meanwhile_and_a_cancelled_stream_frees_the_device(server, stub):
    request = faint_request(points_per_side=64)
    stream = stub.StreamAutoSegment(
        segmentation_pb2.StreamAutoSegmentRequest(request=request), timeout=DEADLINE_S
    )
    first = next(stream)
    assert first.progress.points_done < first.progress.points_total == 4096
    prompted = segmentation_pb2.SegmentImageRequest(model=MODEL, image=request.image)
    prompted.prompts.add().point.point.x = 40
    assert len(stub.SegmentImage(prompted, timeout=DEADLINE_S).masks) == 1
    assert stream.is_active()
    stream.cancel()
    with pytest.raises(grpc.RpcError) as raised:
        list(stream)
    assert raised.value.code() is grpc.StatusCode.CANCELLED
    # The device serves in order: whatever the stream still has of it comes before these two.
    for _ in range(2):
        stub.SegmentImage(prompted, timeout=DEADLINE_S)
    batches = scraped(server.metrics_port, "maskwire_decode_batch_objects_count", MODEL)
    for _ in range(3):
        stub.SegmentImage(prompted, timeout=DEADLINE_S)
    after = scraped(server.metrics_port, "maskwire_decode_batch_objects_count", MODEL)
    assert after - batches == 3


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"points_per_side": 0}, "options.points_per_side"),
        ({"points_per_side": 129}, "options.points_per_side"),
        ({"pred_iou_thresh": 1.5}, "options.pred_iou_thresh"),
        ({"stability_score_thresh": -0.1}, "options.stability_score_thresh"),
        ({"stability_score_offset": 0.0}, "options.stability_score_offset"),
        ({"box_nms_thresh": 2.0}, "options.box_nms_thresh"),
        ({"crop_nms_thresh": float("nan")}, "options.crop_nms_thresh"),
        ({"crop_n_layers": 5}, "options.crop_n_layers"),
        ({"crop_overlap_ratio": 0.95}, "options.crop_overlap_ratio"),
        ({"crop_n_points_downscale_factor": 9}, "options.crop_n_points_downscale_factor"),
        ({"max_masks": 0}, "options.max_masks"),
        ({"points_per_side": 100}, "options.points_per_side"),
        ({"points_per_side": 32, "crop_n_layers": 2}, "options.crop_n_layers"),
    ],
)
def test_options_out_of_range_are_refused_by_name(stub, options, field):
    with pytest.raises(grpc.RpcError) as raised:
        ask(stub, faint_request(**options))
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in (raised.value.details() or "")


def test_bad_images_and_models_are_refused_by_name(stub):
    request = faint_request()
    request.image.data = b"no picture"
    with pytest.raises(grpc.RpcError) as raised:
        ask(stub, request)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "image.data" in (raised.value.details() or "")
    request = faint_request()
    request.model = "other"
    call = segmentation_pb2.StreamAutoSegmentRequest(request=request)
    with pytest.raises(grpc.RpcError) as raised:
        list(stub.StreamAutoSegment(call, timeout=DEADLINE_S))
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
