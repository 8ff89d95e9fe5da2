"""What the settings say about limits, in the domain's own types."""

from __future__ import annotations

import os
from datetime import timedelta

from ..domain.auto_segmentation.requests import AutoSegmentLimits
from ..domain.fair_door import FairDoor
from ..domain.files.store import FileLimits
from ..domain.images import ImageLimits
from ..domain.models import ModelRegistry
from ..domain.observer import Observer
from ..domain.picture_delivery import PictureLimits
from ..domain.sessions.service import SessionLimits
from ..domain.sessions.session import QueueLimits, SessionTimes
from ..domain.video.reader import VideoLimits
from ..domain.video.run import TrackLimits
from ..settings import Settings


def file_limits(settings: Settings) -> FileLimits:
    """Return the limits on stored files that the settings say."""
    storage = settings.storage
    return FileLimits(
        max_file_bytes=storage.max_file_bytes,
        max_tenant_bytes=storage.max_tenant_bytes,
        time_to_live=timedelta(seconds=storage.time_to_live_s),
        upload_time_to_live=timedelta(seconds=storage.upload_time_to_live_s),
        max_uploads=storage.max_uploads,
    )


def auto_segment_limits(settings: Settings) -> AutoSegmentLimits:
    """Return the limits on automatic segmentation that the settings say."""
    return AutoSegmentLimits(
        max_points=settings.limits.max_grid_points,
        budget_bytes=settings.limits.auto_segment_bytes,
    )


def picture_limits(settings: Settings) -> PictureLimits:
    """Return the limits on the pictures of an answer that the settings say.

    A message must hold the masks too, so that pictures get three quarters of it.
    """
    most = settings.limits.max_picture_bytes
    return PictureLimits(
        inline_bytes=min(most, settings.grpc.max_message_bytes * 3 // 4), stored_bytes=most
    )


def image_limits(settings: Settings) -> ImageLimits:
    """Return the limits on images that the settings say."""
    return ImageLimits(
        max_bytes=settings.limits.max_image_bytes,
        max_pixels=settings.limits.max_image_pixels,
        max_side_px=settings.limits.max_image_side_px,
    )


def session_limits(settings: Settings) -> SessionLimits:
    """Return the limits on live sessions that the settings say."""
    chosen = settings.sessions
    return SessionLimits(
        max_sessions=chosen.max_sessions,
        max_sessions_per_tenant=chosen.max_sessions_per_tenant,
        max_objects=chosen.max_objects,
        max_held_frames=chosen.max_held_frames,
        max_prompts=settings.limits.max_prompts,
        max_seed_bytes=chosen.max_seed_bytes,
        times=SessionTimes(
            idle_timeout_s=chosen.idle_timeout_s,
            lease_s=chosen.lease_s,
            notice_s=chosen.lease_notice_s,
        ),
        queues=QueueLimits(
            max_requests=chosen.max_waiting_requests,
            max_frames=chosen.max_waiting_frames,
            max_responses=chosen.max_waiting_responses,
        ),
    )


def video_limits(settings: Settings) -> VideoLimits:
    """Return the limits on stored videos that the settings say."""
    chosen = settings.video
    return VideoLimits(
        max_bytes=chosen.max_video_bytes,
        max_pixels=chosen.max_frame_pixels,
        max_side_px=chosen.max_frame_side_px,
        max_frames=chosen.max_frames,
        max_duration_s=chosen.max_duration_s,
        reverse_buffer_bytes=chosen.reverse_buffer_bytes,
    )


def track_limits(settings: Settings) -> TrackLimits:
    """Return what one request to track through a video may use, as the settings say."""
    chosen = settings.video
    return TrackLimits(
        max_prompts=settings.limits.max_prompts,
        max_objects=chosen.max_objects,
        decode_ahead_frames=chosen.decode_ahead_frames,
        max_overlay_bytes=chosen.max_overlay_bytes,
        max_drawn_bytes=chosen.max_overlay_mask_bytes,
    )


def pixel_threads(settings: Settings) -> int:
    """Return how many threads decode and encode pictures."""
    return settings.limits.pixel_threads or os.cpu_count() or 1


def device_door(settings: Settings, models: ModelRegistry, observer: Observer) -> FairDoor:
    """Return the door that calls to devices pass: as many as run and wait, for all devices.

    More would only be refused later, when their pictures are decoded.
    """
    devices = {model.executor for model in models.list()}
    places = len(devices) * (1 + settings.limits.max_device_queue)
    return FairDoor("device_calls", places, observer)
