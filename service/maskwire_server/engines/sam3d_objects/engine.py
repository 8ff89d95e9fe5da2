"""The engine `sam3d-objects`: one point map for an image, one run of the pipeline for each mask."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from maskwire_server.domain.errors import invalid_field
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.reconstruction.camera import fit_intrinsics
from maskwire_server.domain.reconstruction.engine import (
    ObjectEngine,
    ObjectModel,
    ObjectScene,
    ReconstructedScene,
    ReconstructionDescription,
    StageReport,
)
from maskwire_server.domain.reconstruction.geometry import Intrinsics
from maskwire_server.engines.sam3d_frames import (
    depth_unit,
    layout_intrinsics,
    object_mesh,
    object_pose,
    object_splats,
    scaled_pose,
    turn_camera_frame,
)
from maskwire_server.engines.sam3d_upstream import Progress, release_memory, running

from .stages import POINT_MAP, POINT_MAP_SHARE, knowing_camera, unclipped, watched

NAME = "sam3d-objects"
"""Its entry point and the name that requests use."""


class Sam3dObjectsEngine(ObjectEngine):
    """Runs `sam3d_objects.pipeline.inference_pipeline_pointmap.InferencePipelinePointMap`."""

    def __init__(self, pipeline: Any, description: ReconstructionDescription) -> None:
        """Take a loaded pipeline; the engine owns it from now on."""
        self._pipeline = pipeline
        self._description = description

    @property
    def description(self) -> ReconstructionDescription:
        """What it is."""
        return self._description

    def reconstruct(self, scene: ObjectScene, report: StageReport) -> ReconstructedScene:
        """Reconstruct every object; the same seed is used for each mask."""
        progress = Progress(report)
        height, width = scene.pixels.shape[:2]
        with running(NAME):
            progress(POINT_MAP, 0.0)
            points = self._points(scene)
            ours = turn_camera_frame(_array(points))
            intrinsics = scene.intrinsics or fit_intrinsics(_known(ours))
            progress(POINT_MAP, POINT_MAP_SHARE)
            camera = layout_intrinsics(intrinsics, ImageSize(width, height))
            unit = 1.0 if scene.points is not None else depth_unit(ours)
            objects = []
            for index in range(len(scene.masks)):
                with knowing_camera(
                    self._pipeline, torch.from_numpy(camera).to(self._pipeline.device)
                ):
                    output = self._run(scene, index, points, progress)
                objects.append(_model(output, unit, f"masks[{index}]"))
            progress("layout", 1.0)
        return _scene(objects, intrinsics, is_metric=scene.points is not None)

    def close(self) -> None:
        """Forget the networks and give their memory back."""
        self._pipeline = None
        gc.collect()
        release_memory()

    def _points(self, scene: ObjectScene) -> torch.Tensor:
        """Return the point map, (height, width, 3) in PyTorch3D's camera frame, on the device."""
        pipeline = self._pipeline
        if scene.points is not None:
            given = turn_camera_frame(scene.points.astype(np.float32))
            return torch.from_numpy(given).to(pipeline.device)
        everywhere = np.ones(scene.pixels.shape[:2], np.bool_)
        # As in `run`, whose tensors without a device of their own are made on the pipeline's.
        with pipeline.device, unclipped(pipeline):
            computed = pipeline.compute_pointmap(_with_mask(scene.pixels, everywhere))
        points: torch.Tensor = computed["pointmap"].permute(1, 2, 0)
        return points

    def _run(
        self, scene: ObjectScene, index: int, points: torch.Tensor, progress: Progress
    ) -> dict[str, Any]:
        pipeline = self._pipeline
        image = _with_mask(scene.pixels, scene.masks[index])
        with watched(pipeline, progress, index, len(scene.masks)):
            # Apart from the formats, what upstream's `Inference` asks for.
            output: dict[str, Any] = pipeline.run(
                image,
                None,
                scene.seed,
                stage1_only=False,
                with_mesh_postprocess=False,
                with_texture_baking=False,
                with_layout_postprocess=True,
                use_vertex_color=True,
                stage1_inference_steps=None,
                pointmap=points,
                decode_formats=["gaussian", "mesh"],
            )
        progress.raise_interruption()
        return output


def _with_mask(pixels: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return RGBA with the mask as opacity, which is how the pipeline takes it."""
    return np.dstack([pixels, mask.astype(np.uint8) * 255])


def _model(output: dict[str, Any], unit: float, field: str) -> ObjectModel:
    pose = object_pose(
        _array(output["rotation"])[0], _array(output["translation"])[0], _array(output["scale"])[0]
    )
    gaussian = output["gs"]
    splats = object_splats(
        _array(gaussian.get_xyz),
        _array(gaussian.get_scaling),
        _array(gaussian.get_rotation),
        _array(gaussian.get_opacity),
        _array(gaussian.get_features),
    )
    mesh = object_mesh(output["glb"])
    parts = (pose.scale, pose.translation, splats.positions, splats.scales, mesh.vertices)
    if not all(np.isfinite(part).all() for part in parts) or len(mesh.faces) == 0:
        raise invalid_field(field, "the model finds no finite shape and place for it")
    return ObjectModel(mesh, splats, scaled_pose(pose, unit))


def _scene(
    objects: list[ObjectModel], intrinsics: Intrinsics, *, is_metric: bool
) -> ReconstructedScene:
    return ReconstructedScene(tuple(objects), intrinsics, is_metric, np.eye(4))


def _array(tensor: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().float().cpu().numpy()
    return array


def _known(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a point map with NaN where upstream has infinities for the sky."""
    return np.where(np.isfinite(points), points, np.float32(np.nan))
