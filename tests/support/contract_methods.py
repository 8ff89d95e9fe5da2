"""The services and methods of the contract, from their descriptors."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from maskwire.v1 import (
    file_pb2,
    job_service_pb2,
    model_pb2,
    realtime_pb2,
    reconstruction_pb2,
    segmentation_pb2,
    video_pb2,
)

_FILES = (
    file_pb2,
    job_service_pb2,
    model_pb2,
    realtime_pb2,
    reconstruction_pb2,
    segmentation_pb2,
    video_pb2,
)


def services() -> Iterator[ServiceDescriptor]:
    """Yield every service."""
    for file in _FILES:
        yield from file.DESCRIPTOR.services_by_name.values()


def methods() -> Iterator[MethodDescriptor]:
    """Yield every method."""
    for service in services():
        yield from service.methods


def path_of(method: MethodDescriptor) -> str:
    """Return the path by which a method is called."""
    return f"/{method.containing_service.full_name}/{method.name}"
