"""Reads the messages of responses into the public dataclasses; pure functions, no channel."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from datetime import UTC, timedelta
from typing import TypeVar

import numpy as np
from google.protobuf.descriptor import EnumDescriptor

from maskwire.v1 import (
    file_pb2,
    geometry_pb2,
    image_pb2,
    mask_pb2,
    model_pb2,
    processing_pb2,
    rendering_pb2,
    segmentation_pb2,
)

from ._enums import from_wire
from .geometry import Box, ImageSize, NormalizedBox, Point
from .masks import (
    CocoRle,
    CocoRleCounts,
    EncodedMask,
    Mask,
    MaskLogits,
    PngMask,
    Polygon,
    PolygonMask,
    ScoreKind,
)
from .options import RenderingStyle
from .results import (
    Capability,
    ImageInfo,
    LoadState,
    Model,
    ModelReference,
    Picture,
    ProcessingInfo,
    PromptKind,
    SegmentationResult,
    StoredFile,
    Timings,
)

_MemberT = TypeVar("_MemberT", bound=enum.Enum)


def segmentation_result(response: segmentation_pb2.SegmentImageResponse) -> SegmentationResult:
    """Return the answer of `SegmentImage`; its masks stay encoded until they are looked at."""
    return SegmentationResult(
        masks=tuple(mask_result(mask) for mask in response.masks),
        info=processing_info(response.info),
        pictures=tuple(picture_result(picture) for picture in response.pictures),
    )


def model_list(response: model_pb2.ListModelsResponse) -> tuple[Model, ...]:
    """Return the answer of `ListModels`."""
    return tuple(model_description(model) for model in response.models)


def model_description(model: model_pb2.Model) -> Model:
    """Return what a model is; kinds that this client does not know are left out."""
    state = from_wire(model_pb2.LoadState.DESCRIPTOR, LoadState, model.load_state)
    return Model(
        name=model.name,
        engine=model.engine,
        architecture=model.architecture,
        checkpoint_digest=model.checkpoint_digest,
        prompt_kinds=_known(model_pb2.PromptKind.DESCRIPTOR, PromptKind, model.prompt_kinds),
        capabilities=_known(model_pb2.Capability.DESCRIPTOR, Capability, model.capabilities),
        masks_per_object=model.masks_per_object,
        max_objects=model.max_objects,
        native_resolution_px=model.native_resolution_px,
        device=model.device,
        precision=model.precision,
        license=model.license,
        load_state=state or LoadState.UNSPECIFIED,
        is_default=model.is_default,
    )


def mask_result(mask: mask_pb2.Mask) -> Mask:
    """Return one mask of an answer."""
    kind = from_wire(mask_pb2.ScoreKind.DESCRIPTOR, ScoreKind, mask.score_kind)
    has_point = mask.HasField("grid_point")
    return Mask(
        index=mask.index,
        object_id=mask.object_id,
        alternative=mask.alternative,
        score=mask.score if mask.HasField("score") else None,
        score_kind=kind or ScoreKind.UNSPECIFIED,
        stability_score=mask.stability_score if mask.HasField("stability_score") else None,
        area_px=mask.area_px,
        box=box_result(mask.box) if mask.HasField("box") else None,
        normalized_box=(
            _normalized_box(mask.normalized_box) if mask.HasField("normalized_box") else None
        ),
        encoded=encoded_mask(mask.mask) if mask.HasField("mask") else None,
        logits=mask_logits(mask.logits) if mask.HasField("logits") else None,
        text=mask.text,
        grid_point=Point(x=mask.grid_point.x, y=mask.grid_point.y) if has_point else None,
        refined=mask.refined,
    )


def encoded_mask(message: mask_pb2.EncodedMask) -> EncodedMask | None:
    """Return an encoded mask, or None for an encoding that this client does not know."""
    match message.WhichOneof("encoding"):
        case "coco_rle":
            return CocoRle(size_result(message.coco_rle.size), message.coco_rle.counts)
        case "coco_rle_counts":
            counts = message.coco_rle_counts
            return CocoRleCounts(size_result(counts.size), tuple(counts.counts))
        case "png":
            return PngMask(message.png.data)
        case "polygons":
            return PolygonMask(
                size_result(message.polygons.size),
                tuple(
                    Polygon(
                        outer=tuple(polygon.outer.coordinates),
                        holes=tuple(tuple(hole.coordinates) for hole in polygon.holes),
                    )
                    for polygon in message.polygons.polygons
                ),
            )
    return None


def mask_logits(message: mask_pb2.MaskLogits) -> MaskLogits:
    """Return mask logits.

    Raises:
        ValueError: The values do not fill rows × columns.
    """
    values = np.frombuffer(message.values, dtype="<f4").reshape(message.rows, message.columns)
    return MaskLogits(
        window=box_result(message.window), values=values.astype(np.float32, copy=False)
    )


def processing_info(info: processing_pb2.ProcessingInfo) -> ProcessingInfo:
    """Return how a result came about."""
    return ProcessingInfo(
        models=tuple(
            ModelReference(model=model.model, checkpoint_digest=model.checkpoint_digest)
            for model in info.models
        ),
        image=_image_info(info.image),
        embedding_cached=info.embedding_cached,
        timings=_timings(info.timings),
        request_id=info.request_id,
    )


def _timings(timings: processing_pb2.Timings) -> Timings:
    def stage(name: str) -> timedelta | None:
        # Stages that did not run are unset, which is not the same as zero.
        return getattr(timings, name).ToTimedelta() if timings.HasField(name) else None  # type: ignore[arg-type]

    return Timings(
        decode=stage("decode"),
        queue=stage("queue"),
        encode=stage("encode"),
        prompt=stage("prompt"),
        postprocess=stage("postprocess"),
        total=stage("total"),
    )


def _image_info(image: image_pb2.ImageInfo) -> ImageInfo:
    return ImageInfo(
        digest=image.digest, size=size_result(image.size), content_type=image.content_type
    )


def picture_result(picture: rendering_pb2.Picture) -> Picture:
    """Return a picture that was made."""
    content = picture.content
    style = from_wire(rendering_pb2.RenderingStyle.DESCRIPTOR, RenderingStyle, picture.style)
    return Picture(
        style=style or RenderingStyle.OVERLAY,
        content_type=content.content_type,
        file_name=content.file_name,
        data=content.data if content.WhichOneof("content") == "data" else None,
        file=stored_file(content.file) if content.WhichOneof("content") == "file" else None,
        size=size_result(content.image_size) if content.HasField("image_size") else None,
        mask_index=picture.mask_index if picture.HasField("mask_index") else None,
        object_id=picture.object_id if picture.HasField("object_id") else None,
    )


def stored_file(file: file_pb2.StoredFile) -> StoredFile:
    """Return a file that the server holds."""
    return StoredFile(
        name=file.name,
        uri=file.uri,
        file_name=file.file_name,
        content_type=file.content_type,
        size_bytes=file.size_bytes,
        digest=file.digest,
        image_size=size_result(file.image_size) if file.HasField("image_size") else None,
        create_time=file.create_time.ToDatetime(UTC) if file.HasField("create_time") else None,
        expire_time=file.expire_time.ToDatetime(UTC) if file.HasField("expire_time") else None,
    )


def _known(
    descriptor: EnumDescriptor, members: type[_MemberT], numbers: Iterable[int]
) -> frozenset[_MemberT]:
    found = (from_wire(descriptor, members, number) for number in numbers)
    return frozenset(member for member in found if member is not None)


def box_result(box: geometry_pb2.Box) -> Box:
    """Return a box in pixels."""
    return Box(x_min=box.x_min, y_min=box.y_min, x_max=box.x_max, y_max=box.y_max)


def _normalized_box(box: geometry_pb2.NormalizedBox) -> NormalizedBox:
    return NormalizedBox(
        center_x=box.center_x, center_y=box.center_y, width=box.width, height=box.height
    )


def size_result(size: geometry_pb2.ImageSize) -> ImageSize:
    """Return a size."""
    return ImageSize(width_px=size.width_px, height_px=size.height_px)
