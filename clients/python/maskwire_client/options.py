"""What a caller may ask for besides the prompts: encodings of masks, clean-up, pictures."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = [
    "AutoSegmentOptions",
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
        invert: Swaps object and background; label maps and COCO files refuse it.
        background_rgb: Background of cut-outs and crops in JPEG, as 0xRRGGBB; PNG and WebP are
            transparent there.
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
        min_region_area_px: Removes islands of fewer pixels than this, but never the largest.
        smoothing_radius_px: Smooths the outline with a Gaussian of this radius, 0 to 32 pixels.
        morphological_cleanup: Opening, then closing, with a disc of 1/200 of the shorter side.
        refine: Runs the model again on a window around each mask, at higher resolution;
            `Client.segment` only. `Mask.refined` tells which masks it drew.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoSegmentOptions:
    """Settings of automatic mask generation; None leaves the server's default, which is named.

    Attributes:
        points_per_side: Points along each side of the grid, 1 to 128; 32.
        pred_iou_thresh: Least predicted IoU of a mask, 0 to 1; 0.88.
        stability_score_thresh: Least stability score of a mask, 0 to 1; 0.95.
        stability_score_offset: Shift of the threshold for that score, in logits, up to 10; 1.
        min_mask_region_area: Islands and holes of fewer pixels are removed; 100.
        box_nms_thresh: Of two masks whose boxes overlap by more than this IoU the worse is dropped,
            0 to 1; 0.7.
        crop_n_layers: Layers of crops besides the whole image, 0 to 4: layer i has 2^i × 2^i crops.
        crop_nms_thresh: As `box_nms_thresh`, between crops; 0.7.
        crop_overlap_ratio: How far crops overlap, as a fraction of the image, 0 to 0.9; 512/1500.
        crop_n_points_downscale_factor: The grid of layer i has `points_per_side` divided by this to
            the power of i, 1 to 8; 1.
        multimask_output: Whether each point may give object, part and subpart; it may.
        max_masks: Most masks, best first, 1 to 4096; all.
    """

    points_per_side: int | None = None
    pred_iou_thresh: float | None = None
    stability_score_thresh: float | None = None
    stability_score_offset: float | None = None
    min_mask_region_area: int | None = None
    box_nms_thresh: float | None = None
    crop_n_layers: int = 0
    crop_nms_thresh: float | None = None
    crop_overlap_ratio: float | None = None
    crop_n_points_downscale_factor: int | None = None
    multimask_output: bool | None = None
    max_masks: int | None = None
