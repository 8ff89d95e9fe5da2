"""Queued calls: which request each carries, and how jobs carry it.

A queued call is a `QueuedCall` without the fields that say how it was submitted, so that the same
request makes the same job by whichever method it comes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from maskwire.v1 import job_service_pb2, reconstruction_pb2

from ...domain.errors import invalid_field
from ...domain.jobs.calls import CallContent
from ...domain.jobs.service import Submission
from ...domain.queued_calls import QueuedRequest
from .auto_segmentation import auto_segment_request_from_proto
from .masks import mask_to_proto
from .reconstruction import bodies_request_from_proto, objects_request_from_proto
from .segmentation import segment_request_from_proto
from .video import track_video_request_from_proto

METHODS: Mapping[str, str] = {
    "segment_image": "maskwire.v1.SegmentationService/SegmentImage",
    "auto_segment": "maskwire.v1.SegmentationService/AutoSegment",
    "track_video": "maskwire.v1.VideoService/TrackVideo",
    "reconstruct_objects": "maskwire.v1.ReconstructionService/ReconstructObjects",
    "reconstruct_bodies": "maskwire.v1.ReconstructionService/ReconstructBodies",
}
"""The method of each kind of queued call."""

_READERS: Mapping[str, Callable[[Any], QueuedRequest]] = {
    "segment_image": segment_request_from_proto,
    "auto_segment": auto_segment_request_from_proto,
    "track_video": track_video_request_from_proto,
    "reconstruct_objects": objects_request_from_proto,
    "reconstruct_bodies": bodies_request_from_proto,
}
_SUBMISSION_FIELDS = ("request_id", "webhook")


@dataclass(frozen=True, slots=True)
class QueuedProto:
    """A queued call as protobuf carries it; the domain's `QueuedMessage`."""

    call: job_service_pb2.QueuedCall
    digest: str

    @property
    def method(self) -> str:
        """The call."""
        return METHODS[_kind(self.call)]

    def payload(self, content: CallContent) -> bytes:
        """Return the request for a worker, with content put into it."""
        call = job_service_pb2.QueuedCall()
        call.CopyFrom(self.call)
        request = getattr(call, _kind(call))
        request.model = content.model
        if content.image is not None:
            request.image.data = content.image
        if content.masks is not None:
            del request.masks[:]
            request.ClearField("prompts")
            request.masks.extend(mask_to_proto(mask) for mask in content.masks)
        if content.geometry is not None:
            _geometry_of(request).data = content.geometry
        return call.SerializeToString(deterministic=True)


def submission_from_proto(
    request: job_service_pb2.SubmitJobRequest,
) -> tuple[Submission, QueuedRequest]:
    """Read a call to be queued.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` naming the field and the rule.
    """
    inner = getattr(request.call, _kind(request.call))
    named = getattr(inner, "request_id", "")
    if named and named.lower() != request.request_id.lower():
        field = f"call.{_kind(request.call)}.request_id"
        raise invalid_field(field, "must be the request_id of the job")
    if "webhook" in inner.DESCRIPTOR.fields_by_name and inner.HasField("webhook"):
        raise invalid_field(f"call.{_kind(request.call)}.webhook", "must be absent; set webhook")
    return _submission(request.call, request.request_id, request)


def objects_submission_from_proto(
    request: reconstruction_pb2.ReconstructObjectsRequest,
) -> tuple[Submission, QueuedRequest]:
    """Read a reconstruction of objects as what is queued; errors as `submission_from_proto`."""
    call = job_service_pb2.QueuedCall(reconstruct_objects=request)
    return _submission(call, request.request_id, request)


def bodies_submission_from_proto(
    request: reconstruction_pb2.ReconstructBodiesRequest,
) -> tuple[Submission, QueuedRequest]:
    """Read a reconstruction of bodies as what is queued; errors as `submission_from_proto`."""
    call = job_service_pb2.QueuedCall(reconstruct_bodies=request)
    return _submission(call, request.request_id, request)


def queued_request_from_proto(call: job_service_pb2.QueuedCall) -> QueuedRequest:
    """Read the request of a queued call.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` naming the field and the rule.
    """
    kind = _kind(call)
    return _READERS[kind](getattr(call, kind))


def _geometry_of(
    request: reconstruction_pb2.ReconstructObjectsRequest
    | reconstruction_pb2.ReconstructBodiesRequest,
) -> reconstruction_pb2.PointMap | reconstruction_pb2.DepthMap:
    if isinstance(request, reconstruction_pb2.ReconstructObjectsRequest):
        return request.depth_map if request.HasField("depth_map") else request.point_map
    return request.point_map


def _submission(
    call: job_service_pb2.QueuedCall, request_id: str, source: Any
) -> tuple[Submission, QueuedRequest]:
    read = queued_request_from_proto(call)
    plain = job_service_pb2.QueuedCall()
    plain.CopyFrom(call)
    inner = getattr(plain, _kind(plain))
    for field in _SUBMISSION_FIELDS:
        if field in inner.DESCRIPTOR.fields_by_name:
            inner.ClearField(field)
    digest = hashlib.sha256(plain.SerializeToString(deterministic=True)).hexdigest()
    url = source.webhook.url if source.HasField("webhook") else None
    return Submission(request_id, QueuedProto(plain, f"sha256:{digest}"), url), read


def _kind(call: job_service_pb2.QueuedCall) -> str:
    kind = call.WhichOneof("request")
    if kind is None:
        raise invalid_field("call.request", "exactly one call is required")
    return kind
