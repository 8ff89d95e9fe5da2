"""What jobs of the asyncio client made; `_job_results` with `await`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from maskwire.v1 import job_service_pb2, reconstruction_pb2

from ._artifact_files import ArtifactFile, artifact_files
from ._job_results import segmentation_made, tracked_video_fields
from ._reconstruction_messages import bodies_fields, objects_fields
from .reconstruction import Artifact, ArtifactKind, ReconstructedBodies, ReconstructedObjects
from .results import SegmentationResult, StoredFile
from .videos import TrackedVideo, VideoFrame, VideoInfo


@dataclass(frozen=True, slots=True)
class AsyncFileAccess:
    """The calls of a client with which results fetch their files."""

    save: Callable[[ArtifactFile, float | None], Awaitable[None]]
    frames: Callable[[StoredFile, VideoInfo, float | None], AsyncIterator[VideoFrame]]


class _AsyncSaving:
    """Results that can save their artifacts."""

    __slots__ = ()
    artifacts: tuple[Artifact, ...]
    _files: AsyncFileAccess

    async def save(
        self,
        directory: str | os.PathLike[str],
        *,
        kinds: Collection[ArtifactKind] | None = None,
        timeout_s: float | None = None,
    ) -> list[Path]:
        """Download the files into a folder; as `ObjectsResult.save`."""
        files = await asyncio.to_thread(artifact_files, self.artifacts, directory, kinds)
        for file in files:
            await self._files.save(file, timeout_s)
        return [file.path for file in files]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AsyncObjectsResult(_AsyncSaving, ReconstructedObjects):
    """What a reconstruction of objects made, and the way to its files."""

    _files: AsyncFileAccess = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AsyncBodiesResult(_AsyncSaving, ReconstructedBodies):
    """What a reconstruction of bodies made, and the way to its files."""

    _files: AsyncFileAccess = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AsyncTrackedVideoResult(TrackedVideo):
    """What a queued `TrackVideo` made, and the way to its frames."""

    _files: AsyncFileAccess = field(repr=False)

    def frames(self, *, timeout_s: float | None = None) -> AsyncIterator[VideoFrame]:
        """Give the frames with their masks; as `TrackedVideoResult.frames`."""
        return self._files.frames(self.file, self.video, timeout_s)


AsyncJobResult: TypeAlias = (
    SegmentationResult | AsyncTrackedVideoResult | AsyncObjectsResult | AsyncBodiesResult
)
"""What a job made, by the call that was queued."""


def made_by(message: Any, files: AsyncFileAccess) -> AsyncJobResult:
    """Return what a job made; raises as `_job_results.made_by`."""
    match message:
        case reconstruction_pb2.ReconstructObjectsResult():
            return AsyncObjectsResult(**objects_fields(message), _files=files)
        case reconstruction_pb2.ReconstructBodiesResult():
            return AsyncBodiesResult(**bodies_fields(message), _files=files)
        case job_service_pb2.TrackVideoJobResult():
            return AsyncTrackedVideoResult(**tracked_video_fields(message), _files=files)
    return segmentation_made(message)
