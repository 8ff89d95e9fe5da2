"""Which servicer answers which service of the contract, and what it needs from the domain.

A service whose domain part is None is registered with its generated base servicer, whose methods
answer UNIMPLEMENTED.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor

from maskwire.v1 import (
    file_pb2,
    file_pb2_grpc,
    job_service_pb2,
    job_service_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    realtime_pb2,
    realtime_pb2_grpc,
    reconstruction_pb2,
    reconstruction_pb2_grpc,
    segmentation_pb2,
    segmentation_pb2_grpc,
    video_pb2,
    video_pb2_grpc,
)

from ..domain.auto_segmentation.service import AutoSegmentationService
from ..domain.files.service import FileService
from ..domain.jobs.service import JobService
from ..domain.models import ModelRegistry
from ..domain.queued_calls import CallAdmission
from ..domain.segmentation_service import SegmentationService
from ..domain.sessions.service import SessionService
from ..domain.video.service import VideoService
from .servicers.files import FileServicer
from .servicers.jobs import JobServicer
from .servicers.models import ModelServicer
from .servicers.realtime import RealtimeServicer
from .servicers.reconstruction import ReconstructionServicer
from .servicers.segmentation import SegmentationServicer
from .servicers.video import VideoServicer
from .validation import RequestValidator


@dataclass(frozen=True, slots=True)
class JobParts:
    """What answers `JobService` and `ReconstructionService`.

    Attributes:
        service: Submits jobs and answers about them.
        admission: Checks calls before they are queued.
    """

    service: JobService
    admission: CallAdmission


@dataclass(frozen=True, slots=True)
class DomainServices:
    """The domain objects that answer calls; the composition root makes them.

    Attributes:
        segmentation: Answers `SegmentationService`.
        models: Answers `ModelService`.
        auto_segmentation: Answers the methods of `SegmentationService` for everything in a picture.
        sessions: Answers `RealtimeService`.
        files: Answers `FileService`.
        videos: Answers `VideoService`.
        jobs: Answers `JobService` and `ReconstructionService`.
    """

    segmentation: SegmentationService
    models: ModelRegistry
    auto_segmentation: AutoSegmentationService
    sessions: SessionService | None = None
    files: FileService | None = None
    videos: VideoService | None = None
    jobs: JobParts | None = None


@dataclass(frozen=True, slots=True)
class Binding:
    """A service with what answers it.

    Attributes:
        descriptor: The service.
        add_to_server: The generated function that registers a servicer.
        servicer: The servicer.
        is_served: Whether any of its methods is implemented.
    """

    descriptor: ServiceDescriptor
    add_to_server: Callable[[Any, grpc.aio.Server], None]
    servicer: object
    is_served: bool


def bind(domain: DomainServices, validator: RequestValidator) -> tuple[Binding, ...]:
    """Return every service of the contract with its servicer.

    Args:
        domain: What answers the calls.
        validator: The contract's rules, for streams that answer a bad message in-band.
    """
    sessions, jobs = domain.sessions, domain.jobs
    return (
        _binding(
            segmentation_pb2.DESCRIPTOR,
            segmentation_pb2_grpc,
            SegmentationServicer(domain.segmentation, domain.auto_segmentation),
        ),
        _binding(model_pb2.DESCRIPTOR, model_pb2_grpc, ModelServicer(domain.models)),
        _binding(
            realtime_pb2.DESCRIPTOR,
            realtime_pb2_grpc,
            None if sessions is None else RealtimeServicer(sessions, validator),
        ),
        _binding(
            video_pb2.DESCRIPTOR,
            video_pb2_grpc,
            None if domain.videos is None else VideoServicer(domain.videos),
        ),
        _binding(
            file_pb2.DESCRIPTOR,
            file_pb2_grpc,
            None if domain.files is None else FileServicer(domain.files),
        ),
        _binding(
            job_service_pb2.DESCRIPTOR,
            job_service_pb2_grpc,
            None if jobs is None else JobServicer(jobs.service, jobs.admission),
        ),
        _binding(
            reconstruction_pb2.DESCRIPTOR,
            reconstruction_pb2_grpc,
            None if jobs is None else ReconstructionServicer(jobs.service, jobs.admission),
        ),
    )


def _binding(file: FileDescriptor, generated: Any, servicer: object | None) -> Binding:
    """Bind the one service of a file; `generated` is its `_pb2_grpc` module."""
    (descriptor,) = file.services_by_name.values()
    base = getattr(generated, f"{descriptor.name}Servicer")
    return Binding(
        descriptor=descriptor,
        add_to_server=getattr(generated, f"add_{descriptor.name}Servicer_to_server"),
        servicer=base() if servicer is None else servicer,
        is_served=servicer is not None,
    )
