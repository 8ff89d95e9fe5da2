"""What a request to segment everything in a picture is, what its result is, and what is told while
it runs. The work itself is in `auto_segmentation_service.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..geometry import ImageSize
from ..postprocessing import PostprocessOptions
from ..renderings import Delivery, Picture, RenderingRequest
from ..segmentation import ImageInfo, ImageSource, MaskOptions, SegmentedMask, Timings
from .proposals import ProposalCriteria


@dataclass(frozen=True, slots=True)
class AutoSegmentOptions:
    """Settings of the method; the fields are the contract's, the defaults the hosted endpoints'.

    Attributes:
        points_per_side: Points along each side of the grid.
        criteria: Which masks are wanted.
        min_mask_region_area: Islands and holes below this many pixels are removed.
        box_nms_thresh: Of two masks whose boxes overlap by more the worse goes.
        crop_n_layers: Layers of crops besides the whole image.
        crop_nms_thresh: As `box_nms_thresh`, between crops.
        crop_overlap_ratio: How far crops overlap, as a fraction of the image.
        crop_n_points_downscale_factor: The grid of layer i has `points_per_side` divided by this to
            the power of i.
        max_masks: Most masks, best first; None for all.
    """

    points_per_side: int = 32
    criteria: ProposalCriteria = field(default_factory=ProposalCriteria)
    min_mask_region_area: int = 100
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    max_masks: int | None = None


@dataclass(frozen=True, slots=True)
class AutoSegmentLimits:
    """What one request may take.

    Attributes:
        max_points: Most grid points, all crops together.
        budget_bytes: Memory for the masks that it holds while it runs, and again for those that it
            has finished.
    """

    max_points: int
    budget_bytes: int


@dataclass(frozen=True, slots=True)
class AutoSegmentRequest:
    """A request to segment everything in a picture.

    Attributes:
        image: Where the image comes from.
        model: Name of the model; None means the default.
        options: Settings of the method.
        mask_options: How to return the masks; how many is not decided there.
        postprocess: What to change in the masks first.
        renderings: Pictures to make.
        delivery: How pictures reach the caller.
        inference_size_px: Longest side of the image, and of each crop, that the model sees; None
            means as they are.
    """

    image: ImageSource
    model: str | None = None
    options: AutoSegmentOptions = field(default_factory=AutoSegmentOptions)
    mask_options: MaskOptions = field(default_factory=MaskOptions)
    postprocess: PostprocessOptions = field(default_factory=PostprocessOptions)
    renderings: tuple[RenderingRequest, ...] = ()
    delivery: Delivery = Delivery.INLINE
    inference_size_px: int | None = None


@dataclass(frozen=True, slots=True)
class AutoSegmentResult:
    """Everything in a picture, and how it came about (`Processed`).

    Attributes:
        masks: Best first, objects counted from 1; none where they were told before.
        mask_options: The options that were asked for, which say what of the masks to send.
        pictures: In the order of the request's renderings.
        image: The image.
        model: Name of the model that made the masks.
        checkpoint_digest: `sha256:` and the hexadecimal digest of its weights.
        embedding_cached: Whether the whole image's embedding was found in the cache.
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


@dataclass(frozen=True, slots=True)
class PointsDone:
    """How far the work is."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class MasksAccepted:
    """Masks that count from now on; their indices count on from those told before.

    Attributes:
        masks: The masks.
        mask_options: The options that were asked for.
        size: Size of the image.
    """

    masks: tuple[SegmentedMask, ...]
    mask_options: MaskOptions
    size: ImageSize


@dataclass(frozen=True, slots=True)
class MasksWithdrawn:
    """Masks told before, by their indices, that count no longer."""

    indices: tuple[int, ...]


AutoSegmentEvent = PointsDone | MasksAccepted | MasksWithdrawn | AutoSegmentResult
"""What is told while the work runs; the result is the last."""
