"""The parameters of the hosted endpoints that Maskwire replaces: field, default and range of each.

`ROWS` is the table of the README. Each row names the field of the contract that carries the
parameter, and the test in `tests/contract/hosted_options/` that shows it carried out, or properly
refused, on a server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SAM3, SAM3_RLE, SAM2_AUTO, SAM1 = "SAM 3 image", "SAM 3 RLE", "SAM 2 auto-segment", "SAM 1"
PROMPTED, EVERYTHING = "SegmentImageRequest", "AutoSegmentRequest"


@dataclass(frozen=True)
class Row:
    """One parameter of a hosted endpoint.

    Attributes:
        endpoint: The endpoint.
        parameter: Its name there.
        request: The request that carries it here.
        field: Path of the field in the request; `[]` stands for an element.
        default: What an absent field means.
        range: What is accepted.
        outside: A value beyond the range, where there is one that the field can hold.
        shown_by: The test of this module that shows its effect.
    """

    endpoint: str
    parameter: str
    request: str
    field: str
    default: str
    range: str
    shown_by: str
    outside: float | None = None


def _sam3(endpoint: str) -> list[Row]:
    def row(parameter: str, field: str, default: str, accepted: str, by: str, **more: Any) -> Row:
        return Row(endpoint, parameter, PROMPTED, field, default, accepted, by, **more)

    text_rule = "1 to 1024 bytes, not blank"
    return [
        row(
            "image_url",
            "image.uri",
            "required",
            "`data:` URI; or `image.data`, `image.digest`",
            "image",
        ),
        row("prompt / text_prompt", "prompts[].text.text", "none", text_rule, "text"),
        row("point_prompts", "prompts[].point.point", "none", "inside the image", "points"),
        row("point_prompts[].label", "prompts[].point.label", "foreground", "enum", "labels"),
        row(
            "point_prompts[].object_id", "prompts[].object_id", "assigned", "1 to 2147483647", "ids"
        ),
        row("box_prompts", "prompts[].box.box", "none", "overlaps the image", "boxes"),
        row("apply_mask", "renderings[].style", "no picture", "OVERLAY", "overlay"),
        row("output_format", "renderings[].format", "PNG", "PNG, JPEG, WEBP", "output_format"),
        row("sync_mode", "delivery", "INLINE (true)", "INLINE, STORED_FILE (false)", "sync_mode"),
        row(
            "return_multiple_masks",
            "mask_options.return_multiple_masks",
            "false",
            "bool",
            "several",
        ),
        row("max_masks", "mask_options.max_masks", "3", "1 to 32", "max_masks", outside=33),
        row("include_scores", "mask_options.include_scores", "false", "bool", "scores"),
        row("include_boxes", "mask_options.include_boxes", "false", "bool", "normalized_boxes"),
    ]


def _auto(parameter: str, field: str, default: str, accepted: str, by: str, **more: Any) -> Row:
    return Row(SAM2_AUTO, parameter, EVERYTHING, field, default, accepted, by, **more)


def _sam1(parameter: str, field: str, default: str, accepted: str, by: str, **more: Any) -> Row:
    return Row(SAM1, parameter, PROMPTED, field, default, accepted, by, **more)


ROWS = [
    *_sam3(SAM3),
    *_sam3(SAM3_RLE),
    Row(SAM3_RLE, "rle", PROMPTED, "mask_options.encoding", "COCO_RLE", "enum", "encodings"),
    _auto("image_url", "image.uri", "required", "as above", "everything"),
    _auto(
        "points_per_side", "options.points_per_side", "32", "1 to 128", "everything", outside=129
    ),
    _auto("pred_iou_thresh", "options.pred_iou_thresh", "0.88", "0 to 1", "everything", outside=2),
    _auto(
        "stability_score_thresh",
        "options.stability_score_thresh",
        "0.95",
        "0 to 1",
        "everything",
        outside=-0.1,
    ),
    _auto(
        "min_mask_region_area",
        "options.min_mask_region_area",
        "100",
        "0 and more",
        "small_regions",
    ),
    _auto(
        "combined mask",
        "renderings[].style",
        "no picture",
        "BLACK_WHITE",
        "combined_and_individual_masks",
    ),
    _auto(
        "individual masks",
        "renderings[].style",
        "no picture",
        "INDIVIDUAL_MASKS",
        "combined_and_individual_masks",
    ),
    _auto(
        "output_format",
        "renderings[].format",
        "PNG",
        "PNG, JPEG, WEBP",
        "combined_and_individual_masks",
    ),
    _auto(
        "sync_mode",
        "delivery",
        "INLINE (true)",
        "INLINE, STORED_FILE (false)",
        "stored_everything",
    ),
    _sam1("image_url", "image.uri", "required", "as above", "image"),
    _sam1("text_prompt", "prompts[].text.text", "none", "1 to 1024 bytes, not blank", "text"),
    _sam1("size", "inference_size_px", "the model's own (1024)", "64 to 8192", "size", outside=63),
    _sam1("iou", "postprocess.max_overlap_iou", "off (0.9 there)", "0 to 1", "iou", outside=1.5),
    _sam1("confidence", "postprocess.min_score", "off (0.4)", "0 to 1", "confidence", outside=-1),
    _sam1("retina", "postprocess.coarse_masks", "false (= true)", "bool, negated", "retina"),
    _sam1("box_prompt (x, y, w, h)", "prompts[].box.sized_box", "none", "positive", "sized_boxes"),
    _sam1("point_prompt", "prompts[].point.point", "none", "inside the image", "points"),
    _sam1("point_label", "prompts[].point.label", "foreground", "enum", "labels"),
    _sam1("with_contours", "renderings[].style", "no picture", "CONTOURS", "contours"),
    _sam1("better_quality", "postprocess.morphological_cleanup", "false", "bool", "better_quality"),
    _sam1("black_white", "renderings[].style", "no picture", "BLACK_WHITE", "black_white"),
    _sam1("invert", "renderings[].invert", "false", "bool", "invert"),
]
