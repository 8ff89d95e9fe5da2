"""What reconstruction in 3D takes and gives; the clients' `reconstruct_...` calls do it.

Camera frame: OpenCV's, x right, y down, z into the scene. Object frame: y up, z towards the camera
when the object is seen from its front, the object within the cube from -0.5 to 0.5. Points are
column vectors: p_camera = R(rotation) @ (scale * p_object) + translation. Lengths are metres where
`is_metric` says so.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .body_keypoints import BodyKeypoint
from .geometry import Box
from .images import ImageInput, ImageReference
from .masks import EncodedMask, Mask
from .prompts import BoxLike, PromptLike
from .results import ProcessingInfo, StoredFile

__all__ = [
    "Artifact",
    "ArtifactKind",
    "CameraIntrinsics",
    "Keypoint",
    "MapInput",
    "ObjectMask",
    "ReconstructBodiesCall",
    "ReconstructObjectsCall",
    "ReconstructedBodies",
    "ReconstructedBody",
    "ReconstructedObject",
    "ReconstructedObjects",
    "SceneAlignment",
]

ObjectMask: TypeAlias = NDArray[np.bool_] | EncodedMask | Mask
"""A mask of the image's size: a bitmap (height, width), bool; an encoded mask; or the mask of an
earlier answer that carries its encoding."""

MapInput: TypeAlias = (
    NDArray[np.floating] | str | os.PathLike[str] | bytes | bytearray | ImageReference | StoredFile
)
"""A point map or depth map: an array; the path or bytes of an NPY or NPZ file; an uploaded file, as
a `StoredFile` or by its name `files/...`; or a URI. Large ones are uploaded first by themselves."""


class ArtifactKind(enum.Enum):
    """A kind of file that a reconstruction makes."""

    UNSPECIFIED = "unspecified"
    SCENE_SPLATS = "scene_splats"
    """Gaussian splats of the scene, PLY."""
    SCENE_MESH = "scene_mesh"
    """Mesh of the scene, GLB."""
    OBJECT_SPLATS = "object_splats"
    """Gaussian splats of one object, PLY, in the object frame."""
    OBJECT_MESH = "object_mesh"
    """Mesh of one object or person, GLB."""
    METADATA = "metadata"
    """Poses and everything else about the result, JSON."""
    ARCHIVE = "archive"
    """All of them together, ZIP."""
    TURNTABLE = "turntable"
    """A picture of the scene from several sides, PNG."""


@dataclass(frozen=True, slots=True)
class CameraIntrinsics:
    """A pinhole camera without distortion, in pixels of the image frame."""

    focal_length_x_px: float
    focal_length_y_px: float
    principal_point_x_px: float
    principal_point_y_px: float


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a reconstruction made.

    Attributes:
        kind: What it is.
        file: The file, as the server holds it.
        index: Which object or person it shows, from 0; None for the scene.
    """

    kind: ArtifactKind
    file: StoredFile
    index: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ReconstructedObject:
    """One object.

    Attributes:
        index: Which object, from 0, in the order of the masks.
        scale: Scale from the object frame to the camera frame along each axis of the object,
            shape (3,), float64.
        rotation: Rotation from the object frame to the camera frame, a unit quaternion x, y, z, w,
            shape (4,), float64.
        translation: The object frame's origin in the camera frame, shape (3,), float64.
        box: Box of the object's mask; None where the server does not say.
    """

    index: int
    scale: NDArray[np.float64]
    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]
    box: Box | None

    @property
    def rotation_matrix(self) -> NDArray[np.float64]:
        """The rotation as a matrix for column vectors, shape (3, 3)."""
        x, y, z, w = self.rotation
        return np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
        )

    @property
    def transform(self) -> NDArray[np.float64]:
        """The whole way from the object frame to the camera frame, shape (4, 4)."""
        whole = np.eye(4)
        whole[:3, :3] = self.rotation_matrix * self.scale
        whole[:3, 3] = self.translation
        return whole


@dataclass(frozen=True, slots=True, eq=False)
class Keypoint:
    """A keypoint of a person.

    Attributes:
        keypoint: Which one; None for one that this client does not know (yet).
        image_position: Where it appears in the image frame, in pixels, shape (2,), float64.
        camera_position: Where it is in the camera frame, in metres, shape (3,), float64.
    """

    keypoint: BodyKeypoint | None
    image_position: NDArray[np.float64]
    camera_position: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class SceneAlignment:
    """How a body was aligned to the points of a scene.

    Attributes:
        scale_factor: Factor from the body's units to the scene's.
        translation: Translation in the camera frame, in the scene's units, after scaling, shape
            (3,), float64.
        focal_length_px: Focal length that the alignment used.
        target_point_count: Points of the scene that the body was aligned to.
        cropped_vertex_count: Vertices of the body that are inside the picture and took part.
    """

    scale_factor: float
    translation: NDArray[np.float64]
    focal_length_px: float
    target_point_count: int
    cropped_vertex_count: int


