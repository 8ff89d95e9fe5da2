"""What `maskwire auto` writes of many images."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwire_client import (
    CocoRleCounts,
    ImageInfo,
    ImageSize,
    Mask,
    ModelReference,
    Picture,
    ProcessingInfo,
    RenderingStyle,
    SegmentationResult,
    Timings,
    coco,
)
from maskwire_client.cli.auto_output import AutoOutput, CocoWriter, ContactSheets, FileNames

SIZE = ImageSize(width_px=30, height_px=20)


def png(size: tuple[int, int] = (30, 20)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (90, 120, 30)).save(stream, "PNG")
    return stream.getvalue()


def result(masks: int, digest: str = "sha256:0") -> SegmentationResult:
    bitmaps = np.zeros((masks, SIZE.height_px, SIZE.width_px), dtype=np.bool_)
    for number, bitmap in enumerate(bitmaps):
        bitmap[number : number + 4, 3:9] = True
    return SegmentationResult(
        masks=tuple(
            Mask(
                index=number,
                object_id=number + 1,
                area_px=int(bitmap.sum()),
                encoded=CocoRleCounts.encode(bitmap),
            )
            for number, bitmap in enumerate(bitmaps)
        ),
        info=ProcessingInfo(
            models=(ModelReference("nano", "sha256:1"),),
            image=ImageInfo(digest, SIZE, "image/png"),
            embedding_cached=False,
            timings=Timings(total=timedelta(seconds=1)),
            request_id="r",
        ),
        pictures=(
            Picture(RenderingStyle.OVERLAY, "image/png", "overlay.png", png()),
            Picture(RenderingStyle.LABEL_MAP, "image/png", "labels.png", png()),
        ),
    )


def test_the_document_is_the_one_that_coco_makes_at_once() -> None:
    results = {"a.png": result(3), "b.png": result(0, "sha256:2"), "c.png": result(2)}
    stream, other = io.StringIO(), io.StringIO()
    writer = CocoWriter([stream, other])
    for name, answer in results.items():
        writer.add(name, answer)
    writer.close()
    assert json.loads(stream.getvalue()) == coco.document(results)
    assert other.getvalue() == stream.getvalue()


def test_a_document_without_images_is_valid() -> None:
    stream = io.StringIO()
    CocoWriter([stream]).close(files=["a"])
    document = json.loads(stream.getvalue())
    assert document["images"] == document["annotations"] == []
    assert document["files"] == ["a"]


def test_all_files_are_written(tmp_path: Path) -> None:
    with AutoOutput(tmp_path / "out", as_json=False, mask_files=True) as output:
        output.add("a.png", result(2))
        output.add("a.jpg", result(1))
    names = {path.name for path in output.written}
    assert names == {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "masks.json",
        "contact-sheet.png",
        *("a-overlay.png", "a-labels.png", "a-mask-1.png", "a-mask-2.png"),
        *("a-2-overlay.png", "a-2-labels.png", "a-2-mask-1.png"),
    }
    document = json.loads((tmp_path / "out" / "masks.json").read_text())
    assert [image["file_name"] for image in document["images"]] == ["a.png", "a.jpg"]


def test_what_came_before_a_failure_is_complete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = AutoOutput(tmp_path, as_json=True, mask_files=False)
    with pytest.raises(KeyboardInterrupt), output:
        interrupted_after_one(output)
    assert len(json.loads((tmp_path / "masks.json").read_text())["annotations"]) == 2
    assert len(json.loads(capsys.readouterr().out)["annotations"]) == 2
    assert (tmp_path / "contact-sheet.png").is_file()


def interrupted_after_one(output: AutoOutput) -> None:
    output.add("a.png", result(2))
    raise KeyboardInterrupt


def test_large_collections_take_several_sheets(tmp_path: Path) -> None:
    sheets = ContactSheets(tmp_path)
    for number in range(50):
        sheets.add(Image.new("RGB", (60, 40)), str(number))
    names = [path.name for path in sheets.close()]
    assert names == ["contact-sheet.png", "contact-sheet-2.png"]
    with Image.open(tmp_path / names[0]) as first, Image.open(tmp_path / names[1]) as second:
        assert first.height > second.height


def test_names_are_never_given_twice() -> None:
    names = FileNames()
    given = [names.unique(name) for name in ("a.png", "a.png", "a-2.png", "a.png", "b")]
    assert given == ["a.png", "a-2.png", "a-2-2.png", "a-3.png", "b"]
