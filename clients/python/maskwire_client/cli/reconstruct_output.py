"""What `maskwire reconstruct` prints: where the objects are, and which files there are of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Group
from rich.table import Table

from ..reconstruction import (
    Artifact,
    ReconstructedBodies,
    ReconstructedBody,
    ReconstructedObject,
    ReconstructedObjects,
)
from .reports import summary_table

__all__ = ["reconstruction_tables", "reconstruction_to_json"]

Result = ReconstructedObjects | ReconstructedBodies


def reconstruction_tables(result: Result, written: Sequence[Path]) -> Group:
    """Return the tables of a reconstruction: objects or people, files, and how it came about.

    Args:
        result: The result.
        written: Where its files lie, in the order of its artifacts.
    """
    placed = (
        _objects_table(result)
        if isinstance(result, ReconstructedObjects)
        else _bodies_table(result)
    )
    return Group(placed, _files_table(result.artifacts, written), summary_table(result.info))


def reconstruction_to_json(
    result: Result, job_name: str, written: Sequence[Path]
) -> dict[str, Any]:
    """Return what `--json` prints."""
    values: dict[str, Any] = {"job": job_name, "is_metric": result.is_metric}
    if isinstance(result, ReconstructedObjects):
        values["seed"] = result.seed
        values["camera_pose"] = result.camera_pose.tolist()
        values["objects"] = [_object_to_json(item) for item in result.objects]
    else:
        values["bodies"] = [_body_to_json(body) for body in result.bodies]
    values["files"] = [
        {
            "kind": artifact.kind.value,
            "index": artifact.index,
            "path": str(path),
            "size_bytes": artifact.file.size_bytes,
            "digest": artifact.file.digest,
        }
        for artifact, path in zip(result.artifacts, written, strict=True)
    ]
    return values


def _objects_table(result: ReconstructedObjects) -> Table:
    unit = "m" if result.is_metric else "relative"
    table = Table("object", f"size ({unit})", f"position x, y, z ({unit})", "rotation x, y, z, w")
    for item in result.objects:
        table.add_row(
            str(item.index),
            _size(item),
            _numbers(item.translation),
            _numbers(item.rotation),
        )
    return table


def _bodies_table(result: ReconstructedBodies) -> Table:
    unit = "m" if result.is_metric else "m, camera assumed"
    table = Table("person", f"position x, y, z ({unit})", "focal length px", "aligned")
    for body in result.bodies:
        alignment = body.alignment
        aligned = "" if alignment is None else f"x {alignment.scale_factor:.3f}"
        table.add_row(
            str(body.index),
            _numbers(body.camera_translation),
            f"{body.focal_length_px:.0f}",
            aligned,
        )
    return table


def _files_table(artifacts: Sequence[Artifact], written: Sequence[Path]) -> Table:
    table = Table("file", "what", "object", "size")
    table.columns[0].overflow = "fold"
    for column in table.columns[2:]:
        column.justify = "right"
    for artifact, path in zip(artifacts, written, strict=True):
        table.add_row(
            str(path),
            artifact.kind.value.replace("_", " "),
            "" if artifact.index is None else str(artifact.index),
            _bytes_text(artifact.file.size_bytes),
        )
    return table


def _object_to_json(item: ReconstructedObject) -> dict[str, Any]:
    box = item.box
    return {
        "index": item.index,
        "scale": item.scale.tolist(),
        "rotation_xyzw": item.rotation.tolist(),
        "translation": item.translation.tolist(),
        "box": None if box is None else [box.x_min, box.y_min, box.x_max, box.y_max],
    }


def _body_to_json(body: ReconstructedBody) -> dict[str, Any]:
    return {
        "index": body.index,
        "focal_length_px": body.focal_length_px,
        "camera_translation": body.camera_translation.tolist(),
        "keypoints": {
            one.keypoint.value: {
                "image": one.image_position.tolist(),
                "camera": one.camera_position.tolist(),
            }
            for one in body.keypoints
            if one.keypoint is not None
        },
    }


def _size(item: ReconstructedObject) -> str:
    """Return the scale as one number where it is the same along all axes."""
    if np.ptp(item.scale) <= 1e-9 * abs(item.scale).max():
        return f"{item.scale[0]:.4g}"
    return " x ".join(f"{value:.4g}" for value in item.scale)


def _numbers(values: NDArray[np.float64]) -> str:
    # Adding 0 makes 0 of -0.
    return ", ".join(f"{round(float(value), 4) + 0.0:.4g}" for value in values)


def _bytes_text(size_bytes: int) -> str:
    if size_bytes >= 100_000:
        return f"{size_bytes / 1e6:.1f} MB"
    return f"{size_bytes / 1e3:.1f} kB"
