"""Builds what decodes untrusted files: in child processes, or in this one."""

from __future__ import annotations

import sys

import structlog

from ..decoders.child import ChildLimits
from ..decoders.pool import DecoderPool, PoolLimits
from ..domain.file_decoder import FileDecoders, InProcessDecoders
from ..domain.observer import Observer
from ..settings import Settings
from .limits import pixel_threads

_log = structlog.get_logger(__name__)


def build_decoders(settings: Settings, observer: Observer) -> FileDecoders:
    """Build the decoders that the settings choose; nothing is started yet."""
    chosen = settings.decoding
    if chosen.isolation == "none":
        return InProcessDecoders()
    if sys.platform != "linux":
        _log.warning("decoding in the server itself: child processes with limits need Linux")
        return InProcessDecoders()
    limits = PoolLimits(
        processes=chosen.processes or pixel_threads(settings),
        child=ChildLimits(chosen.memory_bytes, chosen.cpu_seconds),
        timeout_s=chosen.timeout_s,
        recycle_after=chosen.recycle_after,
        kept=chosen.kept_children,
        max_file_bytes=max(
            settings.limits.max_image_bytes, settings.reconstruction.max_geometry_bytes
        ),
        max_pixels=settings.limits.max_image_pixels,
        is_shared=chosen.share_children,
    )
    return DecoderPool(limits, observer)
