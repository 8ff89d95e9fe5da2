"""Everything about a result as JSON, for who has the files and not the answer of the service."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...geometry import Box
from ...segmentation import ImageInfo
from ..engine import Alignment, BodyModel, ReconstructedScene
from ..geometry import Intrinsics, Quaternion
from ..requests import ArtifactKind
from .scene import body_name, object_name

_FORMAT = "maskwire.reconstruction/1"

_FRAMES = {
    "image": "pixels, origin at the outer top left corner, x right, y down, pixel centres at +0.5",
    "camera": "right-handed, x right, y down, z into the scene (OpenCV); origin in the camera",
}
_OBJECT_FRAMES = _FRAMES | {
    "object": (
        "right-handed, x right, y up, z towards the camera for an object seen from its front; "
        "the object lies within the cube from -0.5 to 0.5"
    ),
    "pose": "p_camera = R(rotation) (scale * p_object) + translation, for column vectors",
    "camera_pose": "camera-to-world, 4 rows, for column vectors",
    "scene.ply": "camera frame",
    "scene.glb": "camera frame turned by half a turn about x: x right, y up, z to the camera",
    "object_*.ply": "object frame",
    "object_*.glb": "object frame",
}
_BODY_FRAMES = _FRAMES | {
    "camera_translation": "already in keypoints and meshes",
    "scene.glb": "camera frame turned by half a turn about x: x right, y up, z to the camera",
    "person_*.glb": "as scene.glb",
}
_METRES = "metres"
_DEPTHS = "units in which the scene's depth is about 1"


@dataclass(frozen=True, slots=True)
class ResultDetails:
    """What a result's metadata says besides what the engine returned.

    Attributes:
        model: Name of the engine.
        checkpoint_digest: `sha256:` and the digest of its weights; empty where it has none.
        seed: The seed; nothing for people, whose engines draw nothing at random.
        image: The image.
        boxes: Box of each object's mask or of each person.
        is_metric: For people, whether the camera was given; of objects the scene says it.
    """

    model: str
    checkpoint_digest: str
    seed: int
    image: ImageInfo
    boxes: tuple[Box, ...]
    is_metric: bool = False


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file as the metadata lists it; `sha256` is hexadecimal."""

    file_name: str
    kind: ArtifactKind
    index: int | None
    content_type: str
    size_bytes: int
    sha256: str


def object_metadata(
    scene: ReconstructedScene, details: ResultDetails, files: Iterable[FileEntry]
) -> bytes:
    """Return the metadata of reconstructed objects as JSON in UTF-8.

    Raises:
        ValueError: A number is not finite, or boxes are not as many as objects.
    """
    objects = [
        {
            "index": index,
            "name": object_name(index),
            "scale": _numbers(one.pose.scale),
            "rotation": _quaternion(one.pose.rotation),
            "translation": _numbers(one.pose.translation),
            "box": _box(box),
            "vertex_count": len(one.mesh.vertices),
            "triangle_count": len(one.mesh.faces),
            "splat_count": len(one.splats.positions),
        }
        for index, (one, box) in enumerate(zip(scene.objects, details.boxes, strict=True))
    ]
    return _encoded(
        _head("objects", details, files, _OBJECT_FRAMES)
        | {
            "seed": details.seed,
            "objects": objects,
            "camera_pose": [_numbers(row) for row in scene.camera_pose],
            "intrinsics": _intrinsics(scene.intrinsics),
            "is_metric": scene.is_metric,
            "unit": _METRES if scene.is_metric else _DEPTHS,
        }
    )


def body_metadata(
    bodies: Sequence[BodyModel], details: ResultDetails, files: Iterable[FileEntry]
) -> bytes:
    """Return the metadata of reconstructed people as JSON in UTF-8; errors as above.

    Keypoints are in the order of the contract's `BodyKeypoint`.
    """
    people = [
        {
            "index": index,
            "name": body_name(index),
            "box": _box(body.box),
            "focal_length_px": body.focal_length_px,
            "camera_translation": _numbers(body.camera_translation),
            "keypoints_image": [_numbers(row) for row in body.keypoints_image],
            "keypoints_camera": [_numbers(row) for row in body.keypoints_camera],
            "alignment": None if body.alignment is None else _alignment(body.alignment),
        }
        for index, body in enumerate(bodies)
    ]
    return _encoded(
        _head("bodies", details, files, _BODY_FRAMES)
        | {"bodies": people, "is_metric": details.is_metric, "unit": _METRES}
    )


def _head(
    kind: str, details: ResultDetails, files: Iterable[FileEntry], frames: dict[str, str]
) -> dict[str, object]:
    image = details.image
    return {
        "format": _FORMAT,
        "result": kind,
        "model": {"name": details.model, "checkpoint_digest": details.checkpoint_digest},
        "image": {
            "digest": image.digest,
            "width_px": image.size.width_px,
            "height_px": image.size.height_px,
        },
        "frames": frames,
        "files": [_file(entry) for entry in files],
    }


def _file(entry: FileEntry) -> dict[str, object]:
    index = {} if entry.index is None else {"index": entry.index}
    return {
        "file_name": entry.file_name,
        "kind": entry.kind.value,
        **index,
        "content_type": entry.content_type,
        "size_bytes": entry.size_bytes,
        "sha256": entry.sha256,
    }


def _quaternion(rotation: Quaternion) -> dict[str, float]:
    return {"x": rotation.x, "y": rotation.y, "z": rotation.z, "w": rotation.w}


def _box(box: Box) -> dict[str, float]:
    return {"x_min": box.x_min, "y_min": box.y_min, "x_max": box.x_max, "y_max": box.y_max}


def _intrinsics(camera: Intrinsics) -> dict[str, float]:
    return {
        "focal_length_x_px": camera.focal_length_x_px,
        "focal_length_y_px": camera.focal_length_y_px,
        "principal_point_x_px": camera.principal_point_x_px,
        "principal_point_y_px": camera.principal_point_y_px,
    }


def _alignment(alignment: Alignment) -> dict[str, object]:
    return {
        "scale_factor": alignment.scale_factor,
        "translation": _numbers(alignment.translation),
        "focal_length_px": alignment.focal_length_px,
        "target_point_count": alignment.target_point_count,
        "cropped_vertex_count": alignment.cropped_vertex_count,
    }


def _numbers(array: NDArray[np.float64]) -> list[float]:
    return [float(one) for one in array]


def _encoded(document: dict[str, object]) -> bytes:
    return (json.dumps(document, indent=2, allow_nan=False) + "\n").encode()
