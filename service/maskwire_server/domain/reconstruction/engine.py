"""The interfaces of engines that reconstruct, what they are given and what they return.

Engines register through the entry-point group `maskwire.reconstruction_engines` as a
`ReconstructionFactory`. They run in a worker's child process, one call at a time.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..geometry import Box
from .geometry import Intrinsics, Mesh, Pose, Splats

StageReport = Callable[[str, float], None]
"""Tells the stage that runs and how much of the engine's work is done, 0 to 1; raises
`JobCancelled` where the work is to end, which engines let pass."""


@dataclass(frozen=True, slots=True)
class ReconstructionSpecification:
    """What to load, from the settings.

    Attributes:
        engine: Entry-point name of the engine.
        device: `cpu`, `cuda`, `cuda:1` or `auto`.
        mesh_resolution_px: Longest side of the grid that a mesh is solved on.
        texture_px: Longest side of a texture.
        max_splats: Most splats of one object.
        sam3d_objects_config: `pipeline.yaml` of SAM 3D Objects.
        sam3d_objects_sha256: Digest that its weights must have; None takes any.
        sam3d_body_checkpoint: Checkpoint of SAM 3D Body.
        sam3d_body_sha256: Digest that it must have; None takes any.
        sam3d_body_rig: Momentum Human Rig asset of SAM 3D Body.
    """

    engine: str
    device: str = "auto"
    mesh_resolution_px: int = 256
    texture_px: int = 1024
    max_splats: int = 60_000
    sam3d_objects_config: Path | None = None
    sam3d_objects_sha256: str | None = None
    sam3d_body_checkpoint: Path | None = None
    sam3d_body_sha256: str | None = None
    sam3d_body_rig: Path | None = None


@dataclass(frozen=True, slots=True)
class ReconstructionDescription:
    """What a loaded engine is.

    Attributes:
        name: The name that requests use; the engine's own.
        checkpoint_digest: `sha256:` and the digest of the weights; empty where there are none.
        device: Where it runs.
    """

    name: str
    checkpoint_digest: str
    device: str


@dataclass(frozen=True, slots=True)
class ObjectScene:
    """What to reconstruct objects from.

    Attributes:
        pixels: Shape (height, width, 3), uint8, RGB.
        masks: At least one; shape (height, width), bool, each with at least one pixel.
        points: Shape (height, width, 3), float32, metres in the camera frame, NaN where unknown;
            None where nothing is known. With points every mask has at least one finite one.
        intrinsics: The camera; None where it is not known.
        seed: Seed of everything random.
    """

    pixels: NDArray[np.uint8]
    masks: tuple[NDArray[np.bool_], ...]
    points: NDArray[np.float32] | None
    intrinsics: Intrinsics | None
    seed: int


@dataclass(frozen=True, slots=True)
class ObjectModel:
    """One reconstructed object, in its object frame, and where it stands."""

    mesh: Mesh
    splats: Splats
    pose: Pose


@dataclass(frozen=True, slots=True)
class ReconstructedScene:
    """All objects of a scene, in the order of the masks.

    Attributes:
        objects: The objects.
        intrinsics: The camera that was given or assumed.
        is_metric: Whether lengths are metres, because points were given.
        camera_pose: Shape (4, 4), float64: camera-to-world for column vectors.
    """

    objects: tuple[ObjectModel, ...]
    intrinsics: Intrinsics
    is_metric: bool
    camera_pose: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BodyScene:
    """What to reconstruct bodies from.

    Attributes:
        pixels: Shape (height, width, 3), uint8, RGB.
        boxes: One for each person; empty where the engine is to detect people.
        masks: One for each person, shape (height, width), bool; empty where there are none.
        points: As in `ObjectScene`: the scene to align to, or None.
        intrinsics: The camera; None for a focal length of the image's diagonal.
    """

    pixels: NDArray[np.uint8]
    boxes: tuple[Box, ...]
    masks: tuple[NDArray[np.bool_], ...]
    points: NDArray[np.float32] | None
    intrinsics: Intrinsics | None


@dataclass(frozen=True, slots=True)
class Alignment:
    """How a body was aligned to the points of a scene; the contract's `SceneAlignment`."""

    scale_factor: float
    translation: NDArray[np.float64]
    focal_length_px: float
    target_point_count: int
    cropped_vertex_count: int


@dataclass(frozen=True, slots=True)
class BodyModel:
    """One reconstructed person.

    Attributes:
        box: Box of the person.
        focal_length_px: Focal length.
        camera_translation: Shape (3,), float64, metres: from the body's frame to the camera frame.
        keypoints_image: Shape (70, 2), float64, in the image frame, in upstream's MHR70 order.
        keypoints_camera: Shape (70, 3), float64, metres in the camera frame.
        mesh: The body, vertices in metres in the camera frame.
        alignment: How it was aligned, when it was.
    """

    box: Box
    focal_length_px: float
    camera_translation: NDArray[np.float64]
    keypoints_image: NDArray[np.float64]
    keypoints_camera: NDArray[np.float64]
    mesh: Mesh
    alignment: Alignment | None


class ReconstructionEngine(abc.ABC):
    """A loaded engine of either kind."""

    @property
    @abc.abstractmethod
    def description(self) -> ReconstructionDescription:
        """What it is."""

    def close(self) -> None:
        """Free the device's memory; the engine is not used again."""
        return


class ObjectEngine(ReconstructionEngine):
    """Reconstructs objects. The same scene and seed give the same result."""

    @abc.abstractmethod
    def reconstruct(self, scene: ObjectScene, report: StageReport) -> ReconstructedScene:
        """Reconstruct every object of a scene; blocks.

        Args:
            scene: What to reconstruct, checked by the caller.
            report: Called at every stage boundary, and within stages at least every few seconds.

        Raises:
            MaskwireError: `MODEL_UNAVAILABLE` where the device fails; `INVALID_ARGUMENT` for what
                cannot be reconstructed.
        """


class BodyEngine(ReconstructionEngine):
    """Reconstructs human bodies."""

    @abc.abstractmethod
    def reconstruct(self, scene: BodyScene, report: StageReport) -> tuple[BodyModel, ...]:
        """Reconstruct every person, in the order of the boxes or masks; arguments and errors as
        `ObjectEngine.reconstruct`.
        """


class ReconstructionFactory(abc.ABC):
    """Makes loaded engines of one kind; what the entry point names is an instance or subclass."""

    @abc.abstractmethod
    def load(self, specification: ReconstructionSpecification) -> ReconstructionEngine:
        """Load the engine; blocks for up to minutes.

        Raises:
            MaskwireError: `MODEL_UNAVAILABLE` where a package, file or device is missing; the
                message says which and what would help.
        """
