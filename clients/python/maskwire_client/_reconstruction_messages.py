"""Messages of reconstruction: requests from what callers give, results as dataclasses; pure."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskwire.v1 import geometry_pb2, mask_pb2, reconstruction_pb2

from ._enums import from_wire
from ._maps import MapSource
from ._requests import box_message, image_source, mask_message, prompt_message
from ._responses import box_result, processing_info, stored_file
from .body_keypoints import BodyKeypoint
from .geometry import Box
from .images import EncodedImage, ImageReference
from .masks import Mask
from .reconstruction import (
    Artifact,
    ArtifactKind,
    CameraIntrinsics,
    Keypoint,
    ObjectMask,
    ReconstructBodiesCall,
    ReconstructedBody,
    ReconstructedObject,
    ReconstructObjectsCall,
    SceneAlignment,
)


def reconstruct_objects_request(
    call: ReconstructObjectsCall,
    image: EncodedImage | ImageReference,
    source: MapSource | None,
    request_id: str,
) -> reconstruction_pb2.ReconstructObjectsRequest:
    """Return the request.

    Args:
        call: What is asked for.
        image: Its image, loaded.
        source: Its point map or depth map, small or uploaded.
        request_id: Identifier of the request.

    Raises:
        TypeError: A mask or prompt is of a kind that is not taken.
        ValueError: Arguments do not go together, or a number or an array cannot be sent.
    """
    request = reconstruction_pb2.ReconstructObjectsRequest(
        request_id=request_id,
        image=image_source(image),
        masks=[_mask_message(mask) for mask in call.masks],
        prompts=[prompt_message(prompt) for prompt in call.prompts],
        seed=call.seed,
        model=call.model,
        segmentation_model=call.segmentation_model,
    )
    _check_geometry(call)
    if call.depth_map is not None and call.intrinsics is not None and source is not None:
        depth_map = reconstruction_pb2.DepthMap(
            **_map_fields(source),
            intrinsics=_intrinsics_message(call.intrinsics),
            depth_unit_m=call.depth_unit_m,
        )
        request.depth_map.CopyFrom(depth_map)
    elif source is not None:
        request.point_map.CopyFrom(reconstruction_pb2.PointMap(**_map_fields(source)))
    return request


def reconstruct_bodies_request(
    call: ReconstructBodiesCall,
    image: EncodedImage | ImageReference,
    source: MapSource | None,
    request_id: str,
) -> reconstruction_pb2.ReconstructBodiesRequest:
    """Return the request; arguments and errors as `reconstruct_objects_request`."""
    boxes = [box if isinstance(box, Box) else Box(*box) for box in call.boxes]
    request = reconstruction_pb2.ReconstructBodiesRequest(
        request_id=request_id,
        image=image_source(image),
        boxes=[box_message(box) for box in boxes],
        masks=[_mask_message(mask) for mask in call.masks],
        model=call.model,
    )
    if call.intrinsics is not None:
        request.intrinsics.CopyFrom(_intrinsics_message(call.intrinsics))
    if source is not None:
        request.point_map.CopyFrom(reconstruction_pb2.PointMap(**_map_fields(source)))
    return request


def objects_fields(result: reconstruction_pb2.ReconstructObjectsResult) -> dict[str, Any]:
    """Return the fields of `ReconstructedObjects`.

    Raises:
        ValueError: The camera pose is not 16 numbers.
    """
    pose = np.array(result.camera_pose or np.eye(4).ravel(), np.float64).reshape(4, 4)
    return {
        "objects": tuple(_object(message) for message in result.objects),
        "artifacts": tuple(_artifact(message) for message in result.artifacts),
        "camera_pose": pose,
        "is_metric": result.is_metric,
        "intrinsics": _intrinsics(result.intrinsics) if result.HasField("intrinsics") else None,
        "info": processing_info(result.info),
        "seed": result.seed,
    }


def bodies_fields(result: reconstruction_pb2.ReconstructBodiesResult) -> dict[str, Any]:
    """Return the fields of `ReconstructedBodies`."""
    return {
        "bodies": tuple(_body(message) for message in result.bodies),
        "artifacts": tuple(_artifact(message) for message in result.artifacts),
        "is_metric": result.is_metric,
        "info": processing_info(result.info),
    }


def _check_geometry(call: ReconstructObjectsCall) -> None:
    if call.point_map is not None and call.depth_map is not None:
        raise ValueError("point_map and depth_map must not be given together")
    if (call.depth_map is None) != (call.intrinsics is None):
        raise ValueError("depth_map and intrinsics belong together")
    if call.depth_map is None and call.depth_unit_m is not None:
        raise ValueError("depth_unit_m belongs to a depth_map")


def _mask_message(mask: ObjectMask) -> mask_pb2.EncodedMask:
    if isinstance(mask, Mask):
        if mask.encoded is None:
            raise ValueError("the mask carries no encoding, so it is no object's mask")
        return mask_message(mask.encoded)
    return mask_message(mask)


def _map_fields(source: MapSource) -> dict[str, Any]:
    return {"uri": source.uri} if source.uri else {"data": source.content}


def _intrinsics_message(camera: CameraIntrinsics) -> geometry_pb2.CameraIntrinsics:
    return geometry_pb2.CameraIntrinsics(
        focal_length_x_px=camera.focal_length_x_px,
        focal_length_y_px=camera.focal_length_y_px,
        principal_point_x_px=camera.principal_point_x_px,
        principal_point_y_px=camera.principal_point_y_px,
    )


def _intrinsics(message: geometry_pb2.CameraIntrinsics) -> CameraIntrinsics:
    return CameraIntrinsics(
        focal_length_x_px=message.focal_length_x_px,
        focal_length_y_px=message.focal_length_y_px,
        principal_point_x_px=message.principal_point_x_px,
        principal_point_y_px=message.principal_point_y_px,
    )


def _artifact(message: reconstruction_pb2.Artifact) -> Artifact:
    kind = from_wire(reconstruction_pb2.ArtifactKind.DESCRIPTOR, ArtifactKind, message.kind)
    return Artifact(
        kind=kind or ArtifactKind.UNSPECIFIED,
        file=stored_file(message.file),
        index=message.index if message.HasField("index") else None,
    )


def _object(message: reconstruction_pb2.ReconstructedObject) -> ReconstructedObject:
    turn = message.rotation
    return ReconstructedObject(
        index=message.index,
        scale=_vector(message.scale),
        rotation=np.array([turn.x, turn.y, turn.z, turn.w], np.float64),
        translation=_vector(message.translation),
        box=box_result(message.box) if message.HasField("box") else None,
    )


def _body(message: reconstruction_pb2.ReconstructedBody) -> ReconstructedBody:
    return ReconstructedBody(
        index=message.index,
        box=box_result(message.box) if message.HasField("box") else None,
        focal_length_px=message.focal_length_px,
        camera_translation=_vector(message.camera_translation),
        keypoints=tuple(_keypoint(keypoint) for keypoint in message.keypoints),
        alignment=_alignment(message.alignment) if message.HasField("alignment") else None,
    )


def _keypoint(message: reconstruction_pb2.Keypoint) -> Keypoint:
    names = reconstruction_pb2.BodyKeypoint.DESCRIPTOR
    point = message.image_position
    return Keypoint(
        keypoint=from_wire(names, BodyKeypoint, message.keypoint),
        image_position=np.array([point.x, point.y], np.float64),
        camera_position=_vector(message.camera_position),
    )


def _alignment(message: reconstruction_pb2.SceneAlignment) -> SceneAlignment:
    return SceneAlignment(
        scale_factor=message.scale_factor,
        translation=_vector(message.translation),
        focal_length_px=message.focal_length_px,
        target_point_count=message.target_point_count,
        cropped_vertex_count=message.cropped_vertex_count,
    )


def _vector(message: geometry_pb2.Vector3) -> NDArray[np.float64]:
    return np.array([message.x, message.y, message.z], np.float64)