@dataclass(frozen=True, slots=True, eq=False)
class ReconstructedBody:
    """One person.

    Attributes:
        index: Which person, from 0, in the order of the boxes.
        box: Box of the person; None where the server does not say.
        focal_length_px: Focal length of the camera.
        camera_translation: Translation from the body's own frame to the camera frame, in metres,
            shape (3,), float64; already in the keypoints.
        keypoints: The 70 keypoints, in the order of `BodyKeypoint`.
        alignment: How the body was aligned to a scene; None where it was not.
    """

    index: int
    box: Box | None
    focal_length_px: float
    camera_translation: NDArray[np.float64]
    keypoints: tuple[Keypoint, ...] = field(repr=False)
    alignment: SceneAlignment | None = None

    def keypoint(self, name: BodyKeypoint) -> Keypoint:
        """Return a keypoint by its name.

        Raises:
            KeyError: The body has none of that name.
        """
        for keypoint in self.keypoints:
            if keypoint.keypoint is name:
                return keypoint
        raise KeyError(name)

    @property
    def image_positions(self) -> NDArray[np.float64]:
        """All keypoints in the image frame, in pixels, shape (70, 2)."""
        return np.array([one.image_position for one in self.keypoints]).reshape(-1, 2)

    @property
    def camera_positions(self) -> NDArray[np.float64]:
        """All keypoints in the camera frame, in metres, shape (70, 3)."""
        return np.array([one.camera_position for one in self.keypoints]).reshape(-1, 3)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReconstructedObjects:
    """What a reconstruction of objects made; `ObjectsResult` also saves it.

    Attributes:
        objects: The objects.
        artifacts: The files.
        camera_pose: Camera-to-world transform for column vectors, shape (4, 4), float64; the
            identity where the world is the camera frame.
        is_metric: Whether lengths are metres, because a point map or depth was given.
        intrinsics: The camera that was given or assumed; None where the server does not say.
        info: How the result came about.
        seed: The seed that was used.
    """

    objects: tuple[ReconstructedObject, ...]
    artifacts: tuple[Artifact, ...] = field(repr=False)
    camera_pose: NDArray[np.float64]
    is_metric: bool
    intrinsics: CameraIntrinsics | None
    info: ProcessingInfo = field(repr=False)
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReconstructedBodies:
    """What a reconstruction of bodies made; `BodiesResult` also saves it.

    Attributes:
        bodies: The people.
        artifacts: The files.
        is_metric: Whether the camera was given, so that lengths are metric as far as the body
            model's size is.
        info: How the result came about.
    """

    bodies: tuple[ReconstructedBody, ...]
    artifacts: tuple[Artifact, ...] = field(repr=False)
    is_metric: bool
    info: ProcessingInfo = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReconstructObjectsCall:
    """What `reconstruct_objects` takes; documented there."""

    image: ImageInput = field(repr=False)
    masks: Sequence[ObjectMask] = field(default=(), repr=False, kw_only=True)
    prompts: Sequence[PromptLike] = field(default=(), kw_only=True)
    seed: int = field(default=0, kw_only=True)
    point_map: MapInput | None = field(default=None, repr=False, kw_only=True)
    depth_map: MapInput | None = field(default=None, repr=False, kw_only=True)
    intrinsics: CameraIntrinsics | None = field(default=None, kw_only=True)
    depth_unit_m: float | None = field(default=None, kw_only=True)
    model: str = field(default="", kw_only=True)
    segmentation_model: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class ReconstructBodiesCall:
    """What `reconstruct_bodies` takes; documented there."""

    image: ImageInput = field(repr=False)
    boxes: Sequence[BoxLike] = field(default=(), kw_only=True)
    masks: Sequence[ObjectMask] = field(default=(), repr=False, kw_only=True)
    point_map: MapInput | None = field(default=None, repr=False, kw_only=True)
    intrinsics: CameraIntrinsics | None = field(default=None, kw_only=True)
    model: str = field(default="", kw_only=True)
