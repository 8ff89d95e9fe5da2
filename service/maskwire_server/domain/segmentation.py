"""What a segmentation request and its result are, independent of how they travel.

The work itself is in `segmentation_service.py`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from .geometry import Box, ImageSize
from .logits import MaskLogits
from .masks import EncodedMask, MaskEncoding
from .overlay import OverlayOptions, PictureFormat
from .prompts import Prompt


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: scopes whatever the call leaves behind.

    Attributes:
        tenant: Owner of images, embeddings and files; empty for the anonymous tenant.
        request_id: Identifier of the call, for logs.
    """

    tenant: str
    request_id: str


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
class OverlayRequest:
    """An overlay picture to make (the hosted endpoints' `apply_mask`)."""

    options: OverlayOptions
    format: PictureFormat = PictureFormat.PNG
    quality: int = 90


@dataclass(frozen=True, slots=True)
class SegmentRequest:
    """A request to segment prompted objects.

    Attributes:
        image: Where the image comes from.
        prompts: At least one.
        model: Name of the model; None means the default.
        mask_options: Which masks to return, and how.
        overlays: Pictures to make.
    """

    image: ImageSource
    prompts: tuple[Prompt, ...]
    model: str | None = None
    mask_options: MaskOptions = field(default_factory=MaskOptions)
    overlays: tuple[OverlayRequest, ...] = ()


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


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that was made.

    Attributes:
        data: The encoded picture.
        content_type: Its media type.
        size: Its size.
    """

    data: bytes
    content_type: str
    size: ImageSize


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


@dataclass(frozen=True, slots=True)
class SegmentResult:
    """The masks of the prompted objects, and how they came about.

    Attributes:
        masks: Objects in the order of their first prompts, alternatives best first.
        mask_options: The options that were asked for, which say what of the masks to send.
        pictures: In the order of the request's overlays.
        image: The image.
        model: Name of the model that made the masks.
        checkpoint_digest: `sha256:` and the hexadecimal digest of its weights.
        embedding_cached: Whether the image embedding was found in the cache.
        timings: Where the time went.
    """

    masks: tuple[SegmentedMask, ...]
    mask_options: MaskOptions
    pictures: tuple[Picture, ...]
    image: ImageInfo
    model: str
    checkpoint_digest: str
    embedding_cached: bool
    timings: Timings
