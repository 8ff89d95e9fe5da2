"""Client library of Maskwire: promptable segmentation over gRPC.

    from maskwire_client import Client, Point

    with Client("localhost:50051") as client:
        result = client.segment("photo.jpg", points=[Point(220, 140)])
        print(result.masks[0].score, result.masks[0].bitmap.shape)

Everything public is here; `errors` draws the tree of exceptions. The command line lives in `cli`.
"""

from . import errors
from ._async_client import AsyncClient
from ._channel import Tls
from ._client import Client
from .errors import MaskwireError
from .geometry import Box, BoxLabel, ImageSize, NormalizedBox, Point, PointLabel
from .images import EncodedImage, ImageInput, ImageReference, encode_image, load_image
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
from .options import (
    Delivery,
    MaskEncoding,
    PictureFormat,
    Postprocess,
    Rendering,
    RenderingStyle,
)
from .prompts import BoxLike, MaskPrompt, PointLike, Text
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

__all__ = [
    "AsyncClient",
    "Box",
    "BoxLabel",
    "BoxLike",
    "Capability",
    "Client",
    "CocoRle",
    "CocoRleCounts",
    "Delivery",
    "EncodedImage",
    "EncodedMask",
    "ImageInfo",
    "ImageInput",
    "ImageReference",
    "ImageSize",
    "LoadState",
    "Mask",
    "MaskEncoding",
    "MaskLogits",
    "MaskPrompt",
    "MaskwireError",
    "Model",
    "ModelReference",
    "NormalizedBox",
    "Picture",
    "PictureFormat",
    "PngMask",
    "Point",
    "PointLabel",
    "PointLike",
    "Polygon",
    "PolygonMask",
    "Postprocess",
    "ProcessingInfo",
    "PromptKind",
    "Rendering",
    "RenderingStyle",
    "ScoreKind",
    "SegmentationResult",
    "StoredFile",
    "Text",
    "Timings",
    "Tls",
    "encode_image",
    "errors",
    "load_image",
]
