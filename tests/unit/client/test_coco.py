"""COCO documents, as pycocotools reads them."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from maskwire_client import (
    Box,
    CocoRleCounts,
    ImageInfo,
    ImageSize,
    Mask,
    ModelReference,
    PngMask,
    Polygon,
    PolygonMask,
    ProcessingInfo,
    ScoreKind,
    SegmentationResult,
    Timings,
    coco,
)
from maskwire_server.domain import polygons as server_polygons

# pycocotools itself warns so when it decodes, under numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def ring_bitmap() -> np.ndarray:
    bitmap = np.zeros((20, 30), dtype=np.bool_)
    bitmap[4:16, 5:25] = True
    bitmap[8:12, 10:20] = False
    return bitmap


def as_polygons(bitmap: np.ndarray) -> PolygonMask:
    polygons = tuple(
        Polygon(
            tuple(polygon.outer.ravel().tolist()),
            tuple(tuple(hole.ravel().tolist()) for hole in polygon.holes),
        )
        for polygon in server_polygons.bitmap_to_polygons(bitmap)
    )
    return PolygonMask(ImageSize(30, 20), polygons)


def answer(encoded, text: str = "") -> SegmentationResult:
    mask = Mask(
        index=0,
        object_id=7,
        area_px=int(ring_bitmap().sum()),
        score=0.5,
        score_kind=ScoreKind.PREDICTED_IOU,
        box=Box(5, 4, 25, 16),
        encoded=encoded,
        text=text,
    )
    info = ProcessingInfo(
        models=(ModelReference("nano", "sha256:0"),),
        image=ImageInfo("sha256:1", ImageSize(30, 20), "image/png"),
        embedding_cached=False,
        timings=Timings(),
        request_id="r",
    )
    return SegmentationResult((mask,), info)


def loaded(document, file: Path) -> COCO:
    file.write_text(json.dumps(document))
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(file))


@pytest.mark.parametrize(
    "encode", [CocoRleCounts.encode, PngMask.encode, as_polygons], ids=["rle", "png", "polygons"]
)
def test_pycocotools_reads_the_mask(encode, tmp_path: Path) -> None:
    dataset = loaded(coco.document({"a.png": answer(encode(ring_bitmap()))}), tmp_path / "a.json")
    (annotation,) = dataset.loadAnns(dataset.getAnnIds())
    assert annotation["bbox"] == [5, 4, 20, 12]
    assert annotation["object_id"] == 7
    decoded = dataset.annToMask(annotation).astype(np.bool_)
    # Polygons: pycocotools rasterises outlines in its own way, up to a pixel off.
    wrong = int((decoded != ring_bitmap()).sum())
    assert wrong == 0 if encode is not as_polygons else wrong < 40


def test_images_and_texts_are_told_apart(tmp_path: Path) -> None:
    encoded = CocoRleCounts.encode(ring_bitmap())
    document = coco.document({"a.png": answer(encoded, "wheel"), "b.png": answer(encoded)})
    dataset = loaded(document, tmp_path / "a.json")
    names = {category["id"]: category["name"] for category in document["categories"]}
    found = {
        (dataset.imgs[entry["image_id"]]["file_name"], names[entry["category_id"]])
        for entry in document["annotations"]
    }
    assert found == {("a.png", "wheel"), ("b.png", "object")}
    assert len({entry["id"] for entry in document["annotations"]}) == 2
