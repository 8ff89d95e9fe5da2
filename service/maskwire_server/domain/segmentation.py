"""What a segmentation request and its result are, independent of how they travel.

The work itself is in `segmentation_service.py`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Protocol

from .engine import ModelDescription
from .errors import ErrorCode, MaskwireError
from .geometry import Box, ImageSize, Point
from .identity import ALL_SCOPES, Scope
from .logits import MaskLogits
from .masks import EncodedMask, MaskEncoding
from .postprocessing import PostprocessOptions
from .prompts import Prompt
from .renderings import Delivery, Picture, RenderingRequest


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: scopes whatever the call leaves behind.

    Attributes:
        tenant: Owner of images, embeddings and files; empty for the anonymous tenant.
        request_id: Identifier of the call, for logs.
        scopes: What the caller may call.
    """

    tenant: str
    request_id: str
    scopes: frozenset[Scope] = ALL_SCOPES

    def require(self, scope: Scope) -> None:
        """Raise where a call is not among those that the caller may make.

        Raises:
            MaskwireError: `PERMISSION_DENIED`.
        """
        if scope not in self.scopes:
            raise MaskwireError(
                ErrorCode.PERMISSION_DENIED,
                f"these credentials do not have the scope '{scope}'",
            )


@dataclass(frozen=True, slots=True)
class InlineImage:
    """An encoded image in the request itself."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ImageUri:
    """An image to be found at a URI."""

    uri: str


@dataclass(frozen=True, slots=True)
class ImageDigest:
    """An image that the server was sent before: `sha256:` and 64 hexadecimal digits."""

    digest: str


ImageSource = InlineImage | ImageUri | ImageDigest


@dataclass(frozen=True, slots=True)
class MaskOptions:
    """Which masks to return, and how; the fields are the contract's `MaskOptions`."""

    encoding: MaskEncoding = MaskEncoding.COCO_RLE
    return_multiple_masks: bool = False
    max_masks: int = 3
    include_scores: bool = False
    include_boxes: bool = False
    include_logits: bool = False


@dataclass(frozen=True, slots=True)
class SegmentRequest:
    """A request to segment prompted objects.

    Attributes:
        image: Where the image comes from.
        prompts: At least one.
        model: Name of the model; None means the default.
        mask_options: Which masks to return, and how.
        postprocess: What to change in the masks first.
        renderings: Pictures to make.
        delivery: How pictures reach the caller.
        inference_size_px: Longest side of the image that the model sees; None means as it is.
    """

    image: ImageSource
    prompts: tuple[Prompt, ...]
    model: str | None = None
    mask_options: MaskOptions = field(default_factory=MaskOptions)
    postprocess: PostprocessOptions = field(default_factory=PostprocessOptions)
    renderings: tuple[RenderingRequest, ...] = ()
    delivery: Delivery = Delivery.INLINE
    inference_size_px: int | None = None


class ScoreKind(enum.Enum):
    """What a mask's score means."""

    PREDICTED_IOU = "predicted_iou"
    CONCEPT_CONFIDENCE = "concept_confidence"
    OBJECT_PRESENCE = "object_presence"


@dataclass(frozen=True, slots=True)
class SegmentedMask:
    """One mask of the result.

    Attributes:
        index: Position in the result.
        object_id: The object.
        alternative: Rank among the object's alternatives, 0 is the best.
        score: 0 to 1; its meaning is `score_kind`.
        score_kind: What the score means.
        stability_score: IoU of the masks at a higher and a lower threshold, 0 to 1; None where it
            was not computed.
        area_px: Pixels of the object.
        box: Tight half-open box in pixels, None for an empty mask.
        encoded: The mask in the encoding asked for; None for `MaskEncoding.NONE`.
        logits: The mask's logits, where they were asked for.
        text: The text that found the object, where text did.
        grid_point: The grid point that found it, where automatic segmentation did.
        is_refined: Whether a second pass drew it.
    """

    index: int
    object_id: int
    alternative: int
    score: float
    score_kind: ScoreKind
    stability_score: float | None
    area_px: int
    box: Box | None
    encoded: EncodedMask | None
    logits: MaskLogits | None
    text: str = ""
    grid_point: Point | None = None
    is_refined: bool = False


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Digest of the encoded bytes, size after EXIF orientation, and media type of an image."""

    digest: str
    size: ImageSize
    content_type: str


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of a call went, in seconds; None for stages that did not run."""

    decode_s: float | None
    queue_s: float
    encode_s: float | None
    prompt_s: float
    postprocess_s: float
    total_s: float


class Processed(Protocol):
    """What every result says about how it came about."""

    @property
    def image(self) -> ImageInfo:
        """The image."""

    @property
    def model(self) -> str:
        """Name of the model that made the masks."""

    @property
    def checkpoint_digest(self) -> str:
        """`sha256:` and the hexadecimal digest of the model's weights."""

    @property
    def embedding_cached(self) -> bool:
        """Whether the image embedding was found in the cache."""

    @property
    def timings(self) -> Timings:
        """Where the time went."""


@dataclass(frozen=True, slots=True)
class SegmentResult:
    """The masks of the prompted objects, and how they came about (`Processed`).

    Attributes:
        masks: What each text found, most confident first; then the other objects in the order of
            their first prompts, alternatives best first.
        mask_options: The options that were asked for, which say what of the masks to send.
        pictures: In the order of the request's renderings.
        image: The image.
        model: Name of the model that made the masks.
        checkpoint_digest: `sha256:` and the hexadecimal digest of its weights.
        embedding_cached: Whether the image embedding was found in the cache.
        timings: Where the time went.
        further_models: Models that had a part beside the first.
    """

    masks: tuple[SegmentedMask, ...]
    mask_options: MaskOptions
    pictures: tuple[Picture, ...]
    image: ImageInfo
    model: str
    checkpoint_digest: str
    embedding_cached: bool
    timings: Timings
    further_models: tuple[ModelDescription, ...] = ()
