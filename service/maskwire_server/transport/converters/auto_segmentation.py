"""Requests, results and events of automatic segmentation."""

from __future__ import annotations

from maskwire.v1 import segmentation_pb2

from ...domain.auto_segmentation.proposals import ProposalCriteria
from ...domain.auto_segmentation.requests import (
    AutoSegmentEvent,
    AutoSegmentOptions,
    AutoSegmentRequest,
    AutoSegmentResult,
    MasksAccepted,
    MasksWithdrawn,
    PointsDone,
)
from .images import image_source_from_proto
from .masks import single_pass_options_from_proto
from .processing import processing_info_to_proto
from .renderings import delivery_from_proto, picture_to_proto, renderings_from_proto
from .segmentation import mask_options_from_proto, segmented_mask_to_proto

_DEFAULTS = AutoSegmentOptions()

_FINER = "set options.crop_n_layers, which looks at parts of the image at higher resolution"


def auto_segment_request_from_proto(
    message: segmentation_pb2.AutoSegmentRequest, field: str = ""
) -> AutoSegmentRequest:
    """Read a request to segment everything in a picture.

    Args:
        message: The request.
        field: Path of the message in the call's request, with a dot at its end; empty for the
            request itself.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` for what is malformed, naming the field.
    """
    return AutoSegmentRequest(
        image=image_source_from_proto(message.image, f"{field}image"),
        model=message.model or None,
        options=auto_segment_options_from_proto(message.options),
        mask_options=mask_options_from_proto(message.mask_options),
        postprocess=single_pass_options_from_proto(
            message.postprocess, f"{field}postprocess", _FINER
        ),
        renderings=renderings_from_proto(message.renderings, f"{field}renderings"),
        delivery=delivery_from_proto(message.delivery),
        inference_size_px=(
            message.inference_size_px if message.HasField("inference_size_px") else None
        ),
    )


def auto_segment_options_from_proto(
    message: segmentation_pb2.AutoSegmentOptions,
) -> AutoSegmentOptions:
    """Read the settings of the method; what is absent has the hosted endpoints' default."""

    def given(name: str, default: float) -> float:
        return getattr(message, name) if message.HasField(name) else default  # type: ignore[arg-type]

    criteria = _DEFAULTS.criteria
    return AutoSegmentOptions(
        points_per_side=int(given("points_per_side", _DEFAULTS.points_per_side)),
        criteria=ProposalCriteria(
            multimask=bool(given("multimask_output", criteria.multimask)),
            pred_iou_thresh=given("pred_iou_thresh", criteria.pred_iou_thresh),
            stability_score_thresh=given("stability_score_thresh", criteria.stability_score_thresh),
            stability_score_offset=given("stability_score_offset", criteria.stability_score_offset),
        ),
        min_mask_region_area=int(given("min_mask_region_area", _DEFAULTS.min_mask_region_area)),
        box_nms_thresh=given("box_nms_thresh", _DEFAULTS.box_nms_thresh),
        crop_n_layers=message.crop_n_layers,
        crop_nms_thresh=given("crop_nms_thresh", _DEFAULTS.crop_nms_thresh),
        crop_overlap_ratio=given("crop_overlap_ratio", _DEFAULTS.crop_overlap_ratio),
        crop_n_points_downscale_factor=int(
            given("crop_n_points_downscale_factor", _DEFAULTS.crop_n_points_downscale_factor)
        ),
        max_masks=message.max_masks if message.HasField("max_masks") else None,
    )


def auto_segment_result_to_proto(
    result: AutoSegmentResult, request_id: str
) -> segmentation_pb2.AutoSegmentResponse:
    """Write a result; of the masks only what the request's options asked for."""
    return segmentation_pb2.AutoSegmentResponse(
        masks=[
            segmented_mask_to_proto(mask, result.mask_options, result.image.size)
            for mask in result.masks
        ],
        pictures=[picture_to_proto(picture) for picture in result.pictures],
        info=processing_info_to_proto(result, request_id),
    )


def auto_segment_event_to_proto(
    event: AutoSegmentEvent, request_id: str
) -> segmentation_pb2.StreamAutoSegmentResponse:
    """Write what a stream tells."""
    response = segmentation_pb2.StreamAutoSegmentResponse
    match event:
        case PointsDone(done, total):
            progress = segmentation_pb2.AutoSegmentProgress(points_done=done, points_total=total)
            return response(progress=progress)
        case MasksAccepted(masks, options, size):
            accepted = [segmented_mask_to_proto(mask, options, size) for mask in masks]
            return response(accepted=segmentation_pb2.AcceptedMasks(masks=accepted))
        case MasksWithdrawn(indices):
            return response(withdrawn=segmentation_pb2.WithdrawnMasks(indices=indices))
        case AutoSegmentResult():
            return response(result=auto_segment_result_to_proto(event, request_id))
