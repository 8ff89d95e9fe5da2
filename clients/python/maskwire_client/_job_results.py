"""What jobs of the blocking client made; `_async_job_results` mirrors it with `await`.

The results are plain data but for the calls with which they fetch their files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from maskwire.v1 import job_service_pb2, reconstruction_pb2, segmentation_pb2

from ._artifact_files import ArtifactFile, artifact_files
from ._auto_messages import auto_segment_result
from ._reconstruction_messages import bodies_fields, objects_fields
from ._responses import segmentation_result, stored_file
from ._video_messages import video_info, video_summary
from .errors import InternalError
from .reconstruction import Artifact, ArtifactKind, ReconstructedBodies, ReconstructedObjects
from .results import SegmentationResult, StoredFile
from .videos import TrackedVideo, VideoFrame, VideoInfo


@dataclass(frozen=True, slots=True)
class FileAccess:
    """The calls of a client with which results fetch their files."""

    save: Callable[[ArtifactFile, float | None], None]
    frames: Callable[[StoredFile, VideoInfo, float | None], Iterator[VideoFrame]]


class _Saving:
    """Results that can save their artifacts."""

    __slots__ = ()
    artifacts: tuple[Artifact, ...]
    _files: FileAccess

    def save(
        self,
        directory: str | os.PathLike[str],
        *,
        kinds: Collection[ArtifactKind] | None = None,
        timeout_s: float | None = None,
    ) -> list[Path]:
        """Download the files into a folder and return their paths.

        A file that is there already with the right digest is not fetched again, and one whose
        download broke off, in this call or an earlier one, goes on from where it was.

        Args:
            directory: The folder; it is made where it is missing.
            kinds: Which kinds of files; None for all.
            timeout_s: Seconds that each file may take; None sets no limit.

        Raises:
            StoredFileNotFound: A file has expired.
            DataLoss: The bytes that came are not those of the file.
            MaskwireError: A download failed otherwise.
            OSError: A file cannot be written.
        """
        files = artifact_files(self.artifacts, directory, kinds)
        for file in files:
            self._files.save(file, timeout_s)
        return [file.path for file in files]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ObjectsResult(_Saving, ReconstructedObjects):
    """What a reconstruction of objects made, and the way to its files."""

    _files: FileAccess = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BodiesResult(_Saving, ReconstructedBodies):
    """What a reconstruction of bodies made, and the way to its files."""

    _files: FileAccess = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrackedVideoResult(TrackedVideo):
    """What a queued `TrackVideo` made, and the way to its frames."""

    _files: FileAccess = field(repr=False)

    def frames(self, *, timeout_s: float | None = None) -> Iterator[VideoFrame]:
        """Give the frames with their masks, in turn, while their file is downloaded.

        Args:
            timeout_s: Seconds that all of it may take; None sets no limit.

        Raises:
            DataLoss: The bytes that came are not those of the file.
            MaskwireError: The download failed otherwise.
        """
        return self._files.frames(self.file, self.video, timeout_s)


JobResult: TypeAlias = SegmentationResult | TrackedVideoResult | ObjectsResult | BodiesResult
"""What a job made, by the call that was queued."""


def made_by(message: Any, files: FileAccess) -> JobResult:
    """Return what a job made.

    Raises:
        InternalError: It is of a kind that this client does not know.
    """
    match message:
        case reconstruction_pb2.ReconstructObjectsResult():
            return ObjectsResult(**objects_fields(message), _files=files)
        case reconstruction_pb2.ReconstructBodiesResult():
            return BodiesResult(**bodies_fields(message), _files=files)
        case job_service_pb2.TrackVideoJobResult():
            return TrackedVideoResult(**tracked_video_fields(message), _files=files)
    return segmentation_made(message)


def tracked_video_fields(message: job_service_pb2.TrackVideoJobResult) -> dict[str, Any]:
    """Return the fields of `TrackedVideo`."""
    return {
        "video": video_info(message.video),
        "summary": video_summary(message.summary),
        "file": stored_file(message.frames),
    }


def segmentation_made(message: Any) -> SegmentationResult:
    """Return what a job made whose result has no files of its own; raises as `made_by`."""
    match message:
        case segmentation_pb2.SegmentImageResponse():
            return segmentation_result(message)
        case segmentation_pb2.AutoSegmentResponse():
            return auto_segment_result(message)
    raise InternalError("the job made something that this client does not know")
