"""Pictures that a request asks for and a response carries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from maskwire.v1 import file_pb2, rendering_pb2

from ...domain.overlay import OverlayOptions, PictureFormat
from ...domain.segmentation import OverlayRequest, Picture
from .geometry import image_size_to_proto
from .unserved import not_served

_DEFAULT_QUALITY = 90
_DEFAULT_OPACITY = 0.5

_FORMATS: Mapping[rendering_pb2.PictureFormat.ValueType, PictureFormat] = {
    rendering_pb2.PICTURE_FORMAT_UNSPECIFIED: PictureFormat.PNG,
    rendering_pb2.PICTURE_FORMAT_PNG: PictureFormat.PNG,
    rendering_pb2.PICTURE_FORMAT_JPEG: PictureFormat.JPEG,
    rendering_pb2.PICTURE_FORMAT_WEBP: PictureFormat.WEBP,
}
_OVERLAY_STYLES = (
    rendering_pb2.RENDERING_STYLE_UNSPECIFIED,
    rendering_pb2.RENDERING_STYLE_OVERLAY,
)


def overlays_from_proto(
    messages: Iterable[rendering_pb2.Rendering], field: str
) -> tuple[OverlayRequest, ...]:
    """Read the pictures that a request asks for.

    Args:
        messages: The renderings.
        field: Path of the list in the request.

    Raises:
        MaskwireError: `UNIMPLEMENTED` as `overlay_from_proto`.
    """
    return tuple(
        overlay_from_proto(message, f"{field}[{index}]") for index, message in enumerate(messages)
    )


def overlay_from_proto(message: rendering_pb2.Rendering, field: str) -> OverlayRequest:
    """Read a picture to make.

    Raises:
        MaskwireError: `UNIMPLEMENTED` for any style but an overlay, and for options of others.
    """
    if message.style not in _OVERLAY_STYLES:
        raise not_served(f"{field}.style")
    if message.invert:
        raise not_served(f"{field}.invert")
    if message.background_rgb:
        raise not_served(f"{field}.background_rgb")
    return OverlayRequest(
        options=OverlayOptions(
            opacity=message.opacity if message.HasField("opacity") else _DEFAULT_OPACITY,
            draw_outlines=message.draw_outlines if message.HasField("draw_outlines") else True,
        ),
        format=_FORMATS[message.format],
        quality=message.quality if message.HasField("quality") else _DEFAULT_QUALITY,
    )


def picture_to_proto(picture: Picture) -> rendering_pb2.Picture:
    """Write a picture that was made, its bytes inline."""
    return rendering_pb2.Picture(
        style=rendering_pb2.RENDERING_STYLE_OVERLAY,
        content=file_pb2.FileContent(
            data=picture.data,
            content_type=picture.content_type,
            image_size=image_size_to_proto(picture.size),
        ),
    )
