"""Masks of an image as a COCO document: what pycocotools and most labelling tools read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .geometry import ImageSize
from .packed_masks import DrawableMask
from .rle import encode_rle


def coco_document(masks: Sequence[DrawableMask], size: ImageSize) -> bytes:
    """Return masks of one image as a COCO document in JSON, UTF-8.

    Image, annotations and categories are numbered from 1, annotations in their order, categories
    by name. Masks are compressed run lengths; beside COCO's own keys each annotation has
    `object_id`, `alternative` and, where there is one, `score`. Boxes are x, y, width, height.
    """
    names = sorted({mask.category for mask in masks}) or ["object"]
    numbers = {name: number for number, name in enumerate(names, start=1)}
    document = {
        "info": {"description": "Masks made by Maskwire"},
        "images": [{"id": 1, "file_name": "", "width": size.width_px, "height": size.height_px}],
        "categories": [{"id": number, "name": name} for name, number in numbers.items()],
        "annotations": [
            {"id": number, "image_id": 1, "category_id": numbers[mask.category]} | _annotation(mask)
            for number, mask in enumerate(masks, start=1)
        ],
    }
    return json.dumps(document, ensure_ascii=False).encode()


def _annotation(drawable: DrawableMask) -> dict[str, Any]:
    mask, window = drawable.mask, drawable.mask.window
    fields: dict[str, Any] = {
        "segmentation": {
            "size": [mask.size.height_px, mask.size.width_px],
            "counts": encode_rle(mask.unpack()).decode("ascii"),
        },
        "area": mask.area_px,
        "bbox": [window.left, window.top, window.right - window.left, window.bottom - window.top],
        "iscrowd": 0,
        "object_id": drawable.object_id,
        "alternative": drawable.alternative,
    }
    return fields if drawable.score is None else fields | {"score": drawable.score}
