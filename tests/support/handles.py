"""Where requests take handles: every text of the contract, classified; requests with handles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import grpc
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from tests.support.contract_methods import methods, path_of
from tests.support.job_calls import disc, picture

HANDLES = {
    "image.digest": "image",
    "image.uri": "file",
    "video.uri": "file",
    "point_map.uri": "file",
    "depth_map.uri": "file",
    "FileService.name": "file",
    "upload_id": "upload",
    "JobService.name": "job",
    "request_id": "request",
    "FileService.page_token": "page of files",
    "JobService.page_token": "page of jobs",
    "resume_seed": "seed",
}
"""Ends of paths of fields that take what a tenant was given, and what that is."""

NO_HANDLES = (
    *("data", "chunk", "counts", "values", "text", "model", "segmentation_model"),
    *("content_type", "file_name", "description.digest", "webhook.url", "method"),
    "ModelService.name",
)
"""Ends of paths of fields that take content, choices or names that are everybody's."""


@dataclass(frozen=True)
class Slot:
    """One field of one method's request that takes a handle.

    Attributes:
        method: The method.
        path: Names of fields from the request to it.
        kind: What it takes.
    """

    method: MethodDescriptor
    path: tuple[str, ...]
    kind: str

    def __str__(self) -> str:
        return f"{self.method.name}.{'.'.join(self.path)}"


def text_fields(kind: Descriptor, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every field of text or bytes in a message and its parts."""
    for field in kind.fields:
        path = (*above, field.name)
        if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
            yield path
        elif field.message_type and not field.message_type.full_name.startswith("google."):
            yield from text_fields(field.message_type, path)


def kind_of(method: MethodDescriptor, path: tuple[str, ...]) -> str | None:
    """Return what a field takes, or None for what is no handle.

    Raises:
        LookupError: The field is in neither table: a new one must be put into one of them.
    """
    service = method.containing_service.name
    for end in (".".join(path), f"{service}.{'.'.join(path)}"):
        for handle, kind in HANDLES.items():
            if end == handle or end.endswith(f".{handle}"):
                return kind
        if any(end == other or end.endswith(f".{other}") for other in NO_HANDLES):
            return None
    raise LookupError(f"{method.full_name} {'.'.join(path)}: does it take a handle?")


def slots() -> list[Slot]:
    """Return every field of the contract's requests that takes a handle."""
    found = []
    for method in methods():
        for path in text_fields(method.input_type):
            kind = kind_of(method, path)
            if kind is not None:
                found.append(Slot(method, path, kind))
    return found


def request_with(slot: Slot, handle: str | bytes) -> Any:
    """Return a request that is good but for what its handle names."""
    request: Any = GetMessageClass(slot.method.input_type)()
    place: Any = request
    for name in slot.path[:-1]:
        place = getattr(place, name)
    if slot.path[-1] != "request_id":
        setattr(place, slot.path[-1], handle)
    for part in _parts(request):
        _complete(part)
    setattr(place, slot.path[-1], handle)
    if slot.path[0] == "call":
        # The request inside is the job's own.
        called = getattr(request.call, slot.path[1])
        if "request_id" in called.DESCRIPTOR.fields_by_name:
            called.request_id = request.request_id
    return request


def _parts(message: Message) -> Iterator[Message]:
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None and not field.is_repeated:
            yield from _parts(value)


def _complete(part: Any) -> None:
    """Fill in what a message needs beside a handle."""
    fields = part.DESCRIPTOR.fields_by_name
    name = part.DESCRIPTOR.name
    if "request_id" in fields:
        part.request_id = str(uuid4())
    if "image" in fields and not part.HasField("image"):
        part.image.data = picture()
    if name in ("SegmentImageRequest", "TrackVideoRequest"):
        prompt = part.prompts.add(object_id=1)
        prompt.point.point.x = prompt.point.point.y = 5
    if name.startswith("Reconstruct"):
        _add_mask(part)
    if name == "SubmitJobRequest" and not part.call.ListFields():
        part.call.segment_image.image.data = picture()
        _complete(part.call.segment_image)
    if name == "UploadDescription":
        part.content_type, part.size_bytes = "application/octet-stream", 3
    if "sequence" in fields:
        part.sequence = 1
    if name == "DepthMap":
        camera = part.intrinsics
        camera.focal_length_x_px = camera.focal_length_y_px = 50


def _add_mask(part: Any) -> None:
    from maskwire_server.domain.masks import MaskEncoding, encode_mask
    from maskwire_server.transport.converters.masks import mask_to_proto

    part.masks.append(mask_to_proto(encode_mask(disc(48, 32, 20), MaskEncoding.COCO_RLE)))


@dataclass(frozen=True)
class Answer:
    """What a caller is told.

    Attributes:
        code: The status.
        told: Message and details, as text, without the request's identifier.
        responses: What came before.
    """

    code: grpc.StatusCode
    told: str
    responses: tuple[Any, ...]

    def without(self, handle: str | bytes) -> str:
        """Return message and details with the handle taken out, which the caller knows."""
        known = handle if isinstance(handle, str) else repr(handle)
        return self.told.replace(known, "HANDLE")


def call(
    channel: grpc.Channel, key: str, slot: Slot, request: Message, timeout_s: float = 30.0
) -> Answer:
    """Call a method with a request, alone in its stream where it takes one."""
    method = slot.method
    streams = (
        ("unary", "stream")[method.client_streaming],
        ("unary", "stream")[method.server_streaming],
    )
    make = getattr(channel, f"{streams[0]}_{streams[1]}")
    stub = make(
        path_of(method),
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    given = iter(_opening(method, request)) if method.client_streaming else request
    metadata = (("authorization", f"Bearer {key}"),)
    received: list[Any] = []
    try:
        result = stub(given, metadata=metadata, timeout=timeout_s)
        received += result if method.server_streaming else [result]
    except grpc.RpcError as error:
        return Answer(error.code(), _told(error), tuple(received))
    if method.name == "RunSession":
        return _in_band(received)
    return Answer(grpc.StatusCode.OK, "", tuple(received))


def _in_band(responses: list[Any]) -> Answer:
    """Return what a session says of the one request that followed its configuration."""
    (failed,) = [one.error for one in responses if one.HasField("error")] or [None]
    results = tuple(one for one in responses if one.HasField("frame_result"))
    if failed is None:
        return Answer(grpc.StatusCode.OK, "", results)
    (code,) = [one for one in grpc.StatusCode if one.value[0] == failed.code]
    return Answer(code, "\n".join(_lines_of(failed)), results)


def _opening(method: MethodDescriptor, request: Any) -> Iterator[Message]:
    """Yield what a stream begins with: a session its configuration, whatever follows."""
    if method.name == "RunSession" and not request.HasField("config"):
        first: Any = GetMessageClass(method.input_type)()
        first.sequence, request.sequence = 1, 2
        first.config.SetInParent()
        yield first
    yield request


def _told(error: Any) -> str:
    """Return the message and the details, without those that name this one call."""
    lines = [error.details() or ""]
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            lines += _lines_of(status_pb2.Status.FromString(value))
        elif key != "x-request-id":
            lines.append(f"{key}={value!r}")
    return "\n".join(lines)


def _lines_of(status: status_pb2.Status) -> list[str]:
    return [status.message, *(str(one) for one in status.details if not _names_the_call(one))]


def _names_the_call(detail: Any) -> bool:
    return bool(detail.Is(error_details_pb2.RequestInfo.DESCRIPTOR))
