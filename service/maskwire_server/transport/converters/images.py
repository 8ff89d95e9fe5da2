"""Where images come from and what they are."""

from __future__ import annotations

from maskwire.v1 import image_pb2

from ...domain.errors import invalid_field
from ...domain.segmentation import ImageDigest, ImageInfo, ImageSource, ImageUri, InlineImage
from .geometry import image_size_to_proto


def image_source_from_proto(message: image_pb2.ImageSource, field: str) -> ImageSource:
    """Read an image source.

    Args:
        message: The message. A client's library can set one source only; where the wire holds
            several, the last one counts, as protobuf says for every oneof.
        field: Path of the message in the request.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` where no source is set.
    """
    match message.WhichOneof("source"):
        case "data":
            return InlineImage(message.data)
        case "uri":
            return ImageUri(message.uri)
        case "digest":
            return ImageDigest(message.digest)
        case _:
            raise invalid_field(f"{field}.source", "exactly one source is required")


def image_info_to_proto(info: ImageInfo) -> image_pb2.ImageInfo:
    """Write the identity of an image."""
    return image_pb2.ImageInfo(
        digest=info.digest, size=image_size_to_proto(info.size), content_type=info.content_type
    )
