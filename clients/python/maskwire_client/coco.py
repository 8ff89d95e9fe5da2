"""Writes answers as COCO annotations, which pycocotools and most labelling tools read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .masks import CocoRle, CocoRleCounts, Mask, Polygon, PolygonMask
from .results import ProcessingInfo, SegmentationResult

__all__ = ["annotation", "document", "image"]

_UNNAMED = "object"


def document(results: Mapping[str, SegmentationResult]) -> dict[str, Any]:
    """Return answers as one COCO document, ready for `json.dump`.

    Beside COCO's own keys each annotation has `object_id`, `alternative`, `score`, `score_kind` and
    `box_xyxy` (pixels), and each image the digest, models and request id of its answer.

    Args:
        results: The answer for each image, by the name to give to the image; the masks in any
            encoding but `NONE`.

    Raises:
        ValueError: A mask was not sent, or does not decode.
    """
    names = sorted({mask.text or _UNNAMED for result in results.values() for mask in result})
    categories = {name: number for number, name in enumerate(names or [_UNNAMED], start=1)}
    annotations = [
        (image_id, mask)
        for image_id, result in enumerate(results.values(), start=1)
        for mask in result
    ]
    return {
        "info": {"description": "Masks made by Maskwire"},
        "images": [
            image(image_id, file_name, result.info)
            for image_id, (file_name, result) in enumerate(results.items(), start=1)
        ],
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
        "annotations": [
            annotation(
                mask, number, image_id=image_id, category_id=categories[mask.text or _UNNAMED]
            )
            for number, (image_id, mask) in enumerate(annotations, start=1)
        ],
    }


def image(image_id: int, file_name: str, info: ProcessingInfo) -> dict[str, Any]:
    """Return the entry of an image, with the digest, models and request id of its answer."""
    return {
        "id": image_id,
        "file_name": file_name,
        "width": info.image.size.width_px,
        "height": info.image.size.height_px,
        "digest": info.image.digest,
        "models": [
            {"model": model.model, "checkpoint_digest": model.checkpoint_digest}
            for model in info.models
        ],
        "request_id": info.request_id,
    }


def annotation(
    mask: Mask, annotation_id: int, *, image_id: int = 1, category_id: int = 1
) -> dict[str, Any]:
    """Return one mask as a COCO annotation.

    Raises:
        ValueError: The mask was not sent, or does not decode.
    """
    box = mask.box
    corners = [box.x_min, box.y_min, box.x_max, box.y_max] if box is not None else None
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": _segmentation(mask),
        "area": mask.area_px,
        "bbox": (
            [box.x_min, box.y_min, box.x_max - box.x_min, box.y_max - box.y_min]
            if box is not None
            else [0.0, 0.0, 0.0, 0.0]
        ),
        "iscrowd": 0,
        "object_id": mask.object_id,
        "alternative": mask.alternative,
        "score": mask.score,
        "score_kind": mask.score_kind.value,
        "box_xyxy": corners,
    }


def _segmentation(mask: Mask) -> dict[str, Any] | list[list[float]]:
    match mask.encoded:
        case CocoRle() | CocoRleCounts() as run_lengths:
            return run_lengths.to_coco()
        case PolygonMask() as outlines if outlines.polygons:
            return [_flat_ring(polygon) for polygon in outlines.polygons]
    return CocoRleCounts.encode(mask.bitmap).to_coco()


def _flat_ring(polygon: Polygon) -> list[float]:
    """Return one ring for a polygon: COCO has no holes, so each is joined by a seam of no width."""
    pieces: list[Sequence[float]] = [polygon.outer]
    for hole in polygon.holes:
        pieces += [polygon.outer[:2], hole, hole[:2]]
    if polygon.holes:
        pieces.append(polygon.outer[:2])
    return [coordinate for piece in pieces for coordinate in piece]
