"""What calls return: frozen dataclasses, free of protobuf; the masks themselves are in `masks`."""

from __future__ import annotations

import enum
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from PIL import Image

from .geometry import ImageSize
from .masks import Mask
from .options import RenderingStyle

__all__ = [
    "Capability",
    "ImageInfo",
    "LoadState",
    "Model",
    "ModelReference",
    "Picture",
    "ProcessingInfo",
    "PromptKind",
    "SegmentationResult",
    "StoredFile",
    "Timings",
]


class PromptKind(enum.Enum):
    """A kind of prompt."""

    POINT = "point"
    BOX = "box"
    NEGATIVE_BOX = "negative_box"
    MASK = "mask"
    TEXT = "text"


class Capability(enum.Enum):
    """Something that a model does."""

    SEGMENT_IMAGE = "segment_image"
    TRACK_VIDEO = "track_video"
    AUTO_SEGMENT = "auto_segment"
    DETECT_CONCEPT = "detect_concept"
    RECONSTRUCT_OBJECTS = "reconstruct_objects"
    RECONSTRUCT_BODIES = "reconstruct_bodies"


class LoadState(enum.Enum):
    """Whether a model is on its device."""

    UNSPECIFIED = "unspecified"
    LOADED = "loaded"
    LOADING = "loading"
    ON_DEMAND = "on_demand"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Model:
    """A model that the server serves.

    Attributes:
        name: Name that requests use.
        engine: Engine that runs it.
        architecture: Network in the field's own term.
        checkpoint_digest: `sha256:` and the digits of the weights' digest.
        prompt_kinds: Prompts that it serves in one request, in any combination.
        capabilities: What it does.
        masks_per_object: Alternatives that it can give for one object.
        max_objects: Objects that one request may prompt.
        native_resolution_px: Side of the square that the network looks at.
        device: Where it runs, for example `cuda:0`.
        precision: Arithmetic of the network: fp32 or bf16.
        license: Licence of the weights.
        load_state: Whether it is on its device.
        is_default: Whether requests that name no model use it.
    """

    name: str
    engine: str
    architecture: str
    checkpoint_digest: str
    prompt_kinds: frozenset[PromptKind]
    capabilities: frozenset[Capability]
    masks_per_object: int
    max_objects: int
    native_resolution_px: int
    device: str
    precision: str
    license: str
    load_state: LoadState
    is_default: bool


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """The image that an answer is about.

    Attributes:
        digest: `sha256:` and the digits of the encoded bytes' digest; it may be sent instead of
            them while the server holds the image.
        size: Size after EXIF orientation is applied.
        content_type: Format that was recognised, for example `image/jpeg`.
    """

    digest: str
    size: ImageSize
    content_type: str


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the server's time went; None for stages that did not run.

    Attributes:
        decode: Reading, checking and decoding the image.
        queue: Waiting for the device.
        encode: The image encoder.
        prompt: The prompt encoder and mask decoder.
        postprocess: Masks at full resolution, their encoding, and pictures.
        total: From the request's arrival in the service to its answer.
    """

    decode: timedelta | None = None
    queue: timedelta | None = None
    encode: timedelta | None = None
    prompt: timedelta | None = None
    postprocess: timedelta | None = None
    total: timedelta | None = None


@dataclass(frozen=True, slots=True)
class ModelReference:
    """A model that produced a result, and the digest of its weights."""

    model: str
    checkpoint_digest: str


@dataclass(frozen=True, slots=True)
class ProcessingInfo:
    """How a result came about.

    Attributes:
        models: The models that ran, the one that made the masks first.
        image: The image.
        embedding_cached: Whether the image's embedding was found in the server's cache.
        timings: Where the server's time went.
        request_id: Identifier of the call, as in the server's logs.
    """

    models: tuple[ModelReference, ...]
    image: ImageInfo
    embedding_cached: bool
    timings: Timings
    request_id: str


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that the server holds until it expires.

    Attributes:
        name: Resource name, `files/...`.
        uri: Presigned URL or object-store URI, where there is one.
        file_name: Name to save it under; only a suggestion.
        content_type: Media type.
        size_bytes: Size.
        digest: `sha256:` and the digits of its digest.
        image_size: Size of the picture, for pictures.
        create_time: When it was stored, with time zone.
        expire_time: When it will be deleted, with time zone; None for never.
    """

    name: str
    uri: str
    file_name: str
    content_type: str
    size_bytes: int
    digest: str
    image_size: ImageSize | None
    create_time: datetime | None
    expire_time: datetime | None


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture (or COCO file) that was made: its bytes, or where they are stored.

    Attributes:
        style: What was drawn.
        content_type: Media type, for example `image/png`.
        file_name: Name to save it under; only a suggestion.
        data: The bytes; None where they were stored instead.
        file: Where they were stored; None for those that came inline.
        size: Size of the picture, for pictures.
        mask_index: The mask, for styles with one picture for each.
        object_id: The object, for styles with one picture for each object or mask.
    """

    style: RenderingStyle
    content_type: str
    file_name: str
    data: bytes | None = field(default=None, repr=False)
    file: StoredFile | None = None
    size: ImageSize | None = None
    mask_index: int | None = None
    object_id: int | None = None

    def open(self) -> Image.Image:
        """Return the picture, decoded at its first use.

        Raises:
            ValueError: The bytes are stored on the server.
        """
        return Image.open(io.BytesIO(self._inline()))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the bytes to a file and return its path.

        Raises:
            ValueError: The bytes are stored on the server.
        """
        target = Path(path)
        target.write_bytes(self._inline())
        return target

    def _inline(self) -> bytes:
        if self.data is None:
            raise ValueError(f"the picture is stored on the server: {self.file}")
        return self.data


@dataclass(frozen=True, slots=True)
class SegmentationResult:
    """The masks of the prompted objects; iterating gives them too.

    Attributes:
        masks: What each text found, most confident first; then the other objects in the order of
            their first prompts, alternatives best first.
        info: How they came about.
        pictures: The pictures that were asked for, in that order.
    """

    masks: tuple[Mask, ...]
    info: ProcessingInfo
    pictures: tuple[Picture, ...] = ()

    @property
    def image(self) -> ImageInfo:
        """The image that the answer is about."""
        return self.info.image

    def __iter__(self) -> Iterator[Mask]:
        """Give the masks."""
        return iter(self.masks)

    def __len__(self) -> int:
        """Number of masks."""
        return len(self.masks)
