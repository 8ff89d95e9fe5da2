"""Requests and results of `SegmentationService`."""

from __future__ import annotations

from collections.abc import Mapping

from maskwire.v1 import mask_pb2, segmentation_pb2

from ...domain.geometry import ImageSize
from ...domain.segmentation import (
    MaskOptions,
    ScoreKind,
    SegmentedMask,
    SegmentRequest,
    SegmentResult,
)
from .geometry import box_to_proto, normalized_box_to_proto, point_to_proto
from .images import image_source_from_proto
from .masks import (
    mask_encoding_from_proto,
    mask_logits_to_proto,
    mask_to_proto,
    postprocess_options_from_proto,
)
from .processing import processing_info_to_proto
from .prompts import prompts_from_proto
from .renderings import delivery_from_proto, picture_to_proto, renderings_from_proto

_DEFAULT_MAX_MASKS = 3

_SCORE_KINDS: Mapping[ScoreKind, mask_pb2.ScoreKind.ValueType] = {
    ScoreKind.PREDICTED_IOU: mask_pb2.SCORE_KIND_PREDICTED_IOU,
    ScoreKind.CONCEPT_CONFIDENCE: mask_pb2.SCORE_KIND_CONCEPT_CONFIDENCE,
    ScoreKind.OBJECT_PRESENCE: mask_pb2.SCORE_KIND_OBJECT_PRESENCE,
}


def segment_request_from_proto(message: segmentation_pb2.SegmentImageRequest) -> SegmentRequest:
    """Read a request to segment prompted objects.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` for what is malformed, naming the field.
    """
    return SegmentRequest(
        image=image_source_from_proto(message.image, "image"),
        prompts=prompts_from_proto(message.prompts, "prompts"),
        model=message.model or None,
        mask_options=mask_options_from_proto(message.mask_options),
        postprocess=postprocess_options_from_proto(message.postprocess),
        renderings=renderings_from_proto(message.renderings, "renderings"),
        delivery=delivery_from_proto(message.delivery),
        inference_size_px=(
            message.inference_size_px if message.HasField("inference_size_px") else None
        ),
    )


def mask_options_from_proto(message: mask_pb2.MaskOptions) -> MaskOptions:
    """Read which masks to return, and how."""
    return MaskOptions(
        encoding=mask_encoding_from_proto(message.encoding),
        return_multiple_masks=message.return_multiple_masks,
        max_masks=message.max_masks if message.HasField("max_masks") else _DEFAULT_MAX_MASKS,
        include_scores=message.include_scores,
        include_boxes=message.include_boxes,
        include_logits=message.include_logits,
    )


def segment_result_to_proto(
    result: SegmentResult, request_id: str
) -> segmentation_pb2.SegmentImageResponse:
    """Write a result; of the masks only what the request's options asked for."""
    info = processing_info_to_proto(result, request_id)
    for model in result.further_models:
        info.models.add(model=model.name, checkpoint_digest=model.checkpoint_digest)
    return segmentation_pb2.SegmentImageResponse(
        masks=[
            segmented_mask_to_proto(mask, result.mask_options, result.image.size)
            for mask in result.masks
        ],
        pictures=[picture_to_proto(picture) for picture in result.pictures],
        info=info,
    )


def segmented_mask_to_proto(
    mask: SegmentedMask, options: MaskOptions, size: ImageSize
) -> mask_pb2.Mask:
    """Write one mask of an image of this size."""
    message = mask_pb2.Mask(
        index=mask.index,
        object_id=mask.object_id,
        alternative=mask.alternative,
        area_px=mask.area_px,
        box=None if mask.box is None else box_to_proto(mask.box),
        mask=None if mask.encoded is None else mask_to_proto(mask.encoded),
        logits=None if mask.logits is None else mask_logits_to_proto(mask.logits),
        text=mask.text,
        grid_point=None if mask.grid_point is None else point_to_proto(mask.grid_point),
        refined=mask.is_refined,
    )
    if options.include_scores:
        message.score = mask.score
        message.score_kind = _SCORE_KINDS[mask.score_kind]
        if mask.stability_score is not None:
            message.stability_score = mask.stability_score
    if options.include_boxes and mask.box is not None:
        message.normalized_box.CopyFrom(normalized_box_to_proto(mask.box, size))
    return message
