"""Pictures that a request asks for and a response carries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from maskwire.v1 import file_pb2, rendering_pb2

from ...domain.errors import invalid_field
from ...domain.pictures import PictureFormat
from ...domain.renderings import Delivery, Picture, RenderingRequest, RenderingStyle
from .files import stored_file_to_proto
from .geometry import image_size_to_proto

_DEFAULT_QUALITY = 90
_DEFAULT_OPACITY = 0.5

_FORMATS: Mapping[rendering_pb2.PictureFormat.ValueType, PictureFormat] = {
    rendering_pb2.PICTURE_FORMAT_UNSPECIFIED: PictureFormat.PNG,
    rendering_pb2.PICTURE_FORMAT_PNG: PictureFormat.PNG,
    rendering_pb2.PICTURE_FORMAT_JPEG: PictureFormat.JPEG,
    rendering_pb2.PICTURE_FORMAT_WEBP: PictureFormat.WEBP,
}
_STYLES_TO_PROTO: Mapping[RenderingStyle, rendering_pb2.RenderingStyle.ValueType] = {
    RenderingStyle.OVERLAY: rendering_pb2.RENDERING_STYLE_OVERLAY,
    RenderingStyle.CONTOURS: rendering_pb2.RENDERING_STYLE_CONTOURS,
    RenderingStyle.BLACK_WHITE: rendering_pb2.RENDERING_STYLE_BLACK_WHITE,
    RenderingStyle.CUTOUT: rendering_pb2.RENDERING_STYLE_CUTOUT,
    RenderingStyle.CROPS: rendering_pb2.RENDERING_STYLE_CROPS,
    RenderingStyle.LABEL_MAP: rendering_pb2.RENDERING_STYLE_LABEL_MAP,
    RenderingStyle.INDIVIDUAL_MASKS: rendering_pb2.RENDERING_STYLE_INDIVIDUAL_MASKS,
    RenderingStyle.COCO_JSON: rendering_pb2.RENDERING_STYLE_COCO_JSON,
}
_STYLES: Mapping[rendering_pb2.RenderingStyle.ValueType, RenderingStyle] = {
    rendering_pb2.RENDERING_STYLE_UNSPECIFIED: RenderingStyle.OVERLAY,
    **{value: style for style, value in _STYLES_TO_PROTO.items()},
}
_DELIVERIES: Mapping[file_pb2.Delivery.ValueType, Delivery] = {
    file_pb2.DELIVERY_UNSPECIFIED: Delivery.INLINE,
    file_pb2.DELIVERY_INLINE: Delivery.INLINE,
    file_pb2.DELIVERY_STORED_FILE: Delivery.STORED_FILE,
}
_NOT_TO_BE_INVERTED = (RenderingStyle.LABEL_MAP, RenderingStyle.COCO_JSON)


def renderings_from_proto(
    messages: Iterable[rendering_pb2.Rendering], field: str
) -> tuple[RenderingRequest, ...]:
    """Read the pictures that a request asks for.

    Args:
        messages: The renderings.
        field: Path of the list in the request.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` as `rendering_from_proto`.
    """
    return tuple(
        rendering_from_proto(message, f"{field}[{index}]") for index, message in enumerate(messages)
    )


def rendering_from_proto(message: rendering_pb2.Rendering, field: str) -> RenderingRequest:
    """Read a picture to make.

    Args:
        message: The rendering.
        field: Path of the message in the request.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` for a style that cannot be inverted.
    """
    style = _STYLES[message.style]
    if message.invert and style in _NOT_TO_BE_INVERTED:
        raise invalid_field(f"{field}.invert", "label maps and annotations cannot be inverted")
    return RenderingRequest(
        style=style,
        format=_FORMATS[message.format],
        quality=message.quality if message.HasField("quality") else _DEFAULT_QUALITY,
        opacity=message.opacity if message.HasField("opacity") else _DEFAULT_OPACITY,
        draw_outlines=message.draw_outlines if message.HasField("draw_outlines") else True,
        invert=message.invert,
        background_rgb=message.background_rgb,
        field=field,
    )


def delivery_from_proto(value: file_pb2.Delivery.ValueType) -> Delivery:
    """Read how pictures are to reach the caller; unspecified means inline."""
    return _DELIVERIES[value]


def picture_to_proto(picture: Picture) -> rendering_pb2.Picture:
    """Write a picture that was made, its bytes inline or as a reference to the stored file."""
    content = file_pb2.FileContent(
        content_type=picture.content_type,
        file_name=picture.file_name,
        image_size=None if picture.size is None else image_size_to_proto(picture.size),
    )
    if isinstance(picture.content, bytes):
        content.data = picture.content
    else:
        content.file.CopyFrom(stored_file_to_proto(picture.content))
    return rendering_pb2.Picture(
        style=_STYLES_TO_PROTO[picture.style],
        content=content,
        mask_index=picture.mask_index,
        object_id=picture.object_id,
    )
