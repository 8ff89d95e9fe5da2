"""What a caller may ask for besides the prompts: encodings of masks, clean-up, pictures."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = [
    "Delivery",
    "MaskEncoding",
    "PictureFormat",
    "Postprocess",
    "Rendering",
    "RenderingStyle",
]


class MaskEncoding(enum.Enum):
    """The form that masks take on the wire; `Mask.bitmap` is the same for all but `NONE`."""

    COCO_RLE = "coco_rle"
    COCO_RLE_UNCOMPRESSED = "coco_rle_uncompressed"
    PNG_1BIT = "png_1bit"
    PNG_8BIT = "png_8bit"
    POLYGONS = "polygons"
    NONE = "none"
    """No mask at all: scores, areas and boxes only."""


class RenderingStyle(enum.Enum):
    """A kind of picture made of an image and its masks."""

    OVERLAY = "overlay"
    CONTOURS = "contours"
    BLACK_WHITE = "black_white"
    CUTOUT = "cutout"
    CROPS = "crops"
    LABEL_MAP = "label_map"
    INDIVIDUAL_MASKS = "individual_masks"
    COCO_JSON = "coco_json"


class PictureFormat(enum.Enum):
    """A file format for pictures."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"


class Delivery(enum.Enum):
    """How pictures reach the caller: in the answer, or stored on the server to be fetched."""

    INLINE = "inline"
    STORED_FILE = "stored_file"


@dataclass(frozen=True, slots=True)
class Rendering:
    """A picture to make.

    Attributes:
        style: What to draw.
        format: File format; label maps are always PNG.
        quality: For JPEG and WebP, 1 to 100; None means 90.
        opacity: How strongly the overlay covers the image, 0 to 1; None means 0.5.
        draw_outlines: Whether the overlay draws outlines too; None means it does.
        invert: Swaps object and background.
        background_rgb: Background of cut-outs without transparency, as 0xRRGGBB.
    """

    style: RenderingStyle = RenderingStyle.OVERLAY
    format: PictureFormat = PictureFormat.PNG
    quality: int | None = None
    opacity: float | None = None
    draw_outlines: bool | None = None
    invert: bool = False
    background_rgb: int = 0


@dataclass(frozen=True, slots=True)
class Postprocess:
    """What to change in the masks before they are measured, encoded and drawn; all off by default.

    Attributes:
        max_hole_area_px: Fills holes of fewer pixels than this.
        min_region_area_px: Removes islands of fewer pixels than this.
        smoothing_radius_px: Smooths the outline with a Gaussian of this radius, 0 to 32 pixels.
        morphological_cleanup: Opening, then closing.
        refine: Runs the model again on a window around each mask, at higher resolution.
        min_score: Drops masks that score less, 0 to 1.
        max_overlap_iou: Drops the worse of two objects' masks that overlap by more, 0 to 1.
        coarse_masks: Enlarges bitmaps instead of logits: faster and coarser.
    """

    max_hole_area_px: int = 0
    min_region_area_px: int = 0
    smoothing_radius_px: float = 0.0
    morphological_cleanup: bool = False
    refine: bool = False
    min_score: float | None = None
    max_overlap_iou: float | None = None
    coarse_masks: bool = False
