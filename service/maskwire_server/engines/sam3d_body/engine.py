"""The engine `sam3d-body`: one run of the estimator for all people of an image."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import Box
from maskwire_server.domain.reconstruction.engine import (
    BodyEngine,
    BodyModel,
    BodyScene,
    ReconstructionDescription,
    StageReport,
)
from maskwire_server.domain.reconstruction.geometry import Mesh
from maskwire_server.engines.sam3d_frames import body_intrinsics
from maskwire_server.engines.sam3d_upstream import Progress, release_memory, running

from .alignment import align_to_points
from .stages import DECODED, watched

NAME = "sam3d-body"
"""Its entry point and the name that requests use."""


class Sam3dBodyEngine(BodyEngine):
    """Runs `sam_3d_body.SAM3DBodyEstimator`."""

    def __init__(self, estimator: Any, description: ReconstructionDescription) -> None:
        """Take a loaded estimator; the engine owns it from now on."""
        self._estimator = estimator
        self._description = description

    @property
    def description(self) -> ReconstructionDescription:
        """What it is."""
        return self._description

    def reconstruct(self, scene: BodyScene, report: StageReport) -> tuple[BodyModel, ...]:
        """Reconstruct every person; without boxes and masks, those whom upstream's detector finds.

        Raises:
            MaskwireError: Also `UNSUPPORTED_BY_MODEL` where people are to be found without one.
        """
        progress = Progress(report)
        boxes = _boxes(scene)
        if boxes is None and self._estimator.detector is None:
            raise MaskwireError(
                ErrorCode.UNSUPPORTED_BY_MODEL,
                "sam3d-body has no detector of people here: give boxes or masks, or put the "
                "detector's weights beside the checkpoint",
                resource=NAME,
            )
        with running(NAME):
            progress("people" if boxes is None else "body", 0.0)
            with watched(self._estimator, progress):
                outputs = self._estimator.process_one_image(
                    scene.pixels,
                    bboxes=boxes,
                    # 0 and 1, as upstream's own segmentation of people hands them over.
                    masks=np.stack(scene.masks).astype(np.uint8) if scene.masks else None,
                    cam_int=None
                    if scene.intrinsics is None
                    else torch.from_numpy(body_intrinsics(scene.intrinsics)),
                )
            bodies = []
            for index, output in enumerate(outputs):
                progress("mesh", DECODED + (1 - DECODED) * index / len(outputs))
                bodies.append(self._body(scene, index, output))
            progress("mesh", 1.0)
        return tuple(bodies)

    def close(self) -> None:
        """Forget the networks and give their memory back."""
        self._estimator = None
        gc.collect()
        release_memory()

    def _body(self, scene: BodyScene, index: int, output: Mapping[str, Any]) -> BodyModel:
        faces = np.asarray(self._estimator.faces, np.int32)
        body = body_model(output, faces)
        if scene.points is None:
            return body
        mask = scene.masks[index] if scene.masks else None
        alignment = align_to_points(body.mesh, scene.points, body.focal_length_px, mask)
        return replace(body, alignment=alignment)


def body_model(output: Mapping[str, Any], faces: NDArray[np.int32]) -> BodyModel:
    """Return one person of what `process_one_image` returned, without alignment.

    Upstream's camera frame is OpenCV's, and so ours; its body frame differs by a translation.
    """
    translation = np.asarray(output["pred_cam_t"], np.float64)
    left, top, right, bottom = (float(edge) for edge in output["bbox"])
    vertices = np.asarray(output["pred_vertices"], np.float64) + translation
    return BodyModel(
        box=Box(left, top, right, bottom),
        focal_length_px=float(output["focal_length"]),
        camera_translation=translation,
        keypoints_image=np.asarray(output["pred_keypoints_2d"], np.float64),
        keypoints_camera=np.asarray(output["pred_keypoints_3d"], np.float64) + translation,
        mesh=Mesh(vertices.astype(np.float32), faces),
        alignment=None,
    )


def _boxes(scene: BodyScene) -> NDArray[np.float32] | None:
    """Return boxes as upstream takes them, shape (n, 4), those of the masks if there are no others,
    or None.
    """
    if scene.boxes:
        edges = [(box.x_min, box.y_min, box.x_max, box.y_max) for box in scene.boxes]
    elif scene.masks:
        edges = [_tight_box(mask) for mask in scene.masks]
    else:
        return None
    return np.array(edges, np.float32)


def _tight_box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    columns, rows = (np.flatnonzero(mask.any(axis=axis)) for axis in (0, 1))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
