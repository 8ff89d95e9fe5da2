"""What commands show and leave behind of an answer: tables, JSON, and the files of `--out`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from rich.table import Table

from .. import coco
from ..geometry import Box
from ..options import MaskEncoding
from ..results import ProcessingInfo, SegmentationResult, Timings

__all__ = ["files_table", "mask_table", "summary_table", "to_json", "write_files"]

_STAGES = ("decode", "queue", "encode", "prompt", "postprocess", "total")
_SHORT_DIGEST = len("sha256:") + 12


def write_files(
    result: SegmentationResult, folder: Path, image_name: str, encoding: MaskEncoding
) -> list[Path]:
    """Write the pictures, masks.json and, for PNG masks, one picture for each; return their paths.

    Raises:
        OSError: The folder cannot be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = [picture.save(folder / Path(picture.file_name).name) for picture in result.pictures]
    masks = folder / "masks.json"
    masks.write_text(json.dumps(coco.document({image_name: result})) + "\n", encoding="utf-8")
    written.append(masks)
    if encoding is MaskEncoding.PNG_8BIT:
        for mask in result.masks:
            path = folder / f"mask-{mask.object_id}-{mask.alternative}.png"
            Image.fromarray(mask.bitmap).save(path)
            written.append(path)
    return written


def to_json(result: SegmentationResult, image_name: str, written: Sequence[Path]) -> dict[str, Any]:
    """Return what `--json` prints: the COCO document, the timings and the files."""
    return {
        **coco.document({image_name: result}),
        "embedding_cached": result.info.embedding_cached,
        "timings_ms": _milliseconds(result.info.timings),
        "files": [str(path) for path in written],
    }


def mask_table(result: SegmentationResult) -> Table:
    """Return a table with one row for each mask."""
    table = Table("object", "alternative", "score", "area px", "box x, y to x, y", "text")
    for column in table.columns[:4]:
        column.justify = "right"
    for mask in result.masks:
        table.add_row(
            str(mask.object_id),
            str(mask.alternative),
            "" if mask.score is None else f"{mask.score:.3f}",
            f"{mask.area_px:,}",
            _corners(mask.box),
            mask.text,
        )
    if not any(mask.text for mask in result.masks):
        table.columns.pop()
    return table


def summary_table(info: ProcessingInfo, written: Sequence[Path] = ()) -> Table:
    """Return how an answer came about and where its files lie."""
    table = Table.grid(padding=(0, 2))
    size = info.image.size
    for reference in info.models:
        table.add_row("model", reference.model)
        if reference.checkpoint_digest:
            table.add_row("checkpoint", reference.checkpoint_digest[:_SHORT_DIGEST])
    table.add_row("image", f"{size.width_px} x {size.height_px} px, {info.image.content_type}")
    stages = ", ".join(
        f"{stage} {value:.1f}" for stage, value in _milliseconds(info.timings).items()
    )
    table.add_row("server ms", stages + (", embedding cached" if info.embedding_cached else ""))
    for path in written:
        table.add_row("wrote", str(path))
    return table


def files_table(written: Sequence[Path], most: int = 12) -> Table:
    """Return which files were written; of many the first, and how many more."""
    table = Table.grid(padding=(0, 2))
    for path in written[:most]:
        table.add_row("wrote", str(path))
    if len(written) > most:
        table.add_row("", f"and {len(written) - most} more")
    return table


def _milliseconds(timings: Timings) -> dict[str, float]:
    durations = {stage: getattr(timings, stage) for stage in _STAGES}
    return {
        stage: round(duration.total_seconds() * 1e3, 3)
        for stage, duration in durations.items()
        if duration is not None
    }


def _corners(box: Box | None) -> str:
    if box is None:
        return "empty"
    return f"{box.x_min:.0f}, {box.y_min:.0f} to {box.x_max:.0f}, {box.y_max:.0f}"
