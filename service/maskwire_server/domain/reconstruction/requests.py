"""Requests and results of reconstruction, independent of how they travel."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..files.store import StoredFile
from ..geometry import Box
from ..masks import EncodedMask
from ..prompts import Prompt
from ..segmentation import ImageInfo, ImageSource, Timings
from .engine import BodyModel
from .geometry import Intrinsics, Pose


@dataclass(frozen=True, slots=True)
class ArraySource:
    """Where the bytes of an array file are: in the request (`data`) or at a URI.

    Attributes:
        data: The bytes; None where there is a URI.
        uri: Name of a stored file; empty where there are bytes.
        field: Path of the source in the request.
    """

    data: bytes | None
    uri: str
    field: str


@dataclass(frozen=True, slots=True)
class PointMapSource:
    """A 3D point for each pixel, as an NPY or NPZ file."""

    source: ArraySource


@dataclass(frozen=True, slots=True)
class DepthMapSource:
    """A depth for each pixel, with the camera.

    Attributes:
        source: An NPY, NPZ or PNG file.
        intrinsics: The camera.
        unit_m: Metres of one step of a PNG's values.
    """

    source: ArraySource
    intrinsics: Intrinsics
    unit_m: float


GeometrySource = PointMapSource | DepthMapSource


@dataclass(frozen=True, slots=True)
class ObjectsRequest:
    """A request for 3D objects.

    Attributes:
        image: The image.
        masks: One for each object; with neither masks nor prompts the whole image is the object.
        prompts: What to segment first; not together with masks.
        seed: Seed of everything random.
        geometry: Where each pixel lies, where that is known.
        model: Name of the engine; None means the default.
        segmentation_model: Name of the model for prompts; None means the default.
    """

    image: ImageSource
    masks: tuple[EncodedMask, ...] = ()
    prompts: tuple[Prompt, ...] = ()
    seed: int = 0
    geometry: GeometrySource | None = None
    model: str | None = None
    segmentation_model: str | None = None


@dataclass(frozen=True, slots=True)
class BodiesRequest:
    """A request for 3D human bodies.

    Attributes:
        image: The image.
        boxes: One for each person; with neither boxes nor masks people are detected first.
        masks: One for each person; with boxes, as many as boxes.
        intrinsics: The camera; None where it is not known.
        point_map: A point map of the scene to align the bodies to.
        model: Name of the engine; None means the default.
    """

    image: ImageSource
    boxes: tuple[Box, ...] = ()
    masks: tuple[EncodedMask, ...] = ()
    intrinsics: Intrinsics | None = None
    point_map: PointMapSource | None = None
    model: str | None = None


class ArtifactKind(enum.Enum):
    """The kinds of file that a reconstruction makes; the members are the contract's."""

    SCENE_SPLATS = "scene_splats"
    SCENE_MESH = "scene_mesh"
    OBJECT_SPLATS = "object_splats"
    OBJECT_MESH = "object_mesh"
    METADATA = "metadata"
    ARCHIVE = "archive"
    TURNTABLE = "turntable"


@dataclass(frozen=True, slots=True)
class Artifact:
    """A stored file that a reconstruction made; `index` is the object or person that it shows."""

    kind: ArtifactKind
    file: StoredFile
    index: int | None = None


@dataclass(frozen=True, slots=True)
class PlacedObject:
    """Where an object stands, and the box of its mask."""

    pose: Pose
    box: Box


@dataclass(frozen=True, slots=True)
class ObjectsResult:
    """What a reconstruction of objects made (`Processed`).

    Attributes:
        objects: In the order of the masks.
        artifacts: The files.
        camera_pose: Shape (4, 4), float64: camera-to-world for column vectors.
        is_metric: Whether lengths are metres.
        intrinsics: The camera that was given or assumed.
        seed: The seed.
        image: The image.
        model: Name of the engine.
        checkpoint_digest: `sha256:` and the digest of its weights; empty where it has none.
        timings: Where the time went.
        embedding_cached: Always false.
    """

    objects: tuple[PlacedObject, ...]
    artifacts: tuple[Artifact, ...]
    camera_pose: NDArray[np.float64]
    is_metric: bool
    intrinsics: Intrinsics
    seed: int
    image: ImageInfo
    model: str
    checkpoint_digest: str
    timings: Timings
    embedding_cached: bool = False


@dataclass(frozen=True, slots=True)
class BodiesResult:
    """What a reconstruction of bodies made (`Processed`); fields as in `ObjectsResult`."""

    bodies: tuple[BodyModel, ...]
    artifacts: tuple[Artifact, ...]
    is_metric: bool
    image: ImageInfo
    model: str
    checkpoint_digest: str
    timings: Timings
    embedding_cached: bool = False
