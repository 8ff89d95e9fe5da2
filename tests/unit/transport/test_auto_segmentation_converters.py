"""Automatic segmentation on the wire: every option is read, and every event is written."""

from __future__ import annotations

from dataclasses import replace

import pytest

from maskwire.v1 import mask_pb2, rendering_pb2, segmentation_pb2
from maskwire_server.domain.auto_segmentation.proposals import ProposalCriteria
from maskwire_server.domain.auto_segmentation.requests import (
    AutoSegmentOptions,
    AutoSegmentResult,
    MasksAccepted,
    MasksWithdrawn,
    PointsDone,
)
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import Box, ImageSize, Point
from maskwire_server.domain.masks import EncodedRle
from maskwire_server.domain.segmentation import (
    ImageInfo,
    MaskOptions,
    ScoreKind,
    SegmentedMask,
    Timings,
)
from maskwire_server.transport.converters.auto_segmentation import (
    auto_segment_event_to_proto,
    auto_segment_options_from_proto,
    auto_segment_request_from_proto,
)

SIZE = ImageSize(10, 20)
MASK = SegmentedMask(
    index=3,
    object_id=4,
    alternative=0,
    score=0.5,
    score_kind=ScoreKind.PREDICTED_IOU,
    stability_score=0.25,
    area_px=4,
    box=Box(1, 2, 3, 4),
    encoded=EncodedRle(b"0", SIZE),
    logits=None,
    grid_point=Point(1.5, 2.5),
)


def test_the_defaults_are_the_hosted_endpoints():
    options = auto_segment_options_from_proto(segmentation_pb2.AutoSegmentOptions())
    assert options == AutoSegmentOptions(
        points_per_side=32,
        criteria=ProposalCriteria(
            multimask=True,
            pred_iou_thresh=0.88,
            stability_score_thresh=0.95,
            stability_score_offset=1.0,
        ),
        min_mask_region_area=100,
        box_nms_thresh=0.7,
        crop_n_layers=0,
        crop_nms_thresh=0.7,
        crop_overlap_ratio=512 / 1500,
        crop_n_points_downscale_factor=1,
        max_masks=None,
    )


OPTIONS = segmentation_pb2.AutoSegmentOptions(
    points_per_side=8,
    pred_iou_thresh=0.0,
    stability_score_thresh=0.5,
    stability_score_offset=2.0,
    min_mask_region_area=0,
    box_nms_thresh=0.25,
    crop_n_layers=2,
    crop_nms_thresh=0.0,
    crop_overlap_ratio=0.5,
    crop_n_points_downscale_factor=2,
    multimask_output=False,
    max_masks=7,
)


def test_every_option_is_read():
    assert len(OPTIONS.ListFields()) == len(OPTIONS.DESCRIPTOR.fields)
    assert auto_segment_options_from_proto(OPTIONS) == AutoSegmentOptions(
        points_per_side=8,
        criteria=ProposalCriteria(False, 0.0, 0.5, 2.0),
        min_mask_region_area=0,
        box_nms_thresh=0.25,
        crop_n_layers=2,
        crop_nms_thresh=0.0,
        crop_overlap_ratio=0.5,
        crop_n_points_downscale_factor=2,
        max_masks=7,
    )


def test_a_request_is_read_with_all_its_parts():
    message = segmentation_pb2.AutoSegmentRequest(model="m", options=OPTIONS)
    message.image.data = b"bytes"
    message.mask_options.include_scores = True
    message.postprocess.max_hole_area_px = 9
    message.renderings.add(style=rendering_pb2.RENDERING_STYLE_LABEL_MAP)
    request = auto_segment_request_from_proto(message)
    assert request.model == "m"
    assert request.options == auto_segment_options_from_proto(OPTIONS)
    assert request.mask_options == MaskOptions(include_scores=True)
    assert request.postprocess.max_hole_area_px == 9
    assert len(request.renderings) == 1


def test_a_second_pass_is_refused_with_what_does_the_same():
    message = segmentation_pb2.AutoSegmentRequest()
    message.image.data = b"image"
    message.postprocess.refine = True
    with pytest.raises(MaskwireError, match=r"postprocess\.refine.*crop_n_layers") as raised:
        auto_segment_request_from_proto(message)
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT


def test_errors_of_a_stream_name_the_field_within_its_request():
    message = segmentation_pb2.AutoSegmentRequest()
    with pytest.raises(MaskwireError) as raised:
        auto_segment_request_from_proto(message, "request.")
    assert raised.value.violations[0].field.startswith("request.image")


def test_every_event_is_written():
    options = MaskOptions(include_scores=True)
    progress = auto_segment_event_to_proto(PointsDone(3, 9), "r").progress
    assert (progress.points_done, progress.points_total) == (3, 9)
    withdrawn = auto_segment_event_to_proto(MasksWithdrawn((5, 0)), "r").withdrawn
    assert list(withdrawn.indices) == [5, 0]
    accepted = auto_segment_event_to_proto(MasksAccepted((MASK,), options, SIZE), "r").accepted
    [mask] = accepted.masks
    assert (mask.index, mask.object_id, mask.area_px) == (3, 4, 4)
    assert (mask.grid_point.x, mask.grid_point.y) == (1.5, 2.5)
    assert mask.score_kind == mask_pb2.SCORE_KIND_PREDICTED_IOU
    result = AutoSegmentResult(
        masks=(replace(MASK, index=0),),
        mask_options=options,
        pictures=(),
        image=ImageInfo("sha256:aa", SIZE, "image/png"),
        model="m",
        checkpoint_digest="sha256:bb",
        embedding_cached=True,
        timings=Timings(None, 0.0, None, 0.5, 0.25, 0.75),
    )
    written = auto_segment_event_to_proto(result, "r")
    assert written.WhichOneof("message") == "result"
    assert written.result.info.request_id == "r"
    assert len(written.result.masks) == 1
