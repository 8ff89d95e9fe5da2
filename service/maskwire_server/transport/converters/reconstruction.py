"""Requests and results of `ReconstructionService`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from maskwire.v1 import geometry_pb2, reconstruction_pb2

from ...domain.errors import invalid_field
from ...domain.reconstruction.engine import Alignment, BodyModel
from ...domain.reconstruction.geometry import Intrinsics
from ...domain.reconstruction.requests import (
    ArraySource,
    Artifact,
    ArtifactKind,
    BodiesRequest,
    BodiesResult,
    DepthMapSource,
    GeometrySource,
    ObjectsRequest,
    ObjectsResult,
    PlacedObject,
    PointMapSource,
)
from .files import stored_file_to_proto
from .geometry import box_from_proto, box_to_proto
from .images import image_source_from_proto
from .masks import mask_from_proto
from .processing import processing_info_to_proto
from .prompts import prompts_from_proto

_DEFAULT_DEPTH_UNIT_M = 0.001

_ARTIFACT_KINDS: Mapping[ArtifactKind, reconstruction_pb2.ArtifactKind.ValueType] = {
    ArtifactKind.SCENE_SPLATS: reconstruction_pb2.ARTIFACT_KIND_SCENE_SPLATS,
    ArtifactKind.SCENE_MESH: reconstruction_pb2.ARTIFACT_KIND_SCENE_MESH,
    ArtifactKind.OBJECT_SPLATS: reconstruction_pb2.ARTIFACT_KIND_OBJECT_SPLATS,
    ArtifactKind.OBJECT_MESH: reconstruction_pb2.ARTIFACT_KIND_OBJECT_MESH,
    ArtifactKind.METADATA: reconstruction_pb2.ARTIFACT_KIND_METADATA,
    ArtifactKind.ARCHIVE: reconstruction_pb2.ARTIFACT_KIND_ARCHIVE,
    ArtifactKind.TURNTABLE: reconstruction_pb2.ARTIFACT_KIND_TURNTABLE,
}


def objects_request_from_proto(
    message: reconstruction_pb2.ReconstructObjectsRequest,
) -> ObjectsRequest:
    """Read a request for 3D objects.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` naming the field.
    """
    return ObjectsRequest(
        image=image_source_from_proto(message.image, "image"),
        masks=tuple(
            mask_from_proto(mask, f"masks[{index}]") for index, mask in enumerate(message.masks)
        ),
        prompts=prompts_from_proto(message.prompts, "prompts"),
        seed=message.seed,
        geometry=_geometry_from_proto(message),
        model=message.model or None,
        segmentation_model=message.segmentation_model or None,
    )


def bodies_request_from_proto(
    message: reconstruction_pb2.ReconstructBodiesRequest,
) -> BodiesRequest:
    """Read a request for 3D bodies; errors as `objects_request_from_proto`."""
    given = message.HasField
    return BodiesRequest(
        image=image_source_from_proto(message.image, "image"),
        boxes=tuple(box_from_proto(box) for box in message.boxes),
        masks=tuple(
            mask_from_proto(mask, f"masks[{index}]") for index, mask in enumerate(message.masks)
        ),
        intrinsics=intrinsics_from_proto(message.intrinsics) if given("intrinsics") else None,
        point_map=_point_map(message.point_map) if given("point_map") else None,
        model=message.model or None,
    )


def objects_result_to_proto(
    result: ObjectsResult, request_id: str
) -> reconstruction_pb2.ReconstructObjectsResult:
    """Write what a reconstruction of objects made."""
    return reconstruction_pb2.ReconstructObjectsResult(
        objects=[_object_to_proto(index, one) for index, one in enumerate(result.objects)],
        artifacts=_artifacts_to_proto(result.artifacts),
        camera_pose=result.camera_pose.reshape(-1).tolist(),
        is_metric=result.is_metric,
        intrinsics=intrinsics_to_proto(result.intrinsics),
        info=processing_info_to_proto(result, request_id),
        seed=result.seed,
    )


def bodies_result_to_proto(
    result: BodiesResult, request_id: str
) -> reconstruction_pb2.ReconstructBodiesResult:
    """Write what a reconstruction of bodies made."""
    return reconstruction_pb2.ReconstructBodiesResult(
        bodies=[_body_to_proto(index, body) for index, body in enumerate(result.bodies)],
        artifacts=_artifacts_to_proto(result.artifacts),
        is_metric=result.is_metric,
        info=processing_info_to_proto(result, request_id),
    )


def intrinsics_from_proto(message: geometry_pb2.CameraIntrinsics) -> Intrinsics:
    """Read a pinhole camera."""
    return Intrinsics(
        message.focal_length_x_px,
        message.focal_length_y_px,
        message.principal_point_x_px,
        message.principal_point_y_px,
    )


def intrinsics_to_proto(intrinsics: Intrinsics) -> geometry_pb2.CameraIntrinsics:
    """Write a pinhole camera."""
    return geometry_pb2.CameraIntrinsics(
        focal_length_x_px=intrinsics.focal_length_x_px,
        focal_length_y_px=intrinsics.focal_length_y_px,
        principal_point_x_px=intrinsics.principal_point_x_px,
        principal_point_y_px=intrinsics.principal_point_y_px,
    )


def _geometry_from_proto(
    message: reconstruction_pb2.ReconstructObjectsRequest,
) -> GeometrySource | None:
    match message.WhichOneof("geometry"):
        case "point_map":
            return _point_map(message.point_map)
        case "depth_map":
            depth = message.depth_map
            unit = depth.depth_unit_m if depth.HasField("depth_unit_m") else _DEFAULT_DEPTH_UNIT_M
            source = _array_source(depth, "depth_map")
            return DepthMapSource(source, intrinsics_from_proto(depth.intrinsics), unit)
        case _:
            return None


def _point_map(message: reconstruction_pb2.PointMap) -> PointMapSource:
    return PointMapSource(_array_source(message, "point_map"))


def _array_source(
    message: reconstruction_pb2.PointMap | reconstruction_pb2.DepthMap, field: str
) -> ArraySource:
    match message.WhichOneof("source"):
        case "data":
            return ArraySource(message.data, "", f"{field}.data")
        case "uri":
            return ArraySource(None, message.uri, f"{field}.uri")
        case _:
            raise invalid_field(f"{field}.source", "exactly one source is required")


def _artifacts_to_proto(artifacts: Sequence[Artifact]) -> list[reconstruction_pb2.Artifact]:
    return [
        reconstruction_pb2.Artifact(
            kind=_ARTIFACT_KINDS[artifact.kind],
            file=stored_file_to_proto(artifact.file),
            index=artifact.index,
        )
        for artifact in artifacts
    ]


def _object_to_proto(index: int, placed: PlacedObject) -> reconstruction_pb2.ReconstructedObject:
    rotation = placed.pose.rotation
    return reconstruction_pb2.ReconstructedObject(
        index=index,
        scale=_vector(placed.pose.scale),
        rotation=geometry_pb2.Quaternion(x=rotation.x, y=rotation.y, z=rotation.z, w=rotation.w),
        translation=_vector(placed.pose.translation),
        box=box_to_proto(placed.box),
    )


def _body_to_proto(index: int, body: BodyModel) -> reconstruction_pb2.ReconstructedBody:
    keypoints = [
        reconstruction_pb2.Keypoint(
            keypoint=reconstruction_pb2.BodyKeypoint.ValueType(number + 1),
            image_position=geometry_pb2.Point(x=float(image[0]), y=float(image[1])),
            camera_position=_vector(camera),
        )
        for number, (image, camera) in enumerate(
            zip(body.keypoints_image, body.keypoints_camera, strict=True)
        )
    ]
    return reconstruction_pb2.ReconstructedBody(
        index=index,
        box=box_to_proto(body.box),
        focal_length_px=body.focal_length_px,
        camera_translation=_vector(body.camera_translation),
        keypoints=keypoints,
        alignment=None if body.alignment is None else _alignment_to_proto(body.alignment),
    )


def _alignment_to_proto(alignment: Alignment) -> reconstruction_pb2.SceneAlignment:
    return reconstruction_pb2.SceneAlignment(
        scale_factor=alignment.scale_factor,
        translation=_vector(alignment.translation),
        focal_length_px=alignment.focal_length_px,
        target_point_count=alignment.target_point_count,
        cropped_vertex_count=alignment.cropped_vertex_count,
    )


def _vector(values: NDArray[np.float64]) -> geometry_pb2.Vector3:
    x, y, z = (float(value) for value in values)
    return geometry_pb2.Vector3(x=x, y=y, z=z)
