"""Builds the domain's services on the loaded models and the shared parts."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta

from ..domain.auto_segmentation.service import AutoSegmentationService
from ..domain.files.service import FileService
from ..domain.models import ModelRegistry
from ..domain.observer import Observer
from ..domain.segmentation_service import SegmentationService
from ..domain.sessions.service import SessionService
from ..domain.video.service import VideoService
from ..settings import Settings
from ..transport.queued_call_runner import SegmentationServices
from ..transport.services import DomainServices
from .jobs import build_jobs
from .limits import (
    auto_segment_limits,
    file_limits,
    session_limits,
    track_limits,
    video_limits,
)
from .quotas import tenant_quotas
from .shared import SharedParts, build_shared, start_file_sweeper


@dataclass(frozen=True, slots=True)
class Services:
    """All domain services.

    Attributes:
        domain: What answers calls.
        sessions: The live sessions, which must be told when the server drains.
    """

    domain: DomainServices
    sessions: SessionService


async def build_services(
    settings: Settings, models: ModelRegistry, observer: Observer, resources: AsyncExitStack
) -> Services:
    """Build everything that answers calls; what must be closed goes on `resources`."""
    shared = build_shared(settings, observer, resources)
    shared.decoders.prepare()
    start_file_sweeper(settings, shared, resources)
    segmenting = segmentation_services(settings, models, shared)
    sessions = SessionService(
        models, shared.images, shared.pixels, observer, session_limits(settings)
    )
    files = FileService(
        shared.stores.files,
        shared.stores.uploads,
        shared.file_executor,
        file_limits(settings),
        upload_idle=timedelta(seconds=settings.storage.upload_idle_s),
        quotas=tenant_quotas(settings),
    )
    domain = DomainServices(
        segmentation=segmenting.segmentation,
        models=models,
        auto_segmentation=segmenting.auto_segmentation,
        sessions=sessions,
        files=files,
        videos=segmenting.videos,
        jobs=await build_jobs(settings, segmenting, shared, resources),
    )
    return Services(domain, sessions)


def segmentation_services(
    settings: Settings, models: ModelRegistry, shared: SharedParts
) -> SegmentationServices:
    """Build what segments images and videos, in a server or a worker's child."""
    return SegmentationServices(
        models=models,
        segmentation=SegmentationService(
            models,
            shared.images,
            shared.pixels,
            shared.pictures,
            shared.observer,
            max_prompts=settings.limits.max_prompts,
            mask_budget_bytes=settings.limits.mask_bytes,
            max_refined_masks=settings.limits.max_refined_masks,
        ),
        auto_segmentation=AutoSegmentationService(
            models,
            shared.images,
            shared.pixels,
            shared.pictures,
            shared.observer,
            auto_segment_limits(settings),
        ),
        videos=VideoService(
            models,
            shared.pixels,
            shared.observer,
            video_limits(settings),
            track_limits(settings),
            max_streams=settings.video.max_streams,
            files=shared.stores.files,
            sources=shared.sources,
            decoders=shared.decoders,
        ),
    )
